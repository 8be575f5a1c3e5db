"""What goes where: results on stdout, talk on stderr, nothing else on either; and streams that are closed, full or gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from checker import check
from program import PROGRAM, SECONDS

TEA = {"user_id": "ana", "memory": "Ana drinks green tea"}


@pytest.fixture
def filled(powermem):
    powermem.inside("add", "-f", powermem.write("in.jsonl", TEA, {"memory": "The train leaves at nine"}))
    return powermem


def shell(powermem, redirection, *arguments):
    """The command as bash runs it, with streams closed or redirected."""
    return powermem("-c", f'"$@" {redirection}', "bash", *PROGRAM, *arguments, wrapper=("bash",))


# ── nobody listens ──


@pytest.mark.parametrize(
    "arguments", [["list"], ["list", "--json"], ["add", "-f", "more.jsonl", "--jsonl"], ["--help"], ["--version"]]
)
def test_a_full_disk_behind_stdout_is_no_success(filled, arguments):
    filled.write("more.jsonl", {"memory": "one more"})
    said = shell(filled, ">/dev/full", *arguments)
    assert said.code == 5
    assert said.err.splitlines()[-1] == "error: could not write to the standard output: No space left on device"
    assert "Traceback" not in said.err


def test_a_closed_stdout_is_no_success_where_there_is_something_to_say(filled):
    said = shell(filled, ">&-", "list")
    assert (said.code, said.err) == (5, "error: could not write to the standard output: Bad file descriptor\n")
    assert shell(filled, ">&-", "add", "-f", "in.jsonl").code == 0


def test_a_closed_or_full_stderr_is_no_failure(filled):
    for redirection in ("2>&-", "2>/dev/full"):
        assert shell(filled, redirection, "add", "-f", "in.jsonl", "--no-resume").code == 0
        assert shell(filled, redirection, "get", "17", "--json").json["not_found"] == ["17"]


def test_a_closed_stdin_holds_nothing(filled):
    said = shell(filled, "<&-", "add")
    assert (said.code, said.out) == (0, "")
    assert "nothing new to read" in said.err
    assert filled.memories() == [TEA["memory"], "The train leaves at nine"]


def test_no_file_of_ours_gets_the_number_of_a_closed_stream(powermem):
    path = powermem.write("in.jsonl", TEA, {"memory": 7})
    said = shell(powermem, "<&- >&- 2>&-", "add", "-f", path, "--rejects", "rejects.jsonl")
    assert (said.code, said.out, said.err) == (3, "", "")
    assert powermem.memories() == [TEA["memory"]]
    assert len((powermem.folder / "rejects.jsonl").read_text("utf-8").splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--version"], ["list"], ["list", "--json"]])
def test_a_reader_that_is_gone_from_the_start(filled, arguments):
    ours, theirs = os.pipe()
    os.close(ours)
    said = filled(*arguments, stdout=theirs)
    os.close(theirs)
    assert (said.code, said.err) == (-signal.SIGPIPE, "")


def test_a_reader_that_has_seen_enough_ends_a_list(filled):
    filled.inside("add", "-f", filled.write("many.jsonl", *({"memory": f"memory {i}"} for i in range(3000))))
    with filled.started("list", "--all", stdin=subprocess.DEVNULL) as process:
        assert TEA["memory"].encode() in process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        process.wait()
    assert (process.returncode, err) == (-signal.SIGPIPE, b"")


def test_a_reader_that_has_seen_enough_stops_an_ingestion_in_order(powermem):
    path = powermem.write("in.jsonl", *({"memory": f"memory {i} {'x' * 100}"} for i in range(2000)))
    with powermem.started("add", "-f", path, "--jsonl", "--batch-size", 64, stdin=subprocess.DEVNULL) as process:
        first = process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read().decode()
        process.wait()
    assert process.returncode == -signal.SIGPIPE
    assert len(err.splitlines()) == 1
    assert "stopped: output" in err
    again = powermem.inside("add", "-f", path, "--jsonl")
    assert 0 < again.summary["added"] < 2000
    (powermem.folder / "acks").write_bytes(first + again.out.encode())
    assert not check(powermem.database, powermem.folder / "acks", path)


# ── cron ──


def test_quiet_in_an_empty_environment_says_nothing(powermem):
    # Only where to keep things is said: a test has no business in the home of who runs it.
    powermem.environ = {"XDG_STATE_HOME": str(powermem.folder), "XDG_CONFIG_HOME": str(powermem.folder)}
    path = powermem.write("in.jsonl", TEA)
    for command in (["add", "-f", path], ["add", "x"], ["delete", "--all", "-y"]):
        said = powermem(*command, "-q", "--db", powermem.database)
        assert (said.code, said.out, said.err) == (0, "", ""), command


def test_quiet_still_says_what_went_wrong(powermem):
    path = powermem.write("in.jsonl", TEA, {"memory": 7})
    said = powermem.inside("add", "-f", path, "-q")
    assert (said.code, len(said.err.splitlines())) == (3, 1)


# ── forms ──


@pytest.mark.parametrize("environ", [{}, {"PYTHONIOENCODING": "ascii"}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}])
def test_stdout_is_json_and_nothing_else(filled, environ):
    path = filled.write("more.jsonl", {"memory": "Füße \u202e in der Kälte \x1b[31m"}, "{")
    added = filled("add", "-f", path, "--jsonl", "--progress", "bar", env=environ)
    assert [line["type"] for line in added.jsonl] == ["record", "record", "summary"]
    listed = filled.inside("list", "--json", env=environ)
    assert listed.json["results"][2]["memory"] == "Füße \u202e in der Kälte \x1b[31m"
    for said in (added, listed):
        assert not {"\x1b", "\u202e"} & set(said.out)


def test_what_an_encoding_lacks_is_written_as_escapes(filled):
    file = filled.write("questions", "Was trinkt sie? ✓")
    said = filled("search", "-f", file, env={"PYTHONIOENCODING": "ascii"})
    assert said.code == 0
    assert said.out.startswith("# Was trinkt sie? \\u2713\n")


def test_stored_text_can_t_speak_to_a_terminal_or_break_a_line(filled):
    evil = "a\tb\nc\x1b]52;c;ZWNobw==\x07\x9b31m\u202ed[/nope]\u2028"
    filled.inside("add", "-", "--format", "jsonl", stdin=json.dumps({"memory": evil, "user_id": "e"}))
    said = filled.inside("list", "-u", "e")
    assert len(said.out.splitlines()) == 1
    assert said.rows[0][3] == r"a\tb\nc\x1b]52;c;ZWNobw==\x07\x9b31m\u202ed[/nope]\u2028"


def test_a_file_name_can_t_speak_to_a_terminal(powermem):
    path = powermem.folder / "in\x1b[31m.jsonl"
    path.write_text('{"memory": 7}\n', "utf-8")
    said = powermem.inside("add", "-f", path)
    assert r"in\x1b[31m.jsonl:1" in said.err
    assert "\x1b" not in said.err


def test_a_pipe_that_brings_nothing_yet_is_waited_for(powermem):
    with powermem.started("add", "-", "--format", "text", "--json") as process:
        for text in (b"one\n", b"two\n"):
            process.stdin.write(text)
            process.stdin.flush()
        process.stdin.close()
        summary = json.loads(process.stdout.read())
        process.wait(SECONDS)
    assert summary["added"] == 2
