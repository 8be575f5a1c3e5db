"""What a person sees: tables, a bar, questions. Run in a terminal of our own making."""

from __future__ import annotations

import os
import re
import signal

import pytest
from program import SECONDS
from terminal import SGR, in_terminal, resize

ERASE = "\x1b[K"


def screen(shown: str) -> list[str]:
    """The lines that stand there in the end: what was written over is gone."""
    return [line.rpartition(ERASE)[2] for line in shown.split("\n")]


@pytest.fixture
def filled(powermem):
    evil = "evil \x1b]0;title\x07 \x9b2J \u202e[bold]text[/nope]"
    powermem.inside("add", "-f", powermem.write("in.jsonl", {"memory": "Ana drinks green tea"}, {"memory": evil}))
    return powermem


def test_a_table_with_nothing_in_it_that_was_not_ours(filled):
    code, shown = in_terminal(filled, "search", "green tea")
    assert code == 0
    plain = SGR.sub("", shown)
    assert plain.split("\n")[0].split() == ["score", "memory", "when", "(UTC)", "id"]
    assert "Ana drinks green tea" in plain
    assert r"evil \x1b]0;title\x07 \x9b2J \u202e[bold]text[/nope]" in " ".join(plain.split())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", plain)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("search", "tea", "--user", "anaa"), "nothing found: user 'anaa' is not known; did you mean ana?"),
        (("list", "--user", "Zoe"), "no memories here: user 'Zoe' is not known; there is ana"),
        (("list", "--user", "ana", "--since", "2126-01-01"), "no memories here"),
        (
            ("list", "--where", "topik=food"),
            "no memories here: no memory has 'topik' in its metadata; did you mean topic?",
        ),
        (("list", "--where", "topic=sport"), "no memories here"),
    ],
)
def test_who_or_what_may_have_been_meant(powermem, command, said):
    powermem.inside("add", "Ana drinks green tea", "--user", "ana", "--metadata", '{"topic": "food"}')
    code, shown = in_terminal(powermem, *command)
    assert (code, " ".join(shown.split())) == (0, said)


def test_a_bar_then_what_became_of_it(powermem):
    path = powermem.write("in.jsonl", *({"memory": f"memory {i}"} for i in range(600)), {"memory": 7})
    code, shown = in_terminal(powermem, "add", "-f", path, columns=200)
    assert code == 3
    assert shown.count(ERASE) > 1  # it was written over
    bar, summary, undated, no_llm, reason, aside, cure, _end = screen(shown)
    assert all(part in bar for part in ("100%", "601 records", "1 rejected"))
    assert summary.startswith("600 added (600 memories) · 1 rejected")
    assert (undated, no_llm) == (
        "  600 came without a time: they got that of adding",
        "  no LLM is configured: kept what users said",
    )
    assert reason == f"  {path}:601: memory must be text, not a number"
    assert aside.startswith("  set aside: /")
    assert cure == f"  mend them there, then: powermem add -f {aside.removeprefix('  set aside: ')}"


def test_ctrl_c_is_answered_at_once_and_the_line_is_left_in_order(powermem):
    pipe = powermem.folder / "pipe"
    os.mkfifo(pipe)

    def stop(process, _terminal):
        with pipe.open("w"):  # opened by both: it is about to read
            process.send_signal(signal.SIGINT)
            process.wait(SECONDS)

    code, shown = in_terminal(powermem, "add", "-f", pipe, meanwhile=stop)
    assert code == -signal.SIGINT
    stopping, summary, end = screen(shown)
    assert stopping.startswith("stopping: what is in flight is finished first")
    assert "stopped: signal; the same command does the rest" in summary
    assert end == ""


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("\n", 2), ("no\n", 2)])
def test_delete_all_asks(filled, answer, left):
    code, shown = in_terminal(filled, "delete", "--all", typed=answer)
    assert "Ana drinks green tea" in shown
    assert "Forget 2 memories of the whole store? [y/N]" in shown
    assert "\x1b]0" not in shown
    assert (code, len(filled.memories())) == (0 if left == 0 else 1, left)


def test_add_without_anything_is_a_short_help_and_no_hang(powermem):
    code, shown = in_terminal(powermem, "add")
    assert (code, shown.split("\n")[0]) == (2, "error: what shall be remembered?")


@pytest.mark.parametrize(
    ("columns", "env"),
    [
        (20, {}),
        (40, {"NO_COLOR": "1"}),
        (60, {"TERM": "dumb"}),
        (120, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}),
        (300, {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}),
    ],
)
def test_any_terminal_gets_what_it_can_show(filled, columns, env):
    path = filled.write("more.jsonl", *({"memory": f"Füße {i}"} for i in range(300)), {"memory": 7})
    code, shown = in_terminal(filled, "add", "-f", path, columns=columns, env=env)
    assert (code, "Traceback" in shown) == (3, False)
    assert all(part in " ".join(shown.split()) for part in ("300 added", "1 rejected"))
    code, table = in_terminal(filled, "list", "--all", columns=columns, env=env)
    assert (code, "Traceback" in table) == (0, False)
    assert all(len(line) <= columns for line in SGR.sub("", table).split("\n"))
    for text in (shown, table):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", re.sub(r"\r?\x1b\[K|\x1b\[[0-9;]*m", "", text))
        assert "\x1b[?25l" not in text, "the cursor is never hidden, so that no end can leave it so"
        if env.get("PYTHONIOENCODING") == "ascii":
            assert text.isascii()
        if "NO_COLOR" in env or env.get("TERM") == "dumb":
            assert not SGR.search(text)
    assert ("\x1b" in shown) == (env.get("TERM") != "dumb")


def test_a_window_that_changes_its_size(powermem):
    pipe = powermem.folder / "pipe"
    os.mkfifo(pipe)

    def change(_process, terminal):
        with pipe.open("w") as writer:
            for columns in (20, 300, 40):
                resize(terminal, columns)
                writer.write(f'{{"memory": "at {columns} columns"}}\n')
                writer.flush()

    code, shown = in_terminal(powermem, "add", "-f", pipe, meanwhile=change)
    assert (code, "3 added" in shown, "Traceback" in shown) == (0, True, False)
