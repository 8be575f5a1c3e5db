"""stdout holds results and nothing else: every command, in every form, into a pipe, a file and a terminal."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from listening import nobody_is_asked
from program import Powermem
from terminal import SGR, in_terminal
from typer.main import get_command

from powermem_cli.cli import COMMANDS, build

HOSTILE = "Füße \x1b]0;title\x07 \x9b2J \u202e[/nope] \u2028"
TEA = "Ana drinks green tea"
COMMANDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]")
FORMS = ("text", "json", "jsonl")

ROWS = {"search": 3, "get": 3, "list": 3, "add a": 3, "update": 3, "history": 3, "jobs list": 6, "trash list": 3}
"""Tabs in every line of the plain form, by the beginning of a case; a script counts on them."""

CASES = {
    "add, ok": (["add", "-f", "good.jsonl"], 0),
    "add, partial": (["add", "-f", "mixed.jsonl"], 3),
    "add, failed": (["add", "-f", "bad.jsonl"], 1),
    "add, empty": (["add", "-f", "empty.jsonl"], 0),
    "add, dry run": (["add", "-f", "mixed.jsonl", "--dry-run"], 3),
    "add a text, ok": (["add", "one more \x1b[31m"], 0),
    "add a text, wrong": (["add", ""], 2),
    "search, ok": (["search", "green tea"], 0),
    "search, empty": (["search", "tea", "-u", "nobody"], 0),
    "search, wrong": (["search", ""], 2),
    "search, failed": (["search", "x", "--db", "folder"], 5),
    "search many, ok": (["search", "-f", "good.txt"], 0),
    "search many, partial": (["search", "-f", "questions.txt"], 3),
    "get, ok": (["get", "ID"], 0),
    "get, partial": (["get", "ID", "17"], 1),
    "get, failed": (["get", "17"], 1),
    "list, ok": (["list"], 0),
    "list, empty": (["list", "-u", "nobody"], 0),
    "list, failed": (["list", "--db", "folder"], 5),
    "update, ok": (["update", "ID", "other text \x1b[31m"], 0),
    "update, failed": (["update", "17", "x"], 1),
    "delete, ok": (["delete", "ID"], 0),
    "delete, failed": (["delete", "17"], 1),
    "delete, empty": (["delete", "--all", "-u", "nobody", "-y"], 0),
    "delete, refused": (["delete", "--all"], 2),
    "history, ok": (["history", "ID"], 0),
    "history, empty": (["history", "17"], 1),
    "history, failed": (["history", "17", "--db", "folder"], 5),
    "export, ok": (["export"], 0),
    "export, empty": (["export", "-u", "nobody"], 0),
    "export, failed": (["export", "--db", "folder"], 5),
    "export to a file, ok": (["export", "-o", "x.jsonl"], 0),
    "import, ok": (["import", "all.jsonl"], 0),
    "import, partial": (["import", "torn.jsonl", "--db", "b.db"], 3),
    "import, empty": (["import", "empty.jsonl"], 2),
    "jobs list, ok": (["jobs", "list"], 0),
    "jobs show, ok": (["jobs", "show", "mixed"], 0),
    "jobs show, failed": (["jobs", "show", HOSTILE], 2),
    "jobs retry, empty": (["jobs", "retry", "mixed"], 0),
    "jobs forget, ok": (["jobs", "forget", "mixed", "-y"], 0),
    "jobs forget, failed": (["jobs", "forget", "nope"], 1),
    "stats, ok": (["stats"], 0),
    "stats, empty": (["stats", "-u", "nobody"], 0),
    "stats, failed": (["stats", "--db", "folder"], 5),
    "check, ok": (["check"], 0),
    "check, failed": (["check", "--db", "folder"], 5),
    "config show, ok": (["config", "show"], 0),
    "config path, ok": (["config", "path"], 0),
    "config validate, ok": (["config", "validate"], 0),
    "config validate, failed": (["config", "validate", "--env-file", "bad.env"], 2),
    "config init, ok": (["config", "init", "--llm", "ollama"], 0),
    "config init, dry run": (["config", "init", "--llm", "openai", "-n"], 0),
    "config init, failed": (["config", "init"], 2),
    "db verify, ok": (["db", "verify"], 0),
    "db verify, failed": (["db", "verify", "--db", "folder"], 5),
    "db backup, ok": (["db", "backup", "copy.db"], 0),
    "db backup, failed": (["db", "backup", "folder"], 2),
    "db reembed, empty": (["db", "reembed"], 0),
    "db expire, empty": (["db", "expire"], 0),
    "db optimize, ok": (["db", "optimize"], 0),
    "trash list, ok": (["trash", "list"], 0),
    "trash restore, ok": (["trash", "restore"], 0),
    "trash restore, failed": (["trash", "restore", HOSTILE], 2),
    "trash empty, ok": (["trash", "empty", "-y"], 0),
    "help, ok": (["help", "exit-codes"], 0),
    "help, failed": (["help", "nothing"], 2),
}
SPEAKS_ITS_OWN = {"mcp"}
"""A protocol on stdin and stdout."""
ON_PUSH = {"add, partial", "search, ok", "list, failed"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which every case finds what it needs."""
    powermem = Powermem(tmp_path_factory.mktemp("made"))
    powermem.write("good.jsonl", {"memory": f"new {HOSTILE}", "user_id": HOSTILE.split("\x1b", maxsplit=1)[0]})
    powermem.write("bad.jsonl", {"memory": 7}, '{"memory": "\x1b', {HOSTILE: 1})
    powermem.write("mixed.jsonl", {"memory": "good"}, {"memory": 7, HOSTILE: 1})
    powermem.write("empty.jsonl")
    powermem.write("bad.env", "RERANKER_ENABLED=perhaps")
    powermem.write("good.txt", "tea?", f"what is {HOSTILE[:8]}?")
    powermem.write("questions.txt", "tea?", json.dumps({"query": 5, "key": HOSTILE}))
    (powermem.folder / "folder").mkdir()
    powermem.inside("add", "-f", powermem.write("in.jsonl", {"memory": TEA}, {"memory": HOSTILE}))
    powermem.inside("add", "-f", powermem.write("seven.jsonl", {"memory": 7, HOSTILE: 1}), "--job", "mixed")
    powermem.inside("add", "for a while", "-u", HOSTILE[:5])
    powermem.inside("delete", "--all", "-u", HOSTILE[:5], "-y")
    exported = powermem.inside("export", "-o", "all.jsonl") and (powermem.folder / "all.jsonl").read_text("utf-8")
    (powermem.folder / "torn.jsonl").write_text("".join(exported.splitlines(keepends=True)[:2]) + "{broken \x1b\n")
    return powermem.folder


