"""What stands in samples/programs runs: services, an agent, a notebook, a pipeline, and what cron and systemd are told."""

from __future__ import annotations

import configparser
import contextlib
import gzip
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_api import FakeApi
from program import SECONDS, Powermem

PROGRAMS = Path(__file__).parents[1] / "samples" / "programs"


@pytest.fixture
def powermem(tmp_path):
    """With `powermem` on the path, and the samples as the folder's own."""
    powermem = Powermem(tmp_path)
    powermem.put_on_path()
    return powermem


# ── services ──


@contextlib.contextmanager
def served(powermem: Powermem, *command: str) -> Iterator[str]:
    """The address of a service that is started, answers, and ends cleanly when it is told to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [part.replace("PORT", str(port)) for part in command]
    with subprocess.Popen(
        [sys.executable, *line], cwd=PROGRAMS, env=powermem.environ, stderr=subprocess.PIPE
    ) as process:
        try:
            until_it_listens(port, process)
            yield f"http://127.0.0.1:{port}"
            process.terminate()
            _, said = process.communicate(timeout=SECONDS)
            assert b"Traceback" not in said
        finally:
            process.kill()


def until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise AssertionError(process.stderr.read().decode())


def asked(method: str, url: str, body: object = None) -> tuple[int, object]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null") if error.code == 400 else None


SERVICES = {
    "fastapi": ("-m", "uvicorn", "fastapi_service:app", "--port", "PORT", "--log-level", "warning"),
    "aiohttp": (
        "-c",
        "from aiohttp_service import *; web.run_app(make_app(), host='127.0.0.1', port=PORT, print=None)",
    ),
}


@pytest.mark.parametrize("kind", SERVICES)
def test_a_service_remembers_finds_and_forgets(powermem, kind):
    with served(powermem, *SERVICES[kind]) as address:
        anna, ben = f"{address}/users/anna/memories", f"{address}/users/ben/memories"
        status, added = asked("POST", anna, {"text": "Anna likes green tea"})
        assert (status, [row["memory"] for row in added["results"]]) == (201, ["Anna likes green tea"])
        id = added["results"][0]["id"]
        question = "?question=what%20does%20she%20drink"
        assert [row["id"] for row in asked("GET", anna + question)[1]["results"]] == [id]
        assert asked("GET", ben + question) == (200, {"results": []})
        assert asked("DELETE", f"{ben}/{id}")[0] == 404
        assert asked("POST", anna, {"text": ""})[1]["code"] == "input.empty"
        assert asked("DELETE", f"{anna}/{id}")[0] == 204
        assert asked("GET", anna + question) == (200, {"results": []})


# ── an agent ──


def test_the_agent_knows_in_the_next_session_what_was_said_in_the_last(powermem):
    def chat(messages: list[dict[str, str]]) -> str:
        return "You drink tea." if "green tea" in messages[0]["content"] else "I do not know."

    with FakeApi(chat=chat) as api:
        env = {"OPENAI_API_KEY": "k" * 20, "OPENAI_BASE_URL": api.url}
        agent = (sys.executable, str(PROGRAMS / "agent_loop.py"), "anna")
        asking = "What do I drink?\n"
        assert (
            powermem(wrapper=agent, env=env, stdin=asking + "I like green tea.\n").out.splitlines()[0]
            == "I do not know."
        )
        assert powermem(wrapper=agent, env=env, stdin=asking).out == "You drink tea.\n"
    assert "I like green tea." in powermem.memories(user="anna")


# ── a notebook ──


def cells() -> list[str]:
    notebook = json.loads((PROGRAMS / "notebook.ipynb").read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


NOTEBOOK = """
import ast, json, sys
names = {}
for source in json.load(sys.stdin):
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        print(json.dumps(shown))
    else:
        exec(compile(ast.Module([last], []), "cell", "exec"), names)
