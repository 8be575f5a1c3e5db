"""How the program ends: exit codes, which error ends in which, and death by a signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from enum import IntEnum
from typing import Final, TextIO

from powermem_cli.errors import (
    EmbedderMismatch,
    InvariantError,
    KeyMissing,
    Locked,
    NotFound,
    PowerMemError,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    StoreBusy,
    StoreError,
    UsageError,
)


class Exit(IntEnum):
    DONE = 0  # also: nothing new, only duplicates, no hits
    NEGATIVE = 1  # not found, every record failed, stopped by --max-failures
    USAGE = 2  # nothing was started
    PARTIAL = 3  # the end was reached, at least one record was rejected or failed
    SETUP = 4  # key, model, dimensions, quota: a person must act
    STORE = 5  # corrupt, full, not permitted: a person must act
    BUG = 70  # an invariant of ours is broken
    LATER = 75  # run the same command again; what was done is kept


MEANINGS: Final = {
    Exit.DONE: "done; also when there was nothing new, or nothing found",
    Exit.NEGATIVE: "no: the id is not there, every record failed, too many failed, --fail-if-empty",
    Exit.USAGE: "the command is wrong; nothing was started",
    Exit.PARTIAL: "the end was reached, but records were rejected or failed; or an input behind others can't be read",
    Exit.SETUP: "a person must act: a key, a quota, a model, or its dimensions are not those of the store",
    Exit.STORE: "a person must act: the store is damaged, full, or not permitted",
    Exit.BUG: "a promise of ours is broken: please report",
    Exit.LATER: "try later: another run of this job is under way, or the deadline is reached; what was done is kept",
}

# From the most special class to the most general: the first that fits counts.
_EXIT_OF: tuple[tuple[type[PowerMemError], Exit], ...] = (
    (KeyMissing, Exit.SETUP),
    (UsageError, Exit.USAGE),
    (NotFound, Exit.NEGATIVE),
    (Locked, Exit.LATER),
    (StoreBusy, Exit.LATER),
    (ProviderBusy, Exit.LATER),
    (EmbedderMismatch, Exit.SETUP),
    (ProviderRefused, Exit.SETUP),
    (ProviderError, Exit.NEGATIVE),
    (StoreError, Exit.STORE),
    (InvariantError, Exit.BUG),
)


_STOP_REASON_OF: tuple[tuple[type[PowerMemError], str], ...] = (
    (KeyMissing, "auth"),
    (UsageError, "usage"),
    (NotFound, "end"),
    (Locked, "locked"),
    (StoreError, "store"),
    (ProviderBusy, "provider_unavailable"),
    (EmbedderMismatch, "auth"),
    (ProviderRefused, "auth"),
    (ProviderError, "provider"),
)


_GRAVEST_FIRST: Final = (
    *(Exit.BUG, Exit.STORE, Exit.SETUP, Exit.LATER, Exit.USAGE),
    *(Exit.PARTIAL, Exit.NEGATIVE, Exit.DONE),
)


def gravest(codes: Iterable[Exit]) -> Exit:
    """The one to end with if several apply: what a person must act on before what a script may try again."""
    return min(codes, key=_GRAVEST_FIRST.index, default=Exit.DONE)


def gravest_error(errors: Iterable[PowerMemError]) -> PowerMemError | None:
    """Of several of a kind the first."""
    return min(errors, key=lambda error: _GRAVEST_FIRST.index(exit_of(error)), default=None)


def stop_reason_of(error: PowerMemError) -> str:
    """Why a run ended, in the words of the JSON it prints last."""
    return next((reason for kind, reason in _STOP_REASON_OF if isinstance(error, kind)), "bug")


def exit_of(error: PowerMemError) -> Exit:
    return next((code for kind, code in _EXIT_OF if isinstance(error, kind)), Exit.BUG)


def die_of(number: int) -> None:
    """End as the signal would have ended us: a shell's loop stops, systemd sees a clean stop."""
    with suppress(OSError):  # who would have read it may be gone
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def die_of_a_closed_pipe() -> None:
    """As every filter does whose reader has seen enough: `powermem list --all | head`."""
    let_go(sys.stdout)
    if hasattr(signal, "SIGPIPE"):
        die_of(signal.SIGPIPE)
    raise SystemExit(1)


def let_go(stream: TextIO) -> None:
    """What is still buffered can't be written: without this the interpreter complains about it at its end."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