@pytest.fixture
def filled(made, tmp_path):
    return Powermem(shutil.copytree(made, tmp_path / "copy"))


def command_of(powermem: Powermem, name: str, form: str) -> list[str]:
    arguments = list(CASES[name][0])
    if "ID" in arguments:
        first = powermem.inside("list", "-k", "1", "--json").json["results"][0]["id"]
        arguments[arguments.index("ID")] = first
    return [*arguments, *([] if form == "text" else [f"--{form}"])]


def check_stdout(out: str, form: str, name: str) -> None:
    """JSON where it was asked for, lines of cells elsewhere; and no character that commands a terminal."""
    is_file = name in {"export, ok", "export, empty"}  # byte by byte what it would be under a name
    assert is_file or not COMMANDING.search(out)
    if form == "text":
        tabs = next((tabs for start, tabs in ROWS.items() if name.startswith(start)), None)
        assert all(line.startswith(("# ", "error: ")) or tabs in {None, line.count("\t")} for line in lines(out))
        return
    documents = [json.loads(line) for line in lines(out)] if form == "jsonl" or is_file else [json.loads(out)]
    assert all(isinstance(document, dict) for document in documents)
    for document in documents:
        if document.get("type") in {"error", "summary"} and "dry_run" not in document:
            assert document["exit_code"] == CASES[name][1]


def lines(out: str) -> list[str]:
    assert not out or out.endswith("\n")
    return out.split("\n")[:-1]


def every_command() -> set[str]:
    """`add`, `jobs list`, …"""
    names = set()
    for name in COMMANDS:
        command = get_command(build([name])).commands[name]
        names |= {f"{name} {sub}" for sub in command.commands} if hasattr(command, "commands") else {name}
    return names


def test_no_command_is_left_out():
    started = {" ".join(arguments[:2]) for arguments, _ in CASES.values()} | {one[0] for one, _ in CASES.values()}
    assert every_command() - started == SPEAKS_ITS_OWN


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_a_pipe(filled, name, form):
    command = command_of(filled, name, form)
    with nobody_is_asked():  # all of this works without a network
        said = filled.inside(*command)
    assert said.code == CASES[name][1], said.err
    check_stdout(said.out, form, name)
    assert not COMMANDING.search(said.err)
    if form == "json":
        assert said.out, "a document always comes; a stream may have no lines"


def some_on_push(names: set[str]):
    return [name if name in names else pytest.param(name, marks=pytest.mark.soak) for name in CASES]


@pytest.mark.parametrize("name", some_on_push(ON_PUSH))
@pytest.mark.parametrize("form", FORMS)
def test_a_file(filled, name, form):
    path = filled.folder / "out"
    bar = ["--progress", "bar"] if name.startswith("add, ") else []
    with path.open("wb") as file:
        said = filled(*command_of(filled, name, form), *bar, stdout=file)
    assert said.code == CASES[name][1]
    check_stdout(path.read_text("utf-8"), form, name)


@pytest.mark.parametrize("name", some_on_push({*ON_PUSH, "search many, partial"}))
@pytest.mark.parametrize("form", FORMS)
def test_a_terminal(filled, name, form):
    """There talk and results come to the same place; stdout alone is a terminal here."""
    code, shown = in_terminal(filled, *command_of(filled, name, form), only_stdout=True)
    assert code == CASES[name][1]
    assert not COMMANDING.search(SGR.sub("", shown) if form == "text" else shown)
    if form != "text":
        check_stdout(shown, form, name)
