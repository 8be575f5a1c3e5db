"""Many callers, one call: what arrives while a call is under way goes together into the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


Waiting = tuple[Sequence[T], "asyncio.Future[list[R]]", int]
"""Items, for whom their results are, and what they count as."""


class Grouper(Generic[T, R]):
    """Gives the items of concurrent callers to *work* in one list, at most *most* at a time and of at most *callers*
    callers (one caller's items stay together), one call after another, and hands every caller its part of the results.

    All callers of a group go on in one turn of the event loop: *callers* bounds how long that turn takes.

    With *ahead*, work that takes calls in the order they are made is given a second call while it is at the first, but
    only a whole group (*most* items or *callers* callers): it need not wait for the event loop between the two, and
    what arrives slowly is still worked on together.

    A caller's items count as *weight*, where one stands for many.

    *work* returns one result per item, in order. If it raises, each caller whose items were in that call gets the
    error. There is no task while nothing waits, so nothing has to be closed.
    """

    def __init__(
        self, work: Callable[[list[T]], Awaitable[Sequence[R]]], *, most: int, callers: int = 128, ahead: bool = False
    ) -> None:
        self._work = work
        self._most = most
        self._callers = callers
        self._at_once = 2 if ahead else 1
        self._waiting: deque[Waiting[T, R]] = deque()
        self._weight_waiting = 0
        self._tasks: dict[object, asyncio.Task[None]] = {}

    def submit(self, items: Sequence[T], *, weight: int | None = None) -> asyncio.Future[list[R]]:
        """The results for *items*. If the caller is cancelled meanwhile, the items are worked on all the same."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[R]] = loop.create_future()
        if not items:
            future.set_result([])
            return future
        if any(task.get_loop() is not loop for task in self._tasks.values()):  # a loop may be closed over its tasks
            self._tasks.clear()
            self._waiting.clear()
            self._weight_waiting = 0
        weighed = len(items) if weight is None else weight
        self._waiting.append((items, future, weighed))
        self._weight_waiting += weighed
        if self._may_begin():
            mark = object()
            self._tasks[mark] = loop.create_task(self._until_nobody_waits(mark))
        return future

    async def settled(self) -> None:
        """Wait until what was submitted so far is done."""
        loop = asyncio.get_running_loop()
        while under_way := [task for task in self._tasks.values() if task.get_loop() is loop]:
            await asyncio.wait(under_way)

    def _may_begin(self) -> bool:
        """Whether what waits is worth another call beside those under way."""
        if not self._tasks:
            return True
        return len(self._tasks) < self._at_once and self._is_whole()

    def _is_whole(self) -> bool:
        return self._weight_waiting >= self._most or len(self._waiting) >= self._callers

    async def _until_nobody_waits(self, mark: object) -> None:
        try:
            await self._work_on_groups()
        finally:
            # At once, so that of two that end in one turn of the loop the second sees that it is the last.
            self._tasks.pop(mark, None)

    async def _work_on_groups(self) -> None:
        while self._waiting and (len(self._tasks) <= 1 or self._is_whole()):
            group = self._next_group()
            try:
                results = await self._work([item for items, _, _ in group for item in items])
            except Exception as error:  # noqa: BLE001 - it is the callers'
                for _, future, _ in group:
                    if not future.done():
                        future.set_exception(error)
            except asyncio.CancelledError:  # its event loop ends
                for _, future, _ in (*group, *self._waiting):
                    future.cancel()
                self._waiting.clear()
                self._weight_waiting = 0
                raise
            else:
                _hand_out(group, results)
            # Work that never waited for anything would otherwise be done for all groups in one turn of the loop.
            await asyncio.sleep(0)

    def _next_group(self) -> list[Waiting[T, R]]:
        group = [self._waiting.popleft()]
        weight = group[0][2]
        while self._waiting and len(group) < self._callers and weight + self._waiting[0][2] <= self._most:
            group.append(self._waiting.popleft())
            weight += group[-1][2]
        self._weight_waiting -= weight
        return group


def _hand_out(group: list[Waiting[T, R]], results: Sequence[R]) -> None:
    start = 0
    for items, future, _ in group:
        if not future.done():  # a caller may have been cancelled
            future.set_result(list(results[start : start + len(items)]))
        start += len(items)
