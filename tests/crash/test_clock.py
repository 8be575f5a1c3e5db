"""Time that does not pass as it should: a process that is stopped and goes on, a clock that is set while it runs."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest
from checker import check, conserved
from crash.kill import write_records


@pytest.fixture
def talks(powermem):
    path = powermem.folder / "talks.jsonl"
    write_records(path, 400, random.Random(8))
    return path


def test_a_process_that_was_stopped_goes_on(powermem, talks):
    lines = talks.read_bytes().splitlines(keepends=True)
    with powermem.started("add", "-", "--jsonl", "--progress", "log") as process:
        said = b""
        for half in (lines[:200], lines[200:]):
            process.stdin.writelines(half)
            process.stdin.flush()
            said += process.stdout.readline()  # so it is at work
            process.send_signal(signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            process.send_signal(signal.SIGCONT)
        process.stdin.close()
        said += process.stdout.read()
        err = process.stderr.read()
        assert process.wait() == 0
    assert b"-0:" not in err
    assert conserved(json.loads(said.splitlines()[-1]))
    acknowledged = powermem.folder / "acks.jsonl"
    acknowledged.write_bytes(said)
    assert not check(powermem.database, acknowledged, talks)


def test_a_clock_that_jumps(powermem, talks, monkeypatch):
    """As after a suspension, or when somebody sets it: by hours, forward and back, at any moment."""
    real, dice = time.time_ns, random.Random(3)
    hours = (0, 0, 8, -1, -9, 24 * 365)
    monkeypatch.setattr(time, "time_ns", lambda: real() + dice.choice(hours) * 3_600_000_000_000)
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)
    first = powermem.inside("add", "-f", talks, "--jsonl", "--batch-size", 16, "--progress", "log")
    assert first.code == 0, first.err
    assert conserved(first.summary)
    assert 0 <= first.summary["seconds"] < 60
    acknowledged = powermem.folder / "acks.jsonl"
    acknowledged.write_text(first.out, "utf-8")
    assert not check(powermem.database, acknowledged, talks)
    again = powermem.inside("add", "-f", talks, "--no-resume", "--json")
    assert (again.code, again.summary["added"]) == (0, 0)
    assert powermem.inside("search", "tea", "--json").json["results"]
