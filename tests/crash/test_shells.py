"""As shells and schedulers run it: loops, background jobs, nohup, cron."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from crash.heard import all_is_there, end_of, listen, written
from program import PROGRAM


@pytest.fixture
def talks(powermem):
    return written(powermem, seed=6)


def bash(powermem, script: str, *arguments: object, **options: object):
    """*script* with the program and *arguments* as "$@"."""
    command = ("-c", script, "bash", *PROGRAM, *arguments)
    return powermem.started(*command, wrapper=("bash",), stdin=subprocess.DEVNULL, **options)


def test_ctrl_c_ends_the_loop_it_runs_in(powermem, talks):
    loop = 'for i in 1 2 3; do "$@"; done; echo after'
    with bash(powermem, loop, "add", "-f", talks, "--jsonl", start_new_session=True) as process:
        said = listen(process)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
        said += end_of(process)[0]
    summaries = [line for line in map(json.loads, said.splitlines()) if line["type"] == "summary"]
    assert [summary["stop_reason"] for summary in summaries] == ["signal"]
    assert process.returncode == -signal.SIGINT
    assert all_is_there(powermem, talks, said, powermem("add", "-f", talks, "--jsonl").out)


@pytest.mark.parametrize(
    ("script", "number"), [('"$@" & echo $!; wait', signal.SIGINT), ('nohup "$@" & echo $!; wait', signal.SIGHUP)]
)
def test_a_job_in_the_background_does_not_hear_what_it_should_not(powermem, talks, script, number):
    with bash(powermem, script, "add", "-f", talks, "--jsonl") as process:
        child = int(listen(process))
        said = listen(process)
        os.kill(child, number)
        said += end_of(process)[0]
    assert process.returncode == 0
    assert json.loads(said.splitlines()[-1])["stop_reason"] == "end"
    assert all_is_there(powermem, talks, said)


@pytest.mark.parametrize("times", [2, 3])
def test_a_signal_more_than_once(powermem, talks, times):
    with powermem.started("add", "-f", talks, "--jsonl", stdin=subprocess.DEVNULL) as process:
        said = listen(process)
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.02)  # or the system makes one of them
        rest, err = end_of(process)
    assert process.returncode == -signal.SIGTERM
    assert b"Traceback" not in err
    assert all_is_there(powermem, talks, said, rest, powermem("add", "-f", talks, "--jsonl").out)


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
    assert all_is_there(powermem, talks)


def test_head_has_seen_enough(powermem, talks):
    with bash(powermem, '"$@" | head -1; exit ${PIPESTATUS[0]}', "add", "-f", talks, "--jsonl") as process:
        said, err = end_of(process)
    assert process.returncode == 128 + signal.SIGPIPE
    assert len(said.splitlines()) == 1
    assert b"Traceback" not in err
    assert all_is_there(powermem, talks, said, powermem("add", "-f", talks, "--jsonl").out)
