"""One call for all who ask for the same thing while it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class InFlight(Generic[T]):
    """Whoever asks for what is asked for already waits for that answer, or error. Nothing is kept once it is there."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, _Shared[T]] = {}

    async def result(self, name: Hashable, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What *call* returns or raises. It is cancelled once all who wait for it are."""
        shared = self._calls.get(name)
        if shared is None or shared.task.get_loop() is not asyncio.get_running_loop():
            shared = self._calls[name] = _Shared(asyncio.ensure_future(call()))
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting or shared.task.done():
                shared.task.cancel()
                if self._calls.get(name) is shared:
                    del self._calls[name]


class _Shared(Generic[T]):
    """A call and how many wait for it."""

    def __init__(self, task: asyncio.Future[T]) -> None:
        self.task = task
        self.waiting = 0
