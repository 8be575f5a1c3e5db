"""Many callers at once: few at work, few let in per turn of the event loop; whoever else waits for the loop gets it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

PER_TURN: Final = 64  # callers; each works for some 20 µs before it waits for something


class Turns:
    """`async with turns:` lets the first callers in at once and the others later, in order.

    A thousand tasks that a `gather` starts would otherwise all begin before the loop looks at anything else. And of
    thousands only *at_work* are inside together: what each holds meanwhile is what the garbage collector has to look
    through, all at once, while everybody waits.
    """

    def __init__(self, at_work: int) -> None:
        self._most = at_work
        self._inside = 0
        self._begun = 0  # in this turn of the loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the callers of a loop that has ended wait for nothing any more
            self._loop, self._begun, self._inside = loop, 0, 0
            self._waiting.clear()
        if self._has_room:
            self._enters()
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # cancelled after it was let in, before it could enter
                await self.__aexit__()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        if asyncio.get_running_loop() is self._loop:
            self._inside -= 1
            self._let_others_in()

    @property
    def _has_room(self) -> bool:
        return self._begun < PER_TURN and self._inside < self._most

    def _enters(self) -> None:
        if self._begun == 0 and self._loop is not None:
            self._loop.call_soon(self._next_turn)
        self._begun += 1
        self._inside += 1

    def _next_turn(self) -> None:
        self._begun = 0
        self._let_others_in()

    def _let_others_in(self) -> None:
        while self._waiting and self._has_room:
            turn = self._waiting.popleft()
            if not turn.done():  # a caller may have been cancelled
                turn.set_result(None)
                self._enters()
