"""--dry-run asks nobody and writes nothing: no socket is opened, and every file stays as it is, byte for byte."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from fake_api import DIMS, FakeApi
from listening import nobody_is_asked
from program import PROGRAM, Powermem
from typer.main import get_command

from powermem_cli.cli import COMMANDS, build

REMOTE = {
    "EMBEDDING_PROVIDER": "openai",
    "EMBEDDING_API_KEY": "sk-test",
    "EMBEDDING_MODEL": "fake",
    "EMBEDDING_DIMS": str(DIMS),
    "LLM_PROVIDER": "openai",
    "LLM_API_KEY": "sk-test",
    "LLM_MODEL": "fake",
}
CASES = [
    ["add", "-f", "in.jsonl"],
    ["add", "-"],
    ["add", "a text", "-u", "ana"],
    ["update", "ID", "other words"],
    ["update", "ID", "--metadata", '{"a": 1}'],
    ["delete", "ID"],
    ["delete", "--all", "-u", "ana"],
    ["jobs", "retry", "failing"],
    ["jobs", "forget", "failing"],
    ["config", "init", "--llm", "openai"],
]
OPENED = re.compile(r'\b(?:open|openat|creat)\(.*?"([^"]*)".*?(?:O_WRONLY|O_RDWR|O_CREAT)')
CHANGED = re.compile(r'\b(?:mkdir|rename|unlink|link|symlink|truncate|chmod|rmdir|fallocate)(?:at2?)?\(.*?"([^"]*)"')
ASKED = re.compile(r"\b(?:connect|sendto|sendmsg|bind)\(.*AF_INET")
ITS_OWN = re.compile(r"/dev/(?:null|tty)|.*-(?:shm|wal)|.*/lock")
"""What a reader of SQLite's needs beside a file that others may write; and a lock is asked for by opening it so."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, a job in which a record failed, and a server that would be asked."""
    powermem = Powermem(tmp_path_factory.mktemp("made"))
    with FakeApi() as api:
        powermem.environ |= {**REMOTE, "OPENAI_EMBEDDING_BASE_URL": api.url, "OPENAI_LLM_BASE_URL": api.url}
        known = powermem.write("known.jsonl", {"memory": "Ana drinks tea", "user_id": "ana"}, {"memory": 7})
        powermem.inside("add", "-f", known, "--no-infer", "--job", "failing")
        powermem.write("in.jsonl", {"messages": [{"role": "user", "content": "I like figs"}]}, {"memory": 7})
        yield powermem, api


@pytest.fixture
def run(made, tmp_path):
    """A copy of all that, a command's arguments with an id in them, and the server."""
    powermem, api = made
    copy = Powermem(shutil.copytree(powermem.folder, tmp_path / "copy"))
    copy.environ = {**powermem.environ, **copy.environ}
    (row,) = copy.inside("list", "--json").json["results"]
    connected = api.connections

    def line(arguments: list[str]) -> list[str]:
        return [row["id"] if one == "ID" else one for one in [*arguments, "--dry-run", "--json"]]

    yield copy, line
    assert api.connections == connected


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All there is: when it was written, and its content."""
    found = [path for path in sorted(folder.rglob("*")) if not ITS_OWN.fullmatch(path.name) and path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def dry_runs() -> set[str]:
    """`add`, `jobs retry`, …"""
    names = set()
    for name in COMMANDS:
        command = get_command(build([name])).commands[name]
        for sub, one in getattr(command, "commands", {"": command}).items():
            if any("--dry-run" in option.opts for option in one.params):
                names.add(f"{name} {sub}".strip())
    return names


def test_no_dry_run_is_left_out():
    tried = {" ".join(arguments[:2]) for arguments in CASES} | {arguments[0] for arguments in CASES}
    assert dry_runs() <= tried


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_nothing_is_written_and_nobody_is_asked(run, arguments):
    powermem, line = run
    before = files(powermem.folder)
    with nobody_is_asked():
        said = powermem.inside(*line(arguments), stdin='{"memory": "from a pipe"}\n')
    assert said.code in {0, 3}, said.err
    assert files(powermem.folder) == before


@pytest.mark.soak
@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_the_system_is_asked_for_nothing_else_either(run, arguments):
    assert shutil.which("strace"), "what the system is asked for can only be seen with strace: install it"
    powermem, line = run
    trace = powermem.folder.with_name("trace")
    wrapper = ("strace", "-f", "-qq", "-s", "300", "-o", str(trace), *PROGRAM)
    said = powermem(*line(arguments), wrapper=wrapper, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert said.code in {0, 3}, said.err
    calls = [call for call in trace.read_text("utf-8", "replace").splitlines() if "= -1 E" not in call]
    assert [call for call in calls if ASKED.search(call)] == []
    touched = [found[1] for call in calls for found in (OPENED.search(call), CHANGED.search(call)) if found]
    assert [path for path in touched if not ITS_OWN.fullmatch(path)] == []
