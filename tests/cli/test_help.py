"""`--help` and `powermem help`: nothing is left out, whatever place in the code decides it."""

from __future__ import annotations

import ast
import gzip
import inspect
import os
import re
import shlex
from pathlib import Path

import pytest
from program import PROGRAM
from terminal import in_terminal

from powermem_cli.cli.error_codes import ERROR_CODES
from powermem_cli.cli.examples import EXAMPLES
from powermem_cli.cli.exits import MEANINGS, Exit
from powermem_cli.cli.help import TOPICS
from powermem_cli.filters import COLUMNS, OPERATORS, WORDS
from powermem_cli.memory import AsyncMemory
from powermem_cli.readers import FORMATS
from powermem_cli.variables import NAMES, VARIABLES

REPOSITORY = Path(__file__).parents[2]
FILES_WITH_A_DOT = {"config.toml", "job.json"}
CODE = re.compile(rf"({'|'.join(sorted({code.split('.')[0] for code in ERROR_CODES if '.' in code}))})\.[a-z_]+")


def entries(powermem, topic):
    return {entry["name"]: entry["text"] for entry in powermem.inside("help", topic, "--json").json["entries"]}


def codes_in_the_source():
    for path in sorted((REPOSITORY / "powermem_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                yield node.value


def test_every_exit_code_is_explained(powermem):
    assert set(MEANINGS) == set(Exit)
    assert set(entries(powermem, "exit-codes")) == {*(str(int(code)) for code in Exit), "signal"}


def test_every_variable_is_named_and_told_where_it_goes(powermem):
    said = entries(powermem, "env")
    assert list(said) == list(NAMES)
    for variable in VARIABLES:
        assert variable.path[0] in said[variable.name]
        assert ("secret" in said[variable.name]) == (variable.kind == "secret")


def test_every_format_is_described(powermem):
    assert set(entries(powermem, "formats")) == set(FORMATS)
    assert all(entries(powermem, "formats").values())


def test_every_code_of_an_error_is_explained_and_none_is_made_up(powermem):
    used = {*codes_in_the_source(), "not_found"} - FILES_WITH_A_DOT
    assert set(entries(powermem, "errors")) == used


def test_every_part_of_the_filter_language_is_explained(powermem):
    said = entries(powermem, "filters")
    assert {*OPERATORS, *WORDS} <= set(said)
    assert all(column in said["fields"] for column in COLUMNS)


def test_every_method_is_explained(powermem):
    public = {name for name, _ in inspect.getmembers(AsyncMemory, inspect.isfunction) if not name.startswith("_")}
    said = entries(powermem, "api")
    assert {name.partition("(")[0] for name in said} == public
    assert all(said.values())


def test_without_a_topic_it_lists_them_and_a_wrong_one_is_corrected(powermem):
    assert {row[0] for row in powermem.inside("help").rows} == set(TOPICS)
    said = powermem.inside("help", "exitcodes")
    assert (said.code, "did you mean exit-codes?" in said.err) == (2, True)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_fits_a_terminal(powermem, topic):
    code, shown = in_terminal(powermem, "help", topic, columns=80)
    assert code == 0
    if topic != "api":
        assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines())) <= 80


# ── --help ──


def test_examples_come_before_the_options(powermem):
    said = powermem.inside("list", "--help").out
    assert said.index("Examples:") < said.index("Options:") < said.index("Every command:")
    assert said.index("--all") < said.index("Every command:") < said.index("--db")


def test_no_line_is_wider_than_a_terminal(powermem):
    for command in ("", *EXAMPLES):
        said = powermem(*command.split(), "--help").out
        assert said
        assert all(len(line) <= 88 for line in said.splitlines()), command


@pytest.fixture
def folder(powermem):
    """All that the examples speak of."""
    folder, samples = powermem.folder, REPOSITORY / "samples"
    for name in ("chats.jsonl", "questions.jsonl"):
        lines = (samples / name).read_text("utf-8").splitlines(keepends=True)[:20]
        (folder / name).write_text("".join(lines), "utf-8")
    (folder / "logs").mkdir()
    (folder / "logs" / "a.jsonl.gz").write_bytes(gzip.compress((folder / "chats.jsonl").read_bytes()))
    (folder / "notes.csv").write_text("note,customer\nLikes the corner table,ana\n", "utf-8")
    (folder / "bin").mkdir()
    (folder / "bin" / "powermem").write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n', "utf-8")
    (folder / "bin" / "powermem").chmod(0o755)
    powermem.inside("add", "Anna likes tea", "--user", "anna")
    powermem.inside("export", "-o", "memories.jsonl")
    return folder


@pytest.mark.parametrize("line", sorted({line for lines in EXAMPLES.values() for line in lines}))
def test_an_example_runs_as_it_is_written(powermem, folder, line):
    if "-o memories.jsonl" in line:
        (folder / "memories.jsonl").unlink()
    (known,) = powermem.inside("list", "--user", "anna", "--json").json["results"]
    line = re.sub(r"\b\d{15,}\b", known["id"], line)
    line = line.replace("delete --all", "delete --yes --all")  # which a person at a terminal is asked
    said = powermem("-c", line, wrapper=("bash",), env={"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"})
    assert said.code == 0, said.err
