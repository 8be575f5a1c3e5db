"""Ctrl-C and its like during a long job: the first asks it to stop, the second ends it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

GRACE: Final = 30.0  # seconds that what is in flight may take after the first Ctrl-C
SENT_TWICE: Final = (
    0.2  # seconds within which another is the same one: `timeout` and npm send it to us and to our group
)


class Signals:
    """While open: the first SIGINT, SIGTERM or SIGHUP asks the run to stop, the second ends it at once.

    A signal that was ignored when we started stays ignored: nohup and a shell's background jobs mean it.
    """

    def __init__(self, stop: Callable[[str], None]) -> None:
        self.caught: int | None = None
        self._caught_at = 0.0
        self._stop = stop
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        import asyncio  # noqa: PLC0415 - `--help` does without

        self._loop = asyncio.get_running_loop()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                # Not the loop's own handlers: they wait for the loop, which waits where nobody reads our output.
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.caught is not None:
            if time.monotonic() - self._caught_at > SENT_TWICE:
                self._end()
            return
        self.caught, self._caught_at = number, time.monotonic()
        self._loop.call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        self._stop("signal")
        self._loop.call_later(GRACE, self._end)

    def _end(self) -> None:
        # What is in flight is given up: the ledger says what of it was kept, the next run does the rest.
        number = self.caught or signal.SIGINT
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
