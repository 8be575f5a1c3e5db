"""stdout holds results and nothing else: every command, in every form, into a pipe, a file and a terminal."""

from __future__ import annotations

import json
import re

import pytest
from program import Powermem
from terminal import SGR, in_terminal

HOSTILE = "Füße \x1b]0;title\x07 \x9b2J \u202e[/nope] \u2028"
TEA = "Ana drinks green tea"

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
}
FORMS = ("text", "json", "jsonl")


@pytest.fixture
def filled(powermem):
    powermem.write("good.jsonl", {"memory": f"new {HOSTILE}", "user_id": HOSTILE.split("\x1b", maxsplit=1)[0]})
    powermem.write("bad.jsonl", {"memory": 7}, '{"memory": "\x1b', {HOSTILE: 1})
    powermem.write("mixed.jsonl", {"memory": "good"}, {"memory": 7, HOSTILE: 1})
    powermem.write("empty.jsonl")
    (powermem.folder / "folder").mkdir()
    powermem.write("good.txt", "tea?", f"what is {HOSTILE[:8]}?")
    powermem.write("questions.txt", "tea?", json.dumps({"query": 5, "key": HOSTILE}))
    powermem.inside("add", "-f", powermem.write("in.jsonl", {"memory": TEA}, {"memory": HOSTILE}))
    return powermem


def command_of(powermem: Powermem, name: str, form: str) -> list[str]:
    first = powermem.inside("list", "-k", "1", "--json").json["results"][0]["id"]
    arguments = [first if argument == "ID" else argument for argument in CASES[name][0]]
    return [*arguments, *([] if form == "text" else [f"--{form}"])]


def check_stdout(out: str, form: str, code: int) -> None:
    """JSON where it was asked for, lines of cells elsewhere; and no character that commands a terminal."""
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]", out)
    if form == "text":
        assert all(line.startswith(("# ", "error: ")) or line.count("\t") == 3 for line in lines(out))
        return
    documents = [json.loads(out)] if form == "json" else [json.loads(line) for line in lines(out)]
    assert all(isinstance(document, dict) for document in documents)
    for document in documents:
        if document.get("type") in {"error", "summary"} and "dry_run" not in document:
            assert document["exit_code"] == code


def lines(out: str) -> list[str]:
    assert not out or out.endswith("\n")
    return out.split("\n")[:-1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_a_pipe(filled, name, form):
    said = filled.inside(*command_of(filled, name, form))
    assert said.code == CASES[name][1], said.err
    check_stdout(said.out, form, said.code)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]", said.err)
    if form == "json":
        assert said.out, "a document always comes; a stream may have no lines"


@pytest.mark.parametrize("name", ["add, partial", "search, ok", "list, failed"])
@pytest.mark.parametrize("form", FORMS)
def test_a_file(filled, name, form):
    path = filled.folder / "out"
    with path.open("wb") as file:
        said = (
            filled(*command_of(filled, name, form), "--progress", "bar", stdout=file)
            if "add" in name
            else filled(*command_of(filled, name, form), stdout=file)
        )
    assert said.code == CASES[name][1]
    check_stdout(path.read_text("utf-8"), form, said.code)


@pytest.mark.parametrize("name", ["add, partial", "search, ok", "search many, partial", "list, failed", "get, ok"])
@pytest.mark.parametrize("form", FORMS)
def test_a_terminal(filled, name, form):
    """There talk and results come to the same place; stdout alone is a terminal here."""
    code, shown = in_terminal(filled, *command_of(filled, name, form), only_stdout=True)
    assert code == CASES[name][1]
    if form == "text":
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]", SGR.sub("", shown))
    else:
        check_stdout(shown, form, code)
