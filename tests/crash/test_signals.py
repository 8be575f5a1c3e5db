"""A signal in the middle: what is in flight is finished, the sums add up, the program dies of the signal, and the same
command does the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys

import pytest
from checker import conserved
from crash.heard import RECORDS, all_is_there, end_of, listen, written
from program import Powermem

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def talks(powermem):
    return written(powermem)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_in_the_middle_of_a_file(powermem, talks, number):
    with powermem.started("add", "-f", talks, "--jsonl", "--batch-size", 64, stdin=subprocess.DEVNULL) as process:
        said = listen(process, 100)
        process.send_signal(number)
        rest, err = end_of(process)
    assert process.returncode == -number  # died of it: a shell's loop ends, systemd sees a clean stop

    summary = json.loads((said + rest).splitlines()[-1])
    assert (summary["stop_reason"], summary["exit_code"], conserved(summary)) == ("signal", 128 + number, True)
    done = summary["read"] - summary["not_started"]
    assert 100 <= done < RECORDS  # what was heard of before the signal, and no more than a full pipe lets through
    assert done == len((said + rest).splitlines()) - 1
    assert len(err.splitlines()) == 1
    assert "stopped: signal; the same command does the rest" in err.decode()
    assert all_is_there(powermem, talks, said, rest, complete=False)

    again = powermem("add", "-f", talks, "--jsonl")
    assert again.code == 0
    assert again.summary["read"] < RECORDS  # it went on where it stood
    assert all_is_there(powermem, talks, said, rest, again.out)


def test_hammering_ctrl_c_ends_it_even_if_nobody_reads_what_it_says(powermem, talks):
    with powermem.started("add", "-f", talks, "--jsonl", stdin=subprocess.DEVNULL) as process:
        said = listen(process)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        rest, _ = end_of(process)
    assert process.returncode == -signal.SIGINT
    again = powermem("add", "-f", talks, "--jsonl")
    assert all_is_there(powermem, talks, said, rest, again.out)


def test_one_that_is_sent_twice_at_once_is_one(powermem, talks):
    """`timeout` sends it to the process and to its group, as a terminal and a wrapper that passes it on do together."""
    with powermem.started("add", "-f", talks, "--jsonl", stdin=subprocess.DEVNULL) as process:
        said = listen(process, 100)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        rest, err = end_of(process)
    assert process.returncode in {-signal.SIGINT, -signal.SIGTERM}  # the system delivers the lower number first
    assert "stopped: signal; the same command does the rest" in err.decode()
    assert all_is_there(powermem, talks, said, rest, complete=False)


def test_a_pipe_that_has_no_more_to_say_yet_is_left_at_once(powermem):
    with powermem.started("add", "-", "--jsonl") as process:
        for text in ("the first", "the second"):
            process.stdin.write(json.dumps({"memory": text}).encode() + b"\n")
            process.stdin.flush()
            assert text in listen(process).decode()  # at once: it does not wait for the next
        process.send_signal(signal.SIGTERM)
        process.wait(10)  # its input is still open
        rest, _ = end_of(process)
    assert process.returncode == -signal.SIGTERM
    assert json.loads(rest.splitlines()[-1])["added"] == 2
    assert powermem.memories() == ["the first", "the second"]


def test_a_signal_that_was_ignored_from_the_start_stays_ignored(powermem):
    nohup = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    wrapper = (sys.executable, "-c", nohup, "-m", "powermem_cli")
    with powermem.started("add", "-", "--format", "jsonl", "--jsonl", wrapper=wrapper) as process:
        process.stdin.write(b'{"memory": "before"}\n')
        process.stdin.flush()
        listen(process)
        process.send_signal(signal.SIGHUP)
        process.stdin.write(b'{"memory": "after"}\n')
        rest, _ = end_of(process)
    assert process.returncode == 0
    assert json.loads(rest.splitlines()[-1])["added"] == 2


def test_ctrl_c_ends_other_commands_by_the_signal_too(powermem, tmp_path):
    fifo = tmp_path / "questions"
    os.mkfifo(fifo)
    with powermem.started("search", "-f", fifo, "--jsonl", stdin=subprocess.DEVNULL) as process:
        with fifo.open("w") as questions:
            questions.writelines(["anything?\n"] * 16)
            questions.flush()
            listen(process, 16)
            process.send_signal(signal.SIGINT)
            process.wait(10)
        _, err = end_of(process)
    assert process.returncode == -signal.SIGINT
    assert err == b""


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", STOPPING)
def test_signals_at_a_hundred_moments(tmp_path, number):
    dice = random.Random(number)
    for trial in range(100):
        powermem = Powermem(tmp_path / str(trial))
        powermem.folder.mkdir()
        talks = written(powermem, 1000, dice.randrange(1_000_000))
        with powermem.started("add", "-f", talks, "--jsonl", stdin=subprocess.DEVNULL) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(dice.uniform(0.1, 0.9))  # before that, it is Python's own start that answers
            process.send_signal(number)
            said, err = end_of(process)
        # On a busy machine it may still be Python's own start that answers.
        is_python = process.returncode == 1 and b"KeyboardInterrupt" in err and b"powermem_cli" not in err
        assert is_python or process.returncode in {-number, 0}
        assert is_python or b"Traceback" not in err
        again = powermem("add", "-f", talks, "--jsonl")
        assert again.code == 0
        assert all_is_there(powermem, talks, said, again.out)
