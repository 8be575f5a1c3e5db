"""A migration that is cut off: the old tables or the new ones, never something in between, and no memory less."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("migrate.py")


def migrate(*arguments: object) -> tuple[int, str]:
    """As a process of its own: it forks, which a process with threads should not."""
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_cut_off_at_some_operations():
    code, said = migrate("--step", 12, "--first", random.randrange(12))
    assert code == 0, said
    assert int(said.split()[0]) >= 3


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("arguments", [(), ("--power-cuts", 200)])
def test_cut_off_at_all_of_them(arguments):
    code, said = migrate(*arguments)
    print(said)
    assert code == 0, said
