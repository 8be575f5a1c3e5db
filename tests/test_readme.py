"""What the README says is done as it is written: its commands, its Python, its tables."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from program import Powermem

from powermem_cli.cli import COMMANDS
from powermem_cli.cli.exits import Exit

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text("utf-8")
SET_UP = re.compile(r"python3 -m venv|\S*pip install")  # of the one who reads; the tests stand on it already
QUESTIONS = 50
A_MEMORY = re.compile(r"\b\d{15,}\b")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


INDENTED = re.findall(r"^    (\S.*powermem .*)$", README, re.MULTILINE)
SHELL = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("powermem ")]
PYTHON = [block for block in blocks("python") if "import" in block]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder with the samples in it, also under the names the README uses; `powermem` is on the path."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "samples").symlink_to(REPOSITORY / "samples")
    (folder / "chats.jsonl").symlink_to(REPOSITORY / "samples" / "chats.jsonl")
    questions = (REPOSITORY / "samples" / "questions.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "questions.jsonl").write_text("".join(questions[:QUESTIONS]), "utf-8")
    (folder / "logs").mkdir()
    chats = (REPOSITORY / "samples" / "chats.jsonl").read_bytes()
    (folder / "logs" / "january.jsonl.gz").write_bytes(gzip.compress(chats))
    (folder / "notes.csv").write_text("note,customer\nLikes the corner table,ana\n", "utf-8")
    powermem = Powermem(folder)
    powermem.put_on_path()
    powermem.put_on_path(".venv/bin")  # as the one who reads has it
    return powermem


def test_the_main_job_as_it_is_written(clone):
    (line,) = INDENTED
    said = clone.typed(" && ".join(part for part in line.split(" && ") if not SET_UP.match(part)))
    assert said.code == 0
    assert "575" in said.err  # chats, as the sentence above the command says
    assert "575" in README.partition(line)[0]
    assert "allergic to cashews" in said.out.splitlines()[0]


@pytest.mark.timeout(180)  # they are many
def test_the_other_commands_as_they_are_written(clone):
    assert len(SHELL) >= 8
    for line in SHELL:
        if A_MEMORY.search(line) and not clone.memories(user="anna"):
            clone.inside("add", "Anna likes green tea", "--user", "anna")
        known = clone.inside("list", "--user", "anna", "--json").json["results"]
        said = clone.typed(A_MEMORY.sub(known[0]["id"] if known else "", line))
        assert said.code == 0, f"{line}\n{said.err}"
        if "delete --all --user anna" in line:
            assert clone.memories(user="anna") == []
    assert (clone.folder / "answers.jsonl").read_text("utf-8").count("\n") == QUESTIONS


def test_ones_own_chats_as_it_is_written(clone):
    with zipfile.ZipFile(clone.folder / "export.zip", "w") as archive:
        archive.write(REPOSITORY / "samples" / "exports" / "chatgpt.json", "conversations.json")
    unzip = "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[2]).read(sys.argv[3]))"
    (clone.folder / "bin" / "unzip").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{unzip}' \"$@\"\n", "utf-8")
    (clone.folder / "bin" / "unzip").chmod(0o755)
    (line,) = re.findall(r"^`(unzip .*)`\.$", README, re.MULTILINE)
    assert clone.typed(line).code == 0
    assert "plant" in clone.inside("search", "plants for my balcony", "--user", "me", "-k", "3").out


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.split("\n")[0])
def test_python_as_it_is_written(block, tmp_path):
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], cwd=tmp_path, env=environ, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Anna likes green tea" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown(command):
    assert f"powermem {command} " in README


def test_the_figures_of_the_first_screen_are_those_further_down():
    first = re.search(r"^On two shared cores .*?(?=\[figures\])", README, re.MULTILINE | re.DOTALL)[0]
    measured = README.partition("\n## Figures\n")[2]
    figures = re.findall(r"[\d.,]*\d", first)
    assert len(figures) >= 4
    assert [figure for figure in figures if not re.search(rf"(?<![\d.,]){re.escape(figure)}\b", measured)] == []


def test_every_exit_code_is_explained():
    table = re.findall(r"^\| (\d+) \|", README, re.MULTILINE)
    assert [int(code) for code in table] == [int(code) for code in Exit]
