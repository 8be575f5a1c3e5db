"""Time that does not pass as it should: a process that is stopped and goes on, a clock that is set while it runs."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest
from checker import conserved
from crash.heard import all_is_there, end_of, listen, written
from fake_api import DIMS, FakeApi


@pytest.fixture
def talks(powermem):
    return written(powermem, 400, 8)


def stop_for(process, seconds: float = 0) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def test_a_process_that_was_stopped_goes_on(powermem, talks):
    lines = talks.read_bytes().splitlines(keepends=True)
    with powermem.started("add", "-", "--job", "mine", "--jsonl", "--progress", "log") as process:
        said = b""
        for half in (lines[:200], lines[200:]):
            process.stdin.writelines(half)
            process.stdin.flush()
            said += listen(process)  # so it is at work
            stop_for(process)
        assert powermem.inside("add", "-f", talks, "--job", "mine").code == 75  # its lock is its own
        rest, err = end_of(process)
    assert process.returncode == 0, err
    assert b"-0:" not in err
    assert conserved(json.loads(rest.splitlines()[-1]))
    assert all_is_there(powermem, talks, said, rest)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [5, 600])
def test_a_stop_that_is_longer_than_any_timeout(powermem, talks, seconds):
    """What was in flight has timed out when it goes on, once each; that is no storm, and nothing fails of it."""
    with FakeApi(latency=0.1) as api:
        env = {"EMBEDDING_PROVIDER": "openai", "EMBEDDING_API_KEY": "sk-test", "EMBEDDING_MODEL": "fake"}
        env |= {"EMBEDDING_DIMS": str(DIMS), "OPENAI_EMBEDDING_BASE_URL": api.url, "POWERMEM_TIMEOUT": "2"}
        options = ("add", "-f", talks, "--jsonl", "--batch-size", "4", "-c", "16", "--progress", "log")
        with powermem.started(*options, env=env) as process:
            said = listen(process, 20)
            stop_for(process, seconds)
            rest, err = end_of(process)
        calls = len(api.requests)
    assert process.returncode == 0, err
    summary = json.loads(rest.splitlines()[-1])
    assert (summary["failed"], conserved(summary)) == (0, True)
    assert b"-0:" not in err
    assert summary["http"]["retries"] <= 32
    assert calls <= 400 + 32
    assert all_is_there(powermem, talks, said, rest)


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
    assert all_is_there(powermem, talks, first.out)
    again = powermem.inside("add", "-f", talks, "--no-resume", "--json")
    assert (again.code, again.summary["added"]) == (0, 0)
    assert powermem.inside("search", "tea", "--json").json["results"]
