"""`--help` and `powermem help`: nothing is left out, whatever place in the code decides it."""

from __future__ import annotations

import ast
import gzip
import re
from pathlib import Path

import pytest
from terminal import in_terminal

import powermem_cli
from powermem_cli.cli.error_codes import ERROR_CODES
from powermem_cli.cli.examples import EXAMPLES
from powermem_cli.cli.exits import MEANINGS, Exit
from powermem_cli.cli.help import TOPICS
from powermem_cli.filters import COLUMNS, OPERATORS, WORDS
from powermem_cli.memory import AsyncMemory
from powermem_cli.readers import FORMATS
from powermem_cli.sync_memory import Memory
from powermem_cli.times import parse_time
from powermem_cli.variables import NAMES, VARIABLES

REPOSITORY = Path(__file__).parents[2]
FOR_THE_PROGRAM = {
    "add_records",
    "keeps_what_is_said",
    "needs_nobody",
    "store_identity",
    "texts_at_once",
    "usage",
}  # of AsyncMemory alone
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


def test_every_public_name_of_the_api_is_explained(powermem):
    members = {name for name in vars(AsyncMemory) if not name.startswith("_")}
    said = entries(powermem, "api")
    named = {name.partition("(")[0] for name in said}
    assert {*powermem_cli.__all__, *(f"AsyncMemory.{name}" for name in members)} <= named
    assert all(said.values())
    assert members - {name for name, value in vars(Memory).items() if value.__doc__} <= FOR_THE_PROGRAM


def test_the_fields_of_a_memory_are_those_the_reference_describes(tmp_path):
    with Memory({"vector_store": {"provider": "sqlite", "config": {"path": str(tmp_path / "m.db")}}}) as memory:
        given = [*memory.add("Anna likes tea", user_id="anna")["results"], *memory.search("tea")["results"]]
        assert type(given[0]["id"]) is int
        assert parse_time(given[0]["created_at"])
        for row in given:
            assert all(f"`{name}`" in powermem_cli.__doc__ for name in row)


def test_the_reference_in_the_samples_is_what_help_says(powermem):
    assert powermem.inside("help", "api").out == (REPOSITORY / "samples" / "api.md").read_text("utf-8")


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
    assert (
        said.index("Examples:")
        < said.index("Options:")
        < said.index("Scope and filters:")
        < said.index("Every command (")
    )
    assert said.index("--all") < said.index("Every command (") < said.index("--db")


def test_no_line_is_wider_than_a_terminal(powermem):
    for command in ("", *EXAMPLES):
        said = powermem.inside(*command.split(), "--help").out if command else powermem("--help").out
        assert said
        assert all(len(line) <= 80 for line in said.splitlines()), command


def test_help_fits_a_narrow_window(powermem):
    powermem.environ["COLUMNS"] = "40"
    for command in ("config", "mcp"):
        said = powermem.inside(command, "--help").out
        assert "Options:" in said
        assert all(len(line) <= 40 for line in said.splitlines()), command


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
    powermem.put_on_path()
    powermem.inside("add", "Anna likes tea", "--user", "anna")
    powermem.inside("export", "-o", "memories.jsonl")
    return folder


EVERY_EXAMPLE = sorted({line for name, lines in EXAMPLES.items() for line in lines if name != "mcp"})  # see test_mcp.py


@pytest.mark.parametrize("line", EVERY_EXAMPLE)
def test_an_example_runs_as_it_is_written(powermem, folder, line):
    if "-o memories.jsonl" in line:
        (folder / "memories.jsonl").unlink()
    if "trash restore" in line:
        powermem.inside("delete", "--all", "--user", "anna", "--yes")
        powermem.inside("add", "Anna likes tea", "--user", "anna")
    (known,) = powermem.inside("list", "--user", "anna", "--json").json["results"]
    line = re.sub(r"\b\d{15,}\b", known["id"], line)
    line = line.replace("delete --all", "delete --yes --all")  # which a person at a terminal is asked
    said = powermem.typed(line)
    assert said.code == 0, said.err
