"""A blocking iterator read on a thread: all of it, in order, and never further ahead than allowed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from powermem_cli.feed import READ_AHEAD, READ_AHEAD_BYTES, Feed

pytestmark = pytest.mark.anyio


def feed_of(items: Iterator[object], size: int = 1) -> Feed[object]:
    return Feed(items, size_of=lambda _item: size)


async def all_of(feed: Feed[object]) -> list[object]:
    return [item async for items in feed.lists() for item in items]


class Counting:
    """Counts how many of its items were asked for."""

    def __init__(self, number: int) -> None:
        self.given = 0
        self._number = number
        self._moved = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        for i in range(self._number):
            with self._moved:
                self.given += 1
                self._moved.notify_all()
            yield i

    async def reaches(self, number: int) -> None:
        def wait() -> None:
            with self._moved:
                assert self._moved.wait_for(lambda: self.given >= number, timeout=30)

        await asyncio.to_thread(wait)


@pytest.mark.parametrize("number", [0, 1, READ_AHEAD, READ_AHEAD + 1, 10 * READ_AHEAD + 7])
async def test_all_items_come_in_order(number):
    assert await all_of(feed_of(iter(range(number)))) == list(range(number))


@pytest.mark.parametrize(("size", "ahead"), [(1, READ_AHEAD), (READ_AHEAD_BYTES // 4, 4), (READ_AHEAD_BYTES, 1)])
async def test_it_reads_ahead_as_far_as_there_is_room_and_no_further(size, ahead):
    counting = Counting(5 * ahead + 1)
    lists = feed_of(iter(counting), size).lists()
    taken = list(await anext(lists))
    # What waits now: a full load; the thread stands inside the call that brought it.
    await counting.reaches(len(taken) + ahead)
    await asyncio.sleep(0)
    assert counting.given == len(taken) + ahead
    async for items in lists:
        assert len(items) <= ahead
        taken += items
        assert counting.given <= len(taken) + ahead
    assert taken == list(range(5 * ahead + 1))


async def test_an_item_that_counts_as_many_takes_their_room():
    counting = Counting(10)
    feed = Feed(iter(counting), size_of=lambda _item: 1, count_of=lambda _item: READ_AHEAD // 4)
    lists = feed.lists()
    taken = list(await anext(lists))
    await counting.reaches(len(taken) + 4)
    await asyncio.sleep(0)
    assert counting.given == len(taken) + 4
    async for items in lists:
        taken += items
    assert taken == list(range(10))


async def test_an_item_larger_than_all_that_may_wait_comes_through_to_a_consumer_who_waits_already():
    gate = threading.Event()

    def large() -> Iterator[str]:
        for item in "abc":
            assert gate.wait(30)
            yield item

    consumer = asyncio.create_task(all_of(feed_of(large(), 3 * READ_AHEAD_BYTES)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.wait_for(consumer, 20) == ["a", "b", "c"]


async def test_what_has_been_read_is_given_although_more_is_long_in_coming():
    gate = threading.Event()

    def slow() -> Iterator[str]:
        yield "first"
        assert gate.wait(30)
        yield "second"

    lists = feed_of(slow()).lists()
    assert await anext(lists) == ["first"]
    gate.set()
    assert await anext(lists) == ["second"]
    with pytest.raises(StopAsyncIteration):
        await anext(lists)


async def test_an_error_comes_after_the_items_before_it():
    def broken() -> Iterator[int]:
        yield from range(3000)
        raise OSError("the disk is gone")

    seen: list[object] = []

    async def read() -> None:
        async for items in feed_of(broken()).lists():
            seen.extend(items)

    with pytest.raises(OSError, match="the disk is gone"):
        await read()
    assert seen == list(range(3000))


async def test_after_stop_what_was_read_is_given_and_no_more_is_read():
    counting = Counting(100 * READ_AHEAD)
    feed = feed_of(iter(counting))
    seen: list[object] = []
    async for items in feed.lists():
        seen += items
        feed.stop()
    assert seen == list(range(len(seen)))
    assert counting.given <= len(seen) + 1


async def test_stop_does_not_wait_for_a_read_that_never_ends():
    gate = threading.Event()

    def endless() -> Iterator[str]:
        yield "first"
        gate.wait()

    feed = feed_of(endless())
    lists = feed.lists()
    assert await anext(lists) == ["first"]
    rest = asyncio.ensure_future(anext(lists, None))
    await asyncio.sleep(0)
    feed.stop()
    try:
        assert await asyncio.wait_for(rest, 20) is None
    finally:
        gate.set()
