"""Any async work over many records, a few at a time; every record read ends with exactly one outcome."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, get_args

from powermem_cli.block_outcomes import sums_of
from powermem_cli.blocks import Block
from powermem_cli.errors import InvariantError
from powermem_cli.feed import Feed
from powermem_cli.model import Outcome, Record, Rejected, Retried, Status

Item = Record | Rejected
Turn = Callable[[], Awaitable[None]]
"""Returns when what stands before in the input has begun to write: whoever then writes at once does so in order."""
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
MOST_BYTES: Final = 64 * 1024 * 1024  # in flight
SMALL: Final = 64  # records worked on together to begin with: whoever is asked for something is asked soon
NO_JUDGEMENT_BEFORE: Final = 50  # records, before a share of failures says anything


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much at once, and when to give up."""

    concurrency: int = 4  # handfuls in flight
    handful: int = 1024  # records that are worked on together
    records: int | None = None  # start no more than these
    failures: float | None = 0.2  # more than this share (below 1) or number of records failed: stop


@dataclass(slots=True)
class Tally:
    """What has become of the records read so far; *read* is always the sum of the others once a run has ended."""

    read: int = 0
    by_status: Counter[Status] = field(default_factory=Counter)
    memories: int = 0
    undated: int = 0

    def check(self) -> None:
        """The conservation law. Raises InvariantError."""
        ended = sum(self.by_status.values())
        if ended != self.read:
            raise InvariantError(f"{self.read} records were read, but {ended} have an outcome: {dict(self.by_status)}")


@dataclass(frozen=True, slots=True)
class Handful:
    """Neighbours in the input, worked on together; *number* counts handfuls from 0 in the order they were read."""

    number: int
    items: Sequence[Item]
    outcomes: Sequence[Outcome] = ()
    """One per Record among the items, in order."""
    by_status: Mapping[Status, int] = field(default_factory=dict)
    """How many of the items ended how."""

    @property
    def records(self) -> Sequence[Record]:
        if isinstance(self.items, Block):
            return self.items
        return [item for item in self.items if isinstance(item, Record)]

    @property
    def size(self) -> int:
        """Bytes of the input."""
        return self.items.size if isinstance(self.items, Block) else sum([item.size for item in self.items])

    @property
    def keys(self) -> list[str]:
        """Those that records came with."""
        if isinstance(self.items, Block):
            return self.items.own_keys
        return [item.key for item in self.items if isinstance(item, Record) and item.key is not None]


class InOrder:
    """Lets handfuls pass in the order of their numbers, whenever they come."""

    def __init__(self) -> None:
        self._next = 0
        self._gone: set[int] = set()
        self._waiting: dict[int, asyncio.Future[None]] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def turn(self, number: int) -> None:
        """Wait until all before have passed, and pass. Safe to repeat."""
        if number > self._next:
            self._waiting[number] = asyncio.get_running_loop().create_future()
            try:
                await self._waiting[number]
            finally:
                del self._waiting[number]
        self.passed(number)

    def passed(self, number: int) -> None:
        """The handful of this number keeps no others waiting any more."""
        if number >= self._next:
            self._gone.add(number)
        while self._next in self._gone:
            self._gone.remove(self._next)
            self._next += 1
        if (first := self._waiting.get(self._next)) is not None and not first.done():
            first.set_result(None)


