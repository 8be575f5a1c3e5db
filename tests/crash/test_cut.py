"""SIGKILL before every operation on a file, and power cuts at any of them: what was acknowledged is there afterwards."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from crash.disk import SECTOR, Content

pytestmark = pytest.mark.timeout(300)  # a busy machine takes its time

CUT = Path(__file__).with_name("cut.py")


def cut(*arguments: object) -> tuple[int, str]:
    """As a process of its own: it forks, which a process with threads should not."""
    done = subprocess.run([sys.executable, CUT, *map(str, arguments)], capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_killed_before_some_operations():
    code, said = cut("every", "--step", 120, "--first", random.randrange(120))
    assert code == 0, said
    assert int(said.split()[0]) > 150  # operations that were seen


def test_some_power_cuts():
    code, said = cut("power", "--trials", 2)
    assert code == 0, said


def test_power_cuts_are_felt_where_commits_are_not_synced():
    code, said = cut("power", "--trials", 2, "--seed", 1, "--normal")
    assert code == 1, said
    assert "broken promises" in said


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("arguments", [("every",), ("power", "--trials", 200)])
def test_all_of_them(arguments):
    code, said = cut(*arguments)
    print(said)
    assert code == 0, said


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_without_the_ledger_a_kill_between_commit_and_checkpoint_is_found_out():
    code, said = cut("every", "--without-ledger")
    assert code == 1, said
    assert "doubled" in said


def test_what_was_synced_stays_and_nothing_is_left_that_was_never_written():
    content = Content(b"old")
    content.write(b"A" * 3 * SECTOR, 0)
    content.sync()
    content.write(b"B" * 3 * SECTOR, 0)
    content.truncate(2 * SECTOR)
    left = {content.after_power_cut(random.Random(seed)) for seed in range(200)}
    assert {b"A" * 3 * SECTOR, b"B" * 2 * SECTOR, b"A" * 2 * SECTOR, b"B" * 3 * SECTOR} < left
    torn = left - {bytes([byte]) * size * SECTOR for byte in b"AB" for size in (2, 3)}
    assert torn
    assert all(set(image) <= set(b"AB") for image in torn)
