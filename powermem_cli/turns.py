"""Many callers at once, a few per turn of the event loop: between them whoever else waits for the loop gets it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

PER_TURN: Final = 64  # callers; each works for some 20 µs before it waits for something


class Turns:
    """`await turns.mine()` returns at once for the first callers of a turn, and for the others in a later one, in
    order. A thousand tasks that a `gather` starts would otherwise all begin before the loop looks at anything else.
    """

    def __init__(self) -> None:
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def mine(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the callers of a loop that has ended wait for nothing any more
            self._loop, self._begun = loop, 0
            self._waiting.clear()
        if self._begun == 0:
            loop.call_soon(self._next_turn)
        self._begun += 1
        if self._begun > PER_TURN:
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append(turn)
            await turn

    def _next_turn(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < PER_TURN:
            turn = self._waiting.popleft()
            if not turn.done():  # a caller may have been cancelled
                turn.set_result(None)
                self._begun += 1
        if self._begun and self._loop is not None:  # those just let in count for the turn that begins now
            self._loop.call_soon(self._next_turn)
