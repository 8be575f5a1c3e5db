"""Many callers, one call: what arrives while a call is under way goes together into the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Grouper(Generic[T, R]):
    """Gives the items of concurrent callers to *work* in one list, at most *most* at a time and of at most *callers*
    callers (one caller's items stay together), one call after another, and hands every caller its part of the results.

    All callers of a group go on in one turn of the event loop: *callers* bounds how long that turn takes.

    *work* returns one result per item, in order. If it raises, each caller whose items were in that call gets the
    error. There is no task while nothing waits, so nothing has to be closed.
    """

    def __init__(self, work: Callable[[list[T]], Awaitable[Sequence[R]]], *, most: int, callers: int = 128) -> None:
        self._work = work
        self._most = most
        self._callers = callers
        self._waiting: deque[tuple[Sequence[T], asyncio.Future[list[R]]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[T]) -> list[R]:
        """The results for *items*. If the caller is cancelled meanwhile, the items are worked on all the same."""
        if not items:
            return []
        loop = asyncio.get_running_loop()
        if not self._is_under_way():
            self._waiting.clear()  # of callers whose event loop has ended
            self._task = loop.create_task(self._until_nobody_waits())
        future: asyncio.Future[list[R]] = loop.create_future()
        self._waiting.append((items, future))
        return await future

    async def settled(self) -> None:
        """Wait until what was submitted so far is done."""
        while self._task is not None and self._is_under_way():
            await asyncio.wait([self._task])

    def _is_under_way(self) -> bool:
        """A loop may be closed over its task: that one is never done."""
        return self._task is not None and not self._task.done() and not self._task.get_loop().is_closed()

    async def _until_nobody_waits(self) -> None:
        while self._waiting:
            group = self._next_group()
            try:
                results = await self._work([item for items, _ in group for item in items])
            except Exception as error:  # noqa: BLE001 - it is the callers'
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
            except asyncio.CancelledError:  # its event loop ends
                for _, future in (*group, *self._waiting):
                    future.cancel()
                self._waiting.clear()
                raise
            else:
                _hand_out(group, results)
            # Work that never waited for anything would otherwise be done for all groups in one turn of the loop.
            await asyncio.sleep(0)

    def _next_group(self) -> list[tuple[Sequence[T], asyncio.Future[list[R]]]]:
        group = [self._waiting.popleft()]
        size = len(group[0][0])
        while self._waiting and len(group) < self._callers and size + len(self._waiting[0][0]) <= self._most:
            group.append(self._waiting.popleft())
            size += len(group[-1][0])
        return group


def _hand_out(group: list[tuple[Sequence[T], asyncio.Future[list[R]]]], results: Sequence[R]) -> None:
    start = 0
    for items, future in group:
        if not future.done():  # a caller may have been cancelled
            future.set_result(list(results[start : start + len(items)]))
        start += len(items)
