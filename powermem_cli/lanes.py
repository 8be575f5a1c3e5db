"""One at a time and in the order they came, for each thing apart: who looks before writing sees what was written."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable


class Lanes:
    """`join` gives a place behind all who have joined the same lane. A lane is there as long as somebody is in it."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[Place]] = {}

    def join(self, name: Hashable) -> Place:
        lane = self._lanes.setdefault(name, deque())
        place = Place(self, name)
        lane.append(place)
        self.advance(name)
        return place

    def behind(self, place: Place) -> list[Place]:
        lane = self._lanes.get(place.name, deque())
        return [*lane][lane.index(place) + 1 :] if place in lane else []

    def advance(self, name: Hashable) -> None:
        """Let go who has left, and let the first of the others begin."""
        lane = self._lanes.get(name, deque())
        while lane and lane[0].gone:
            lane.popleft()
        if lane:
            lane[0].begin()
        else:
            self._lanes.pop(name, None)


class Place:
    """A place in a lane. Whoever has one must leave it, whatever happens."""

    def __init__(self, lanes: Lanes, name: Hashable) -> None:
        self.name = name
        self._lanes = lanes
        self._left = False
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = self._loop.create_future()

    @property
    def gone(self) -> bool:
        return self._left or self._loop.is_closed()

    async def first(self) -> None:
        """Wait until all before have left. Raises what one of them left with. Safe to repeat."""
        await self._first
        if self._error is not None:
            raise self._error

    def leave(self, error: BaseException | None = None) -> None:
        """With an *error*, those who wait behind must not go on either: what they would look at was never written."""
        if self._left:
            return
        if error is not None and error is not self._error:  # else they know it already
            for place in self._lanes.behind(self):
                place.stop(error)
        self._left = True
        self._lanes.advance(self.name)

    def begin(self) -> None:
        if not self._first.done():
            self._first.set_result(None)

    def stop(self, error: BaseException) -> None:
        self._error = self._error or error
