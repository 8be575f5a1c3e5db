"""Many callers at once: few at work, few let in per turn of the event loop; whoever else waits for the loop gets it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

PER_TURN: Final = 64  # callers; each works for some 20 µs before it waits for something


class Turns:
    """A place inside for the first callers at once, for the others later, in order:

        turn = turns.wait()
        try:
            await turn
            …
        finally:
            turns.leave(turn)

    A thousand tasks that a `gather` starts would otherwise all begin before the loop looks at anything else. And of
    thousands only *at_work* are inside together: what each holds meanwhile is what the garbage collector has to look
    through, all at once, while everybody waits. (For its sake, too, this is no `async with`: a coroutine for each.)
    """

    def __init__(self, at_work: int) -> None:
        self._most = at_work
        self._inside = 0
        self._begun = 0  # in this turn of the loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self) -> asyncio.Future[None]:
        """Done when there is a place."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the callers of a loop that has ended wait for nothing any more
            self._loop, self._begun, self._inside = loop, 0, 0
            self._waiting.clear()
        turn: asyncio.Future[None] = loop.create_future()
        if self._has_room:
            self._enters(turn)
        else:
            self._waiting.append(turn)
        return turn

    def leave(self, turn: asyncio.Future[None]) -> None:
        """Give the place to another. Right as well for who was cancelled before there was one, or just when."""
        if turn.done() and not turn.cancelled() and turn.get_loop() is self._loop and not self._loop.is_closed():
            self._inside -= 1
            self._let_others_in()

    @property
    def _has_room(self) -> bool:
        return self._begun < PER_TURN and self._inside < self._most

    def _enters(self, turn: asyncio.Future[None]) -> None:
        turn.set_result(None)
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
                self._enters(turn)
