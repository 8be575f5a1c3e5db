"""An event loop whose clock jumps to the next timer instead of waiting: hours of back-off in milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Only for what waits for timers; a real socket would wait for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        really = self._selector.select

        def select(timeout: float | None = None) -> Any:
            assert timeout is not None, "nothing is ever going to happen"
            self._now += timeout
            return really(0)

        self._selector.select = select

    def time(self) -> float:
        return self._now


def run(work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """What *work* returns, and the virtual seconds it took."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work), loop.time()
    finally:
        loop.close()
