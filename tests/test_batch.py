"""Whatever happens to single records, to the work, to the input: every record read ends with exactly one outcome."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import pytest
from blocks import around
from hypothesis import given, strategies as st

from powermem_cli.batch import MOST_BYTES, STATUSES, Batch, Handful, Item, Limits, Tally, Turn
from powermem_cli.blocks import Block
from powermem_cli.checkpoint import LowWater
from powermem_cli.errors import InvariantError, ProviderRefused, ProviderRejected, StoreFull
from powermem_cli.feed import READ_AHEAD
from powermem_cli.model import Effect, Outcome, Record, Rejected, Source, Status

pytestmark = pytest.mark.anyio

SIZE = 10
FAILURE = ProviderRejected("not this one", provider="test")


def record(number: int, key: str | None = None, size: int = SIZE) -> Record:
    source = Source("in.jsonl", number + 1, number * SIZE)
    return Record(memory=f"record {number}", key=key, source=source, size=size)


def rejected(number: int) -> Rejected:
    return Rejected("input.json", "not valid JSON", Source("in.jsonl", number + 1, number * SIZE), "{", SIZE)


def added(one: Record, status: Status = "added") -> Outcome:
    effects = (Effect("ADD", 1, one.memory or ""),) if status == "added" else ()
    return Outcome(one, status, effects, FAILURE if status == "failed" else None)


async def add(records: Sequence[Record], turn: Turn) -> list[Outcome]:
    return [added(one) for one in records]


class Run:
    """A batch and all it reported."""

    def __init__(self, items: Sequence[Item] | Iterator[Item], work=add, **limits) -> None:
        self.handfuls: list[Handful] = []
        self.batch = Batch(iter(items), work, limits=Limits(**limits), report=self.handfuls.append)

    async def ended(self) -> Tally:
        return await self.batch.run()

    @property
    def reported(self) -> list[Item]:
        return [item for handful in self.handfuls for item in handful.items]

    def counts(self) -> dict[str, int]:
        return dict(+self.batch.tally.by_status)


# ── the law, whatever happens ──


@dataclass(frozen=True)
class Step:
    """One item of the input and what shall become of it: a status, or how the work on its handful breaks."""

    what: str
    key: str | None
    turns: int
    """Turns of the event loop that the work on a handful takes which begins with it."""
    comes_with: bool = False
    """In one block with what stands before it."""


STEPS = st.builds(
    Step,
    st.sampled_from(["added", "added", "no_facts", "failed", "rejected", "work breaks", "outcomes are missing"]),
    st.sampled_from([None, None, None, "a", "b"]),
    st.integers(0, 5),
    st.booleans(),
)
SCRIPTS = st.lists(STEPS, max_size=30)
LIMITS = st.builds(
    Limits,
    concurrency=st.integers(1, 4),
    handful=st.integers(1, 5),
    records=st.none() | st.integers(1, 20),
    failures=st.sampled_from([None, 0.2, 2.0]),
)


@dataclass
class Observed:
    """Work after a script, which looks at what it is given and when."""

    script: Sequence[Step]
    limits: Limits
    begun: list[int] = field(default_factory=list)
    under_way: list[Sequence[int]] = field(default_factory=list)
    waiting: list[Sequence[int]] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)
    raised: list[Exception] = field(default_factory=list)
    promises: dict[str, bool] = field(default_factory=dict)

    async def __call__(self, records: Sequence[Record], turn: Turn) -> list[Outcome]:
        numbers = [one.source.line - 1 for one in records]
        self._look_at(numbers)
        self.under_way.append(numbers)
        for _ in range(self.script[numbers[0]].turns):
            await asyncio.sleep(0)
        if "no_facts" not in [self.script[number].what for number in numbers]:  # who writes nothing takes no turn
            self.waiting.append(numbers)
            await turn()
            self.waiting.remove(numbers)
            self.passed += numbers
            self.promises["writing in the order of the input"] = self.passed == sorted(self.passed)
        self.under_way.remove(numbers)
        return self._outcomes(records, [self.script[number].what for number in numbers])

    def _look_at(self, numbers: Sequence[int]) -> None:
        flat = [number for some in self.under_way for number in some] + list(numbers)
        keys = [key for number in flat if (key := self.script[number].key) is not None]
        self.promises |= {
            "one of a key at a time": len(keys) == len(set(keys)),
            "in the order of the input": numbers == sorted(numbers),
            "each once": not set(numbers) & set(self.begun),
            "a handful": len(numbers) <= self.limits.handful,
            "concurrency": len(self.under_way) - len(self.waiting) < self.limits.concurrency,
            "waiting": len(self.under_way) < 2 * self.limits.concurrency,
            "the first alone": bool(self.begun) or len(numbers) == 1,
        }
        assert all(self.promises.values()), self.promises
        self.begun += numbers

    def _outcomes(self, records: Sequence[Record], whats: Sequence[str]) -> list[Outcome]:
        if "work breaks" in whats:
            self.raised.append(StoreFull("no room left"))
            raise self.raised[-1]
        outcomes = [added(one, what) for one, what in zip(records, whats, strict=True) if what in STATUSES]
        if len(outcomes) < len(records):
            self.raised.append(InvariantError("outcomes are missing"))
        return outcomes


def items_of(script: Sequence[Step], ends_well: bool) -> Iterator[Item | Block]:
    together: list[Record] = []
    for number, step in enumerate(script):
        one = rejected(number) if step.what == "rejected" else record(number, step.key)
        of_a_key = step.key is not None and any(other.key == step.key for other in together)
        if together and (not step.comes_with or of_a_key or isinstance(one, Rejected)):
            yield around(together)
            together = []
        if isinstance(one, Record) and (together or step.comes_with):
            together.append(one)
        else:
            yield one
    if together:
        yield around(together)
    if not ends_well:
        raise OSError("the input is gone")


@given(SCRIPTS, LIMITS, st.booleans())
def test_every_item_ends_exactly_once(script, limits, ends_well):
    work, run = Observed(script, limits), None

    async def main() -> Exception | None:
        nonlocal run
        run = Run(items_of(script, ends_well), work, **dataclasses.asdict(limits))
        (result,) = await asyncio.gather(run.ended(), return_exceptions=True)
        return None if isinstance(result, Tally) else result

    error = asyncio.run(main())
    batch, counts = run.batch, run.counts()
    assert all(work.promises.values()), work.promises
    assert not work.under_way
    batch.tally.check()
    # What was reported has its outcome; what has none was not reported.
    lines = [item.source.line for item in run.reported]
    assert len(lines) == len(set(lines)) == batch.tally.read - counts.get("not_started", 0)
    assert [handful.number for handful in sorted(run.handfuls, key=lambda one: one.items[0].source.line)] == sorted(
        handful.number for handful in run.handfuls
    )
    for handful in run.handfuls:
        assert [outcome.record for outcome in handful.outcomes] == [i for i in handful.items if isinstance(i, Record)]
    # It ends with the first error, and says "end" only if all was read and done.
    possible = {type(one) for one in work.raised[:1]} | (set() if ends_well else {OSError})
    assert type(error) in possible or (error is None and not work.raised)
    if batch.stop_reason == "end":
        assert error is None
        assert "not_started" not in counts
        assert len(run.reported) == len(script)
    if limits.records is not None:
        assert len(run.reported) <= limits.records
    _check_marks(run)


def _check_marks(run: Run) -> None:
    """Whatever order handfuls ended in: before the mark all is done, and behind it something is not."""
    low_water = LowWater()
    for handful in run.handfuls:
        low_water.ended(handful.number, handful.items)
    mark = low_water.marks.get("in.jsonl")
    done = 0 if mark is None else mark.byte // SIZE
    lines = {item.source.line for item in run.reported}
    assert set(range(1, done + 1)) <= lines
    assert done + 1 not in lines


# ── one thing at a time ──


async def test_all_is_read_counted_and_reported():
    items = [record(0), rejected(1), *(record(i) for i in range(2, 2000))]
    run = Run(items, handful=100)
    tally = await run.ended()
    assert (tally.read, tally.memories, tally.undated) == (2000, 1999, 1999)
    assert run.counts() == {"added": 1999, "rejected": 1}
    assert sorted(item.source.line for item in run.reported) == list(range(1, 2001))
    assert run.batch.stop_reason == "end"


async def test_one_goes_first_and_then_more_and_more_together():
    all_read = threading.Event()

    def items() -> Iterator[Item]:
        yield from (record(i) for i in range(1000))
        all_read.set()

    async def work(records: Sequence[Record], turn: Turn) -> list[Outcome]:
        await asyncio.to_thread(all_read.wait)
        return await add(records, turn)

    run = Run(items(), work, handful=300)
    await run.ended()
    sizes = {handful.number: len(handful.items) for handful in run.handfuls}
    assert [sizes[number] for number in sorted(sizes)] == [1, 64, 65, 130, 260, 300, 180]


async def test_of_a_block_no_more_is_worked_on_together_than_of_records_and_no_more_than_may_be_started():
    run = Run([around([record(i) for i in range(1000)])], handful=300, records=900)
    tally = await run.ended()
    sizes = {handful.number: len(handful.items) for handful in run.handfuls}
    assert [sizes[number] for number in sorted(sizes)] == [1, 64, 65, 130, 260, 300, 80]
    assert [item.source.line for item in run.reported] == list(range(1, 901))
    assert (tally.read, run.counts(), tally.undated) == (1000, {"added": 900, "not_started": 100}, 900)
    assert run.batch.stop_reason == "limit"


async def test_no_input_is_a_run_too():
    run = Run([])
    assert (await run.ended()).read == 0
    assert run.counts() == {}


async def test_what_was_reported_is_reported_before_the_next_is_started_in_its_place():
    events: list[str] = []

    async def work(records: Sequence[Record], turn: Turn) -> list[Outcome]:
        events.append(f"start {records[0].memory}")
        return await add(records, turn)

    batch = Batch(
        iter([record(i) for i in range(4)]),
        work,
        limits=Limits(concurrency=1, handful=1),
        report=lambda handful: events.append(f"done {handful.items[0].memory}"),
    )
    await batch.run()
    assert events == [f"{what} record {i}" for i in range(4) for what in ("start", "done")]


async def test_an_error_of_the_first_record_costs_one_call_although_rejects_came_before_it():
    seen: list[int] = []

    async def work(records: Sequence[Record], turn: Turn) -> list[Outcome]:
        seen.append(len(records))
        await asyncio.sleep(0)
        raise ProviderRefused("the key is refused", provider="test")

    run = Run(chain([rejected(0), rejected(1)], (record(i) for i in range(2, 100_000))), work)
    with pytest.raises(ProviderRefused):
        await run.ended()
    assert seen == [1]
    assert run.batch.tally.read <= 2 * READ_AHEAD + 1  # one list that was handed over, one that waited
    assert run.counts()["rejected"] == 2
    assert set(run.counts()) == {"rejected", "not_started"}


async def test_an_error_of_the_input_leaves_what_was_read_before_it_done():
    def broken() -> Iterator[Item]:
        yield from (record(i) for i in range(1000))
        raise OSError("the disk is gone")

    async def slow(records: Sequence[Record], turn: Turn) -> list[Outcome]:
        await asyncio.sleep(0)
        return await add(records, turn)

    run = Run(broken(), slow)
    with pytest.raises(OSError, match="the disk is gone"):
        await run.ended()
    assert run.counts() == {"added": 1000}
    assert run.batch.stop_reason == "error"


async def test_an_error_while_reporting_ends_the_run():
    def report(_handful: Handful) -> None:
        raise StoreFull("no room left for the rejects")

    batch = Batch(iter([record(i) for i in range(50)]), add, limits=Limits(handful=1), report=report)
    with pytest.raises(StoreFull):
        await batch.run()
    batch.tally.check()
    assert batch.tally.by_status["added"] == 1


async def test_too_few_outcomes_are_a_broken_promise_and_nothing_of_them_is_reported():
    async def forgetful(records: Sequence[Record], turn: Turn) -> list[Outcome]:
        return (await add(records, turn))[1:]

    run = Run([record(0)], forgetful)
    with pytest.raises(InvariantError, match="1 records had 0 outcomes"):
        await run.ended()
    assert run.handfuls == []


def test_the_law_is_checked():
    with pytest.raises(InvariantError, match="3 records were read, but 0"):
        Tally(read=3).check()


class TestOrderAndRoom:
    async def test_records_of_one_key_are_worked_on_one_after_another_in_their_order(self):
        seen: list[tuple[str | None, str | None]] = []
        under_way: set[str | None] = set()

        async def work(records: Sequence[Record], turn: Turn) -> list[Outcome]:
            keys = [one.key for one in records if one.key is not None]
            assert len(set(keys)) == len(keys)
            assert not under_way & set(keys)
            under_way.update(keys)
            for _ in range(len(records) % 3):
                await asyncio.sleep(0)
            under_way.difference_update(keys)
            seen.extend((one.key, one.memory) for one in records)
            return await add(records, turn)

        items = [record(i, key=[None, "a", "b", "a", "c"][i % 5]) for i in range(300)]
        await Run(items, work, handful=7).ended()
        for key in "abc":
            assert [memory for one, memory in seen if one == key] == [i.memory for i in items if i.key == key]

    @pytest.mark.parametrize(("concurrency", "handful"), [(1, 1), (3, 2), (8, 10)])
    async def test_the_reader_is_never_further_ahead_than_what_is_in_flight_and_what_may_wait(
        self, concurrency, handful
    ):
        given, at_the_gate = 0, 0
        all_there, gate = asyncio.Event(), asyncio.Event()

        def counted() -> Iterator[Item]:
            nonlocal given
            for i in range(8000):
                given = i + 1
                yield record(i)

        async def work(records: Sequence[Record], turn: Turn) -> list[Outcome]:
            nonlocal at_the_gate
            if records[0].source.line > 3000 and not gate.is_set():
                at_the_gate += 1
                if at_the_gate == concurrency:
                    all_there.set()
                await gate.wait()
            assert given - run.batch.tally.read <= 2 * READ_AHEAD
            return await add(records, turn)

        run = Run(counted(), work, concurrency=concurrency, handful=handful)
        running = asyncio.create_task(run.ended())
        await all_there.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        # Beyond the gate are those who stand there and the one next in line; behind it is the list that was handed
        # over, and one that waits.
        assert run.batch.tally.read <= 3000 + (concurrency + 2) * handful
        assert given <= 3000 + (concurrency + 2) * handful + 2 * READ_AHEAD
        gate.set()
        assert (await running).read == 8000

    async def test_large_records_are_few_in_flight(self):
        large = MOST_BYTES // 3 + 1
        flying = 0
        two = asyncio.Event()

        async def work(records: Sequence[Record], turn: Turn) -> list[Outcome]:
            nonlocal flying
            flying += 1
            assert flying <= 2, "three of them are more than there is room for"
            if flying == 2:
                two.set()
            if records[0].source.line > 1:
                await two.wait()
            await asyncio.sleep(0)
            flying -= 1
            return await add(records, turn)

        tally = await Run([record(i, size=large) for i in range(12)], work, concurrency=8, handful=1).ended()
        assert tally.read == 12

    async def test_a_record_larger_than_all_room_goes_alone(self):
        run = Run([record(i, size=2 * MOST_BYTES) for i in range(3)], concurrency=8, handful=1)
        assert (await run.ended()).by_status["added"] == 3


class TestStopping:
    async def test_what_is_in_flight_is_finished_and_nothing_new_is_started(self):
        async def work(records: Sequence[Record], turn: Turn) -> list[Outcome]:
            if records[0].source.line > 50:
                run.batch.stop("signal")
                run.batch.stop("too late to be the reason")
            await asyncio.sleep(0)
            return await add(records, turn)

        run = Run([record(i) for i in range(5000)], work, handful=10, concurrency=2)
        tally = await run.ended()
        tally.check()
        assert run.batch.stop_reason == "signal"
        assert tally.by_status["added"] == len(run.reported) < 100
        assert tally.read < 5000

    async def test_a_run_that_is_cancelled_cancels_its_work(self):
        cancelled = []
        begun = asyncio.Event()

        async def endless(records: Sequence[Record], turn: Turn) -> list[Outcome]:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(records)
                raise
            return []

        run = Run([record(i) for i in range(10)], endless)
        running = asyncio.create_task(run.ended())
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0)
        assert len(cancelled) == 1
        assert run.handfuls == []

    @pytest.mark.parametrize("limit", [1, 2, 7, 999])
    async def test_no_more_records_are_started_than_the_limit_says(self, limit):
        run = Run([record(i) for i in range(1000)], records=limit, handful=5)
        tally = await run.ended()
        assert tally.by_status["added"] == limit
        assert run.batch.stop_reason == "limit"

    async def test_a_limit_that_is_just_reached_is_the_end(self):
        run = Run([record(i) for i in range(7)], records=7)
        await run.ended()
        assert (run.counts(), run.batch.stop_reason) == ({"added": 7}, "end")


class TestTooManyFailures:
    @staticmethod
    async def run(whats: Sequence[Status], failures: float | None) -> Run:
        async def work(records: Sequence[Record], turn: Turn) -> list[Outcome]:
            return [added(one, whats[one.source.line - 1]) for one in records]

        run = Run([record(i) for i in range(len(whats))], work, failures=failures, handful=1, concurrency=1)
        await run.ended()
        return run

    async def test_a_number(self):
        run = await self.run(["failed", "added"] * 50, failures=3.0)
        assert run.batch.stop_reason == "too_many_failures"
        assert run.counts() == {"failed": 4, "added": 3, "not_started": 93}

    async def test_a_share_is_judged_from_fifty_records_on(self):
        run = await self.run(["failed"] * 10 + ["added"] * 90, failures=0.2)
        assert (run.counts(), run.batch.stop_reason) == ({"failed": 10, "added": 90}, "end")
        run = await self.run(["failed"] * 100, failures=0.2)
        assert (run.counts(), run.batch.stop_reason) == ({"failed": 50, "not_started": 50}, "too_many_failures")

    async def test_none_goes_on_regardless(self):
        run = await self.run(["failed"] * 100, failures=None)
        assert (run.counts(), run.batch.stop_reason) == ({"failed": 100}, "end")