class Batch:
    """One run of *work* over *items*; it is given some records at a time, and a turn to take before it writes.

    *report* gets each handful when all of it has ended, before the next is started in its place: what it has been
    given is durable. An error that *work* raises ends the run: reading stops, what is in flight is waited for, and
    the error is raised by `run`. Records that were read but not worked on then count as not_started.
    """

    def __init__(
        self,
        items: Iterator[Item | Block],
        work: Callable[[Sequence[Record], Turn], Awaitable[Sequence[Outcome]]],
        *,
        limits: Limits,
        report: Callable[[Handful], None],
    ) -> None:
        self._feed = Feed(items, size_of=lambda item: item.size, count_of=_count_of)
        self._work = work
        self._limits = limits
        self._report = report
        self.tally = Tally()
        self.stop_reason = "end"
        self._running: dict[asyncio.Task[None], Handful] = {}
        self._keys: Counter[str] = Counter()
        self._bytes = 0
        self._order = InOrder()
        self._moved = asyncio.Event()
        self._error: BaseException | None = None
        self._next_number = 0
        self._records_started = 0
        self._failed_first_time = 0

    def stop(self, reason: str) -> None:
        """Read no more and start no more; what is in flight is finished. The first reason counts."""
        if self.stop_reason == "end":
            self.stop_reason = reason
        self._feed.stop()

    async def run(self) -> Tally:
        """Raises what *work* or the iterator raised, after the rest has ended; the tally is right all the same."""
        try:
            await self._take_all()
            await self._room_for(everything=True)
        finally:
            self._feed.stop()
            for task in self._running:
                task.cancel()
        self.tally.check()
        if self._error is not None:
            raise self._error
        return self.tally

    async def _take_all(self) -> None:
        try:
            async for ready in self._feed.lists():
                await self._take(ready)
                if self._records_started == 1:  # what is read meanwhile comes in one list
                    await self._room_for(everything=True)
        except Exception as error:  # noqa: BLE001 - the iterator's; what was read before it is finished
            self._give_up(error)

    async def _take(self, ready: list[Item | Block]) -> None:
        left: deque[Item | Block] = deque(ready)
        while left:
            handful = self._next_of(left)
            if handful is None:
                self.stop("limit")
                self._pass_over(sum(map(_count_of, left)))
                return
            # The first record runs alone: a refused key or a wrong model costs one call.
            await self._room_for(handful, everything=self._records_started == 1)
            if self._stopping():
                self._pass_over(len(handful.items))
            else:
                self.tally.read += len(handful.items)
                self._start(handful)

    def _pass_over(self, number: int) -> None:
        """So many are read and not worked on."""
        self.tally.read += number
        self.tally.by_status["not_started"] += number

    def _most(self) -> int:
        """How many records are worked on together: one alone, then some, then as many as have been so far."""
        if self._records_started == 0:
            return 1
        return min(self._limits.handful, max(SMALL, self._records_started))

    def _next_of(self, left: deque[Item | Block]) -> Handful | None:
        """As many neighbours as may be worked on together, taken from *left*; None if no more may be. Of those with one
        key the later must see the earlier.
        """
        most = self._most()
        if self._limits.records is not None:
            most = min(most, self._limits.records - self.tally.read)
        if most <= 0:
            return None
        first = left.popleft()
        if isinstance(first, Block):
            if len(first) > most:
                left.appendleft(first[most:])
            return self._handful(first[:most] if len(first) > most else first)
        items: list[Item] = [first]
        keys = {first.key} if isinstance(first, Record) else set()
        while left and len(items) < most and not isinstance(item := left[0], Block):
            if isinstance(item, Record) and item.key is not None:
                if item.key in keys:
                    break
                keys.add(item.key)
            items.append(item)
            left.popleft()
        return self._handful(items)

    def _handful(self, items: Sequence[Item]) -> Handful:
        self._next_number += 1
        return Handful(self._next_number - 1, items)

    async def _room_for(self, handful: Handful | None = None, *, everything: bool = False) -> None:
        """Wait until so few are in flight that it may start (*everything*: until nothing is)."""
        size, keys = (0, []) if handful is None else (handful.size, handful.keys)
        while self._running and (
            everything
            # Who only waits for its turn leaves its place to another, as far as that bounds anything.
            or len(self._running) - min(self._order.waiting, self._limits.concurrency) >= self._limits.concurrency
            or self._bytes + size > MOST_BYTES
            or any(self._keys[key] for key in keys)
        ):
            self._moved.clear()
            await self._moved.wait()

    def _start(self, handful: Handful) -> None:
        self._records_started += len(handful.records)
        task = asyncio.get_running_loop().create_task(self._work_on(handful))
        self._running[task] = handful
        self._bytes += handful.size
        self._keys.update(handful.keys)
        task.add_done_callback(self._ended)

    async def _work_on(self, handful: Handful) -> None:
        records = handful.records
        try:
            outcomes = await self._work(records, lambda: self._turn(handful.number)) if records else ()
        except Exception as error:  # noqa: BLE001 - it ends the run, and `run` raises it
            self.tally.by_status["not_started"] += len(handful.items)
            self._give_up(error)
            return
        if len(outcomes) != len(records):
            self.tally.by_status["not_started"] += len(handful.items)
            self._give_up(InvariantError(f"{len(records)} records had {len(outcomes)} outcomes"))
            return
        self._report(replace(handful, outcomes=outcomes, by_status=self._count(handful, outcomes)))

    async def _turn(self, number: int) -> None:
        self._moved.set()
        await self._order.turn(number)

    def _ended(self, task: asyncio.Task[None]) -> None:
        handful = self._running.pop(task)
        self._order.passed(handful.number)
        self._moved.set()
        self._bytes -= handful.size
        self._keys.subtract(handful.keys)
        self._keys = +self._keys if len(self._keys) > 4 * self._limits.handful else self._keys
        if not task.cancelled() and (error := task.exception()) is not None:
            self._give_up(error)

    def _count(self, handful: Handful, outcomes: Sequence[Outcome]) -> Mapping[Status, int]:
        sums, tally = sums_of(outcomes), self.tally
        by_status = {**sums.by_status, "rejected": len(handful.items) - len(outcomes)}
        tally.by_status.update(by_status)
        tally.memories += sums.memories
        tally.undated += sums.undated
        # What failed before may well fail again: that says nothing about what comes behind it.
        self._failed_first_time += sum([not isinstance(record, Retried) for record in sums.failed])
        if self._too_many_failed():
            self.stop("too_many_failures")
        return by_status

    def _too_many_failed(self) -> bool:
        most, failed = self._limits.failures, self._failed_first_time
        if most is None or not failed:
            return False
        ended = sum(self.tally.by_status.values())
        return failed > most if most >= 1 else ended >= NO_JUDGEMENT_BEFORE and failed > most * ended

    def _give_up(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop("error")

    def _stopping(self) -> bool:
        return self.stop_reason != "end"


def _count_of(item: Item | Block) -> int:
    return len(item) if isinstance(item, Block) else 1
