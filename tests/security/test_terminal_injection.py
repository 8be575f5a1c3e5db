"""Text of strangers through the real program: nothing of it may command a terminal, on any way out."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from fake_api import DIMS, FakeApi, Reply
from program import Powermem
from terminal import SGR, in_terminal

HOSTILE = [
    "\x1b[31m", "\x1b]0;title\x07", "\x1b]52;c;ZWNobw==\x07", "\x1b]8;;http://x\x1b\\", "\x1bPq", "\x9b2J", "\x9d0;x\x9c",
    "\x08", "\r", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\ufeff", "\U000e0041", "[/nope]", "[bold]",
    "[link=http://x]", "{0}", "%s", "漢", "👩\u200d👧", "\u0301", "a word ", "\x18", "\x0c",
]  # fmt: skip
DANGEROUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
OURS = re.compile(r"\r?\x1b\[K|\x1b\[[0-9;]*m")


def texts(number: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"tea {n} {''.join(draw.choices(HOSTILE, k=6))}" for n in range(number)]


def no_controls(text: str) -> str:
    return re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", "", text)


def assert_harmless(*shown: str) -> None:
    for text in shown:
        found = DANGEROUS.search(OURS.sub("", text))
        assert found is None, repr(text[max(0, found.start() - 40) : found.end() + 40])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A store that strangers have filled."""
    return filled(tmp_path_factory.mktemp("home"), 1000)


def filled(folder: Path, number: int) -> Powermem:
    powermem = Powermem(folder)
    rows = [
        {"memory": one, "user_id": no_controls(other), "key": no_controls(other), "metadata": {one: other}}
        for one, other in zip(texts(number, 1), texts(number, 2), strict=True)
    ]
    added = powermem.inside("add", "-f", powermem.write("in.jsonl", *rows), "--no-infer")
    assert added.code == 0, added.err
    assert_harmless(added.out, added.err)
    return powermem


@pytest.mark.parametrize(
    "command",
    [["list", "--all"], ["list", "--all", "--json"], ["search", "tea", "-k", "1000"], ["search", "tea", "--jsonl"]],
)
def test_a_thousand_memories_into_a_pipe(hostile, command):
    said = hostile.inside(*command)
    assert_harmless(said.out, said.err)
    assert "[/nope]" in said.out
    if "--json" not in command and "--jsonl" not in command:
        assert len(said.out.splitlines()) == 1000


@pytest.mark.parametrize("columns", [30, 100])
def test_a_thousand_memories_onto_a_terminal(hostile, columns):
    code, shown = in_terminal(hostile, "list", "--all", columns=columns)
    assert code == 0
    assert_harmless(shown)
    assert "[/nope]" in SGR.sub("", shown)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_thousand_memories_through_every_human_output(tmp_path):
    number = 10_000
    powermem, seen = filled(tmp_path, number), 0
    said = powermem.inside("list", "--all")
    assert len(said.out.splitlines()) == number
    shown = [said.out, said.err]
    for columns in (20, 80, 300):
        shown += in_terminal(powermem, "list", "--all", columns=columns)[1:]
    for layout in ("table", "plain", "context"):
        said = powermem.inside("search", "tea", "-k", "1000", "--format", layout)
        assert said.code == 0, said.err
        shown += [said.out, said.err]
    for command in (["stats"], ["delete", "--all", "--dry-run"], ["history", "1"]):
        said = powermem.inside(*command)
        shown += [said.out, said.err]
    for text in shown:
        assert_harmless(text)
        seen += len(text)
    print(f"{number:,} fuzzed memories, {seen:,} characters shown: no control character of them")


def test_single_memories_and_questions_about_deletion(hostile):
    rows = hostile.inside("list", "-k", "20", "--json").json["results"]
    for row in rows[:2]:
        code, shown = in_terminal(hostile, "get", row["id"])
        assert code == 0
        assert_harmless(shown)
    code, shown = in_terminal(hostile, "delete", "--all", typed="no\n")
    assert_harmless(shown)
    for row in rows:
        said = hostile.inside("search", row["memory"], "-u", row["user_id"])
        assert_harmless(said.out, said.err)


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl"]])
def test_arguments_that_come_back_in_errors(hostile, form):
    evil = "".join(HOSTILE)
    for command in (
        ["add", "-f", f"no-{evil}.jsonl"],
        ["add", "x", "--metadata", evil],
        ["add", "-f", "in.jsonl", "--map", f"{evil}=x"],
        ["add", "-f", "in.jsonl", "--format", evil],
        ["add", "-f", "in.jsonl", "--job", evil],
        ["search", "x", "--where", evil],
        ["search", "x", "--filter", json.dumps({evil: {evil: 1}})],
        ["get", evil],
        ["delete", evil],
        ["update", evil, "x"],
        ["list", "--after", evil],
        ["list", "--db", f"{evil}://host"],
        ["list", "--env-file", evil],
    ):
        said = hostile.inside(*command, *form)
        assert said.code in {1, 2, 5}, (command, said.err)
        assert_harmless(said.out, said.err)
    for command in ([evil], ["add", f"--{evil}"], ["search", "x", "-k", evil]):
        said = hostile(*command, *form)
        assert said.code == 2
        assert_harmless(said.out, said.err)


def test_records_that_come_back_in_rejects_and_progress(hostile):
    evil = "".join(HOSTILE)
    name = no_controls(evil.replace("/", "")) + "\x1b[2J\n.jsonl"
    path = hostile.folder / name
    lines = [
        json.dumps({"memory": 7, evil: evil}),
        json.dumps({evil: 1}),
        '{"memory": "\x1b[31m',
        json.dumps({"user_id": evil, "text": "x"}),
    ]
    path.write_text("\n".join(lines * 50) + "\n", "utf-8")
    for mode in ("bar", "log", "none"):
        said = hostile.inside("add", "-f", path, "--progress", mode, "--no-resume")
        assert said.code == 1
        assert_harmless(said.out, said.err)
    assert_harmless(*in_terminal(hostile, "add", "-f", path, "--no-resume")[1:])
    assert_harmless(hostile.inside("add", "-f", path, "--dry-run").err)


def test_what_a_provider_says(tmp_path):
    powermem = Powermem(tmp_path)
    powermem.write("in.jsonl", {"memory": "x"})
    evil = "".join(HOSTILE)
    environ = {
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_API_KEY": "sk-1",
        "EMBEDDING_MODEL": "m",
        "EMBEDDING_DIMS": str(DIMS),
    }
    with FakeApi() as api:
        environ |= {"OPENAI_EMBEDDING_BASE_URL": api.url, "POWERMEM_RETRIES": "1"}
        for status in (400, 401, 404, 429, 500):
            for body in ({"error": {"message": evil, "code": evil, "type": evil}}, evil):
                api.rule = lambda _request, status=status, body=body: Reply(
                    status, body=body, headers={"Retry-After": "99999"}
                )
                for command in (["search", "x"], ["search", "x", "--json"], ["add", "-f", "in.jsonl", "-vv"]):
                    said = powermem.inside(*command, env=environ)
                    assert said.code != 0
                    assert_harmless(said.out, said.err)
