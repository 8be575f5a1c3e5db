"""As shells and schedulers run it: loops, background jobs, nohup, cron; and a process that is stopped for a while."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from checker import check, conserved
from crash.kill import write_records
from program import PROGRAM, Powermem

RECORDS = 1500  # more than a pipe holds acknowledgements of: a run nobody listens to can't end


@pytest.fixture
def powermem(tmp_path):
    return Powermem(tmp_path)


@pytest.fixture
def talks(powermem):
    path = powermem.folder / "talks.jsonl"
    write_records(path, RECORDS, random.Random(6))
    return path


def bash(powermem, script: str, *arguments: object, **options: object):
    """*script* with the program and *arguments* as "$@"."""
    command = ("-c", script, "bash", *PROGRAM, *arguments)
    return powermem.started(*command, wrapper=("bash",), stdin=subprocess.DEVNULL, **options)


def all_is_there(powermem, talks: Path, *said: bytes) -> bool:
    acknowledgements = powermem.folder / "acks.jsonl"
    acknowledgements.write_bytes(b"".join(said))
    return not check(powermem.database, acknowledgements, talks)


def test_ctrl_c_ends_the_loop_it_runs_in(powermem, talks):
    loop = 'for i in 1 2 3; do "$@"; done; echo after'
    with bash(powermem, loop, "add", "-f", talks, "--jsonl", start_new_session=True) as process:
        said = process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
        said += process.stdout.read()
        process.wait()
    summaries = [line for line in map(json.loads, said.splitlines()) if line["type"] == "summary"]
    assert [summary["stop_reason"] for summary in summaries] == ["signal"]
    assert process.returncode == -signal.SIGINT
    assert all_is_there(powermem, talks, said, powermem("add", "-f", talks, "--jsonl").out.encode())


@pytest.mark.parametrize(
    ("script", "number"), [('"$@" & echo $!; wait', signal.SIGINT), ('nohup "$@" & echo $!; wait', signal.SIGHUP)]
)
def test_a_job_in_the_background_does_not_hear_what_it_should_not(powermem, talks, script, number):
    with bash(powermem, script, "add", "-f", talks, "--jsonl") as process:
        child = int(process.stdout.readline())
        said = process.stdout.readline()
        os.kill(child, number)
        said += process.stdout.read()
        process.wait()
    assert process.returncode == 0
    assert json.loads(said.splitlines()[-1])["stop_reason"] == "end"
    assert all_is_there(powermem, talks, said)


@pytest.mark.parametrize("times", [2, 3])
def test_a_signal_more_than_once(powermem, talks, times):
    with powermem.started("add", "-f", talks, "--jsonl", stdin=subprocess.DEVNULL) as process:
        said = process.stdout.readline()
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.02)  # or the system makes one of them
        said += process.stdout.read()
        err = process.stderr.read()
        process.wait()
    assert process.returncode == -signal.SIGTERM
    assert b"Traceback" not in err
    whole = b"".join(line for line in said.splitlines(keepends=True) if line.endswith(b"\n"))
    assert all_is_there(powermem, talks, whole, powermem("add", "-f", talks, "--jsonl").out.encode())


def test_stopped_for_a_while_it_goes_on(powermem, talks):
    with powermem.started("add", "-f", talks, "--jsonl", "--progress", "log", stdin=subprocess.DEVNULL) as process:
        said = process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        second = powermem("add", "-f", talks, "--jsonl")
        assert second.code == 75  # its lock is its own, stopped or not
        process.send_signal(signal.SIGCONT)
        said += process.stdout.read()
        err = process.stderr.read().decode()
        process.wait()
    assert process.returncode == 0, err
    summary = json.loads(said.splitlines()[-1])
    assert conserved(summary)
    assert summary["failed"] == 0
    assert all_is_there(powermem, talks, said)


def test_cron_says_nothing_about_success(powermem, talks):
    """No home, no terminal, nothing but what the line says; the last run may still be under way."""
    where = (
        "env",
        "-i",
        f"XDG_STATE_HOME={powermem.folder}",
        f"XDG_CONFIG_HOME={powermem.folder}",
        "PATH=/usr/bin:/bin",
    )
    line = ("add", "-f", talks, "--db", powermem.database, "-q", "--if-locked", "skip")
    script = 'cd / && "$@" & cd / && "$@"; wait $!'
    command = ("-c", script, "bash", *where, *PROGRAM, *line)
    done = powermem(*command, wrapper=("bash",))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert all_is_there(powermem, talks, b"")


def test_head_has_seen_enough(powermem, talks):
    with bash(powermem, '"$@" | head -1; exit ${PIPESTATUS[0]}', "add", "-f", talks, "--jsonl") as process:
        said = process.stdout.read()
        err = process.stderr.read()
        process.wait()
    assert process.returncode == 128 + signal.SIGPIPE
    assert len(said.splitlines()) == 1
    assert b"Traceback" not in err
    assert all_is_there(powermem, talks, said, powermem("add", "-f", talks, "--jsonl").out.encode())
