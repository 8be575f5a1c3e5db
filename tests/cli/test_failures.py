"""Exceptions of others, said as what they are."""

from __future__ import annotations

import errno
import os

import pytest

from powermem_cli.cli.exits import Exit, exit_of
from powermem_cli.cli.failures import as_ours
from powermem_cli.errors import ConfigError, StoreCorrupt


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


NO_MEMORY = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MemoryError(), "system.limits", "no more files, memory or threads: MemoryError"),
        (
            caused(ConfigError("the model is damaged"), NO_MEMORY),
            "system.limits",
            "threads: [Errno 12] Cannot allocate",
        ),
        (RuntimeError("can't start new thread"), "system.limits", "can't start new thread"),
        (OSError(errno.ENOSPC, "full"), "output.io", "could not write to the standard output: full"),
        (ZeroDivisionError("x"), "bug.invariant", "ZeroDivisionError: x"),
    ],
)
def test_what_it_was(error, code, says):
    ours = as_ours(error)
    assert (ours.code, ours.__cause__) == (code, error)
    assert says in ours.message
    assert exit_of(ours) == (Exit.BUG if code == "bug.invariant" else Exit.STORE)


def test_what_is_ours_stays_what_it_is():
    for error in (ConfigError("x"), caused(StoreCorrupt("y"), NO_MEMORY)):
        assert as_ours(error) is error