"""


def test_the_notebook_runs_cell_by_cell(powermem):
    said = powermem(wrapper=(sys.executable, "-W", "error", "-c", NOTEBOOK), stdin=json.dumps(cells()))
    assert (said.code, said.err) == (0, "")
    shown = said.jsonl
    assert shown[1:3] == [["Anna likes green tea"], "Anna's daughter Ines is allergic to walnuts"]
    assert powermem.memories() == []


# ── shell, cron, systemd ──


def test_the_pipeline_says_what_was_wrong_and_answers(powermem):
    events = [
        {"number": 1, "who": "anna", "text": "Anna likes green tea", "at": 1_772_000_000},
        {"number": 2, "who": "anna", "text": "", "at": 1_772_000_001},
    ]
    (powermem.folder / "events.json").write_text(json.dumps({"events": events}), "utf-8")
    said = powermem("events.json", wrapper=(str(PROGRAMS / "pipeline.sh"),))
    assert (said.code, said.out) == (3, "")
    assert "2: " in said.err
    (powermem.folder / "events.json").write_text(json.dumps({"events": events[:1]}), "utf-8")
    assert powermem("events.json", wrapper=(str(PROGRAMS / "pipeline.sh"),)).out == "Anna likes green tea\n"


CRON = [line for line in (PROGRAMS / "crontab").read_text("utf-8").splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("line", CRON)
def test_what_cron_is_told_runs_and_is_silent(powermem, line):
    logs = powermem.folder / "logs"
    logs.mkdir()
    (logs / "a.jsonl.gz").write_bytes(gzip.compress(b'{"memory": "one", "user_id": "u"}\n'))
    when, command = re.fullmatch(r"((?:\S+ ){5}) *(.*)", line).groups()
    assert "%" not in command  # cron makes line breaks of them
    assert len(when.split()) == 5
    said = powermem("-c", command, wrapper=("/bin/sh",))
    assert (said.code, said.out) == (0, ""), said.err
    assert said.err == ""


UNITS = {
    "powermem-add.service": {
        "Unit": {"Description", "Documentation"},
        "Service": {"Type", "WorkingDirectory", "ExecStart", "SuccessExitStatus", "TimeoutStopSec", "UMask"}
        | {"NoNewPrivileges"},
    },
    "powermem-add.timer": {
        "Unit": {"Description"},
        "Timer": {"OnCalendar", "RandomizedDelaySec", "Persistent"},
        "Install": {"WantedBy"},
    },
}


def test_the_units_have_what_systemd_wants(powermem):
    assert {path.name for kind in ("service", "timer") for path in PROGRAMS.glob(f"*.{kind}")} == set(UNITS)
    read = {}
    for name, sections in UNITS.items():
        read[name] = configparser.RawConfigParser(strict=True, delimiters="=")
        read[name].optionxform = str
        read[name].read_string((PROGRAMS / name).read_text("utf-8"))
        assert {section: set(read[name][section]) for section in read[name].sections()} == sections
    service, timer = read["powermem-add.service"]["Service"], read["powermem-add.timer"]
    assert (service["Type"], service["UMask"], service["NoNewPrivileges"]) == ("oneshot", "0077", "yes")
    assert service["ExecStart"].startswith("/")  # systemd looks nothing up
    assert int(service["TimeoutStopSec"]) >= SECONDS
    assert (timer["Timer"]["OnCalendar"], timer["Install"]["WantedBy"]) == ("hourly", "timers.target")
    if shutil.which("systemd-analyze") is not None:
        systemd_takes_them(powermem)


def systemd_takes_them(powermem):
    units = [str(PROGRAMS / name) for name in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", *units],
        capture_output=True,
        env={**powermem.environ, "XDG_RUNTIME_DIR": str(powermem.folder)},
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_the_command_of_the_unit_runs(powermem):
    unit = (PROGRAMS / "powermem-add.service").read_text("utf-8")
    (command,) = re.findall(r"^ExecStart=/usr/bin/env (.*)$", unit, re.MULTILINE)
    allowed = {int(code) for code in re.findall(r"^SuccessExitStatus=(.*)$", unit, re.MULTILINE)[0].split()}
    (powermem.folder / "logs").mkdir()
    (powermem.folder / "logs" / "a.jsonl").write_text('{"memory": "one", "user_id": "u"}\n{"memory": ""}\n', "utf-8")
    assert "{" not in command
    said = powermem(*shlex.split(command.replace(".jsonl.gz", ".jsonl"))[1:])  # systemd expands nothing, powermem does
    assert said.code == 3
    assert said.code in allowed
