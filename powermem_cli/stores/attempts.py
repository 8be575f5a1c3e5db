"""Transactions on a database server, tried again as a whole: which failures allow it, and for how long."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from powermem_cli.errors import StoreBusy
from powermem_cli.retry import backoff

T = TypeVar("T")

PATIENCE: Final = 30.0  # seconds from the first attempt to the start of the last
FIRST_WAIT: Final = 0.02
LONGEST_WAIT: Final = 1.0


class Conflict(StoreBusy):
    """Another transaction was first with a key: tried again, this one sees what it wrote."""


class OutcomeUnknown(StoreBusy):
    """The connection ended while the transaction was being committed: it may have happened or not."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"the connection to {place} was lost while it committed: what was written may be there or not",
            hint="run the same again: what is in the ledger is not done twice",
        )


async def until_done(attempt: Callable[[], Awaitable[T]], *, on: type[StoreBusy] = StoreBusy) -> T:
    """The result of *attempt*, called again while it raises such an error and PATIENCE lasts."""
    last_start = time.monotonic() + PATIENCE
    failures = 0
    while True:
        try:
            return await attempt()
        except on:
            failures += 1
            pause = backoff(failures, FIRST_WAIT, LONGEST_WAIT, random.random)
            if time.monotonic() + pause > last_start:
                raise
        await anyio.sleep(pause)
