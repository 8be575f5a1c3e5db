"""The front door: help that says everything, letters that mean one thing, and nothing loaded that is not used."""

from __future__ import annotations

import json
import re

import pytest
import typer
from program import PROGRAM

import powermem_cli
from powermem_cli.cli import COMMANDS, PANELS, build

HEAVY = {"anyio", "apsw", "asyncio", "aiosqlite", "dotenv", "httpx", "numpy", "rich", "Stemmer", "sqlite3"}
"""What takes long to load, and help and version can do without."""


def flat(group, *names):
    """Every command by its words: `jobs list`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from flat(command, *names, name)
        else:
            yield " ".join((*names, name)), [one for one in command.params if one.name != "help"]


APP = typer.main.get_command(build())
PARAMETERS = dict(flat(APP))


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["add", "--help"], ["search", "-h"]])
def test_help_and_version_load_nothing_heavy(powermem, arguments):
    script = (
        "import sys, json, atexit; from powermem_cli.cli import main;"
        "atexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules)))); main(sys.argv[1:])"
    )
    said = powermem("-c", script, *arguments, wrapper=PROGRAM[:1])
    assert (said.code, said.err) == (0, "")
    loaded = set(json.loads(said.out.splitlines()[-1]))
    assert "powermem_cli.cli" in loaded
    assert not HEAVY & loaded


def test_the_front_page_says_of_each_command_what_it_says_of_itself():
    summaries = {name: summary for commands in PANELS.values() for name, summary in commands.items()}
    assert {name: one.help.split("\n")[0] for name, one in APP.commands.items()} == summaries


def test_the_version(powermem):
    for option in ("--version", "-V"):
        assert powermem(option).out == f"powermem {powermem_cli.__version__}\n"


def test_without_arguments_help_and_a_failure(powermem):
    said = powermem()
    assert (said.code, said.out) == (2, "")
    of_a_group = powermem("jobs")
    assert (of_a_group.code, of_a_group.err.split("\n")[0]) == (2, "Usage: powermem jobs [OPTIONS] COMMAND [ARGS]...")
    assert '\n  powermem add --file chats.jsonl\n  powermem search "' in said.err  # examples stay on lines of their own
    assert all(f"\n  {command} " in said.err for command in COMMANDS)
    assert "--log-file" not in said.err  # what a command takes is too much for one who asks what there is
    assert len([line for line in said.err.splitlines() if re.match(r" {6,}\S", line)]) == 0  # a line each


@pytest.mark.parametrize("command", PARAMETERS)
def test_help_of_a_command_explains_every_option(powermem, command):
    said = powermem.inside(*command.split(), "--help", env={"COLUMNS": "200"})
    assert said.code == 0
    for parameter in PARAMETERS[command]:
        for name in parameter.opts if parameter.param_type_name == "option" else ():
            assert name in said.out
            assert parameter.help, f"{command} {name}"
    assert not re.search("<(str|int|float)", said.out)  # a name says what to give


def test_a_letter_means_one_thing_everywhere():
    meaning = {}
    for parameters in PARAMETERS.values():
        for parameter in parameters:
            letters = [name for name in parameter.opts if len(name) == 2]
            for letter in letters:
                assert meaning.setdefault(letter, parameter.name) == parameter.name
    assert set(meaning) >= {"-f", "-u", "-a", "-r", "-k", "-c", "-n", "-q", "-v", "-y"}


@pytest.mark.parametrize("command", PARAMETERS)
def test_every_command_has_the_options_all_have(command):
    names = {name for parameter in PARAMETERS[command] for name in parameter.opts}
    assert names >= {"--db", "--env-file", "--config", "--json", "--jsonl", "--quiet", "--verbose", "--yes"}


def test_settings_come_from_where_they_are_said_to_come_from(powermem):
    powermem.inside("add", "in the default store")
    powermem.write("one.env", "SQLITE_PATH=one.db")
    powermem.write("two.json", '{"vector_store": {"provider": "sqlite", "config": {"path": "two.db"}}}')
    powermem.environ.pop("SQLITE_PATH")
    for place, option in (("one.db", ("--env-file", "one.env")), ("two.db", ("--config", "two.json"))):
        powermem.inside("add", f"in {place}", *option)
        assert [row[3] for row in powermem.inside("list", "--db", place).rows] == [f"in {place}"]
    assert [row[3] for row in powermem.inside("list", "--db", powermem.database).rows] == ["in the default store"]
    both = powermem.inside("list", "--env-file", "one.env", "--config", "two.json").rows
    assert [row[3] for row in both] == ["in one.db"]
