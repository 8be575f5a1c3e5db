"""Many callers, one call: who gets what, who gets the error, and what a cancelled caller leaves behind."""

from __future__ import annotations

import asyncio

import pytest

from powermem_cli.grouping import Grouper

pytestmark = pytest.mark.anyio


class Doubling:
    """Work that notes each call, and waits while *gate* is closed. Any negative number is too much for it."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = 0

    async def __call__(self, items: list[int]) -> list[int]:
        self.at_once += 1
        assert self.at_once == 1, "one call after another"
        self.calls.append(items)
        await self.gate.wait()
        self.at_once -= 1
        if min(items) < 0:
            raise ValueError(f"{items}")
        return [item * 2 for item in items]


@pytest.fixture
def work():
    return Doubling()


async def asked(grouper: Grouper[int, int], items: list[int]) -> list[int]:
    """A caller of its own, as a task."""
    return await grouper.submit(items)


async def until(condition) -> None:
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def under_way(work: Doubling, grouper: Grouper[int, int], items: list[int]) -> asyncio.Task[list[int]]:
    """A call with *items*, which goes on when the gate is opened."""
    work.gate.clear()
    task = asyncio.create_task(asked(grouper, items))
    await until(lambda: work.calls)
    return task


async def test_a_lone_caller_is_not_kept_waiting(work):
    assert await Grouper(work, most=10).submit([1, 2, 3]) == [2, 4, 6]
    assert work.calls == [[1, 2, 3]]


async def test_what_arrives_meanwhile_goes_together_and_everybody_gets_his_own(work):
    grouper = Grouper(work, most=100)
    first = await under_way(work, grouper, [1])
    rest = [asyncio.create_task(asked(grouper, [i, 100 + i])) for i in range(5)]
    await asyncio.sleep(0)
    work.gate.set()
    assert await first == [2]
    assert await asyncio.gather(*rest) == [[2 * i, 200 + 2 * i] for i in range(5)]
    assert work.calls == [[1], [0, 100, 1, 101, 2, 102, 3, 103, 4, 104]]


async def test_a_call_holds_no_more_than_the_most_and_never_a_part_of_a_caller(work):
    grouper = Grouper(work, most=4)
    await asyncio.gather(*(grouper.submit([1] * size) for size in (3, 1, 3, 2, 9, 1)))
    assert [len(call) for call in work.calls] == [4, 3, 2, 9, 1]


async def test_no_items_are_no_call(work):
    assert await Grouper(work, most=4).submit([]) == []
    assert work.calls == []


async def test_an_error_goes_to_those_it_concerns_and_the_others_go_on(work):
    grouper = Grouper(work, most=2)
    results = await asyncio.gather(*(grouper.submit([i]) for i in (1, -2, 3, 4)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError, list, list]
    assert results[2:] == [[6], [8]]
    assert await grouper.submit([5]) == [10]


async def test_the_items_of_a_cancelled_caller_are_worked_on_all_the_same(work):
    grouper = Grouper(work, most=10)
    cancelled = await under_way(work, grouper, [1])
    waiting = asyncio.create_task(asked(grouper, [2]))
    gone = asyncio.create_task(asked(grouper, [3]))
    await asyncio.sleep(0)
    cancelled.cancel()
    gone.cancel()
    work.gate.set()
    assert await waiting == [4]
    assert work.calls == [[1], [2, 3]]
    assert cancelled.cancelled()
    assert gone.cancelled()


async def test_an_error_that_only_cancelled_callers_would_hear_of_disturbs_nobody(work):
    grouper = Grouper(work, most=10)
    cancelled = await under_way(work, grouper, [-1])
    cancelled.cancel()
    await asyncio.sleep(0)
    work.gate.set()
    await grouper.settled()
    assert await grouper.submit([1]) == [2]


async def test_settled_waits_for_what_was_submitted_and_only_for_that(work):
    grouper = Grouper(work, most=10)
    await grouper.settled()
    submitted = await under_way(work, grouper, [1])
    settled = asyncio.create_task(grouper.settled())
    await asyncio.sleep(0)
    assert not settled.done()
    work.gate.set()
    await settled
    assert work.at_once == 0
    assert await submitted == [2]


def test_an_event_loop_that_ended_in_the_middle_of_a_call_leaves_a_grouper_that_works():
    started: list[list[int]] = []

    async def work(items: list[int]) -> list[int]:
        started.append(items)
        if len(started) == 1:
            await asyncio.Event().wait()
        return items

    grouper = Grouper(work, most=1)

    async def give_up() -> None:
        callers = [asyncio.create_task(asked(grouper, [i])) for i in (1, 2)]
        await until(lambda: started)
        for caller in callers:
            caller.cancel()

    asyncio.run(give_up())
    assert asyncio.run(asked(grouper, [3])) == [3]
    assert started == [[1], [3]]


def test_a_loop_that_was_closed_over_a_call_leaves_a_grouper_that_works():
    """Not asyncio.run, which cancels what is left: run_until_complete and close, as many a program does."""
    held = []

    async def work(items: list[int]) -> list[int]:
        if not held:
            held.append(asyncio.get_running_loop().create_future())
            await held[0]
        return items

    grouper = Grouper(work, most=1)
    loop = asyncio.new_event_loop()
    left_behind = loop.create_task(asked(grouper, [1]))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    (under_way,) = grouper._tasks.values()
    assert asyncio.run(asyncio.wait_for(asked(grouper, [2]), 20)) == [2]
    for task in (left_behind, under_way):
        task._log_destroy_pending = False  # that program's own affair


async def test_a_whole_group_is_handed_over_ahead_and_a_part_of_one_waits():
    calls: list[list[int]] = []
    gate = asyncio.Event()

    async def work(items: list[int]) -> list[int]:
        calls.append(items)
        await gate.wait()
        return items

    grouper = Grouper(work, most=2, ahead=True)
    callers = [asyncio.create_task(asked(grouper, [i])) for i in range(7)]
    await until(lambda: len(calls) == 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert calls in ([[0, 1], [2, 3]], [[0], [1, 2]])
    gate.set()
    assert await asyncio.gather(*callers) == [[i] for i in range(7)]
    assert [item for call in calls for item in call] == list(range(7))


async def test_an_item_that_stands_for_many_counts_as_many():
    calls: list[list[str]] = []
    gate = asyncio.Event()

    async def work(items: list[str]) -> list[str]:
        calls.append(items)
        await gate.wait()
        return items

    grouper = Grouper(work, most=10)
    futures = [grouper.submit([name], weight=weight) for name, weight in zip("abcde", (10, 6, 4, 5, 6), strict=True)]
    futures.append(grouper.submit(["f", "g"]))
    gate.set()
    assert await asyncio.gather(*futures) == [["a"], ["b"], ["c"], ["d"], ["e"], ["f", "g"]]
    assert calls == [["a"], ["b", "c"], ["d"], ["e", "f", "g"]]


async def test_two_calls_that_end_in_one_turn_leave_nobody_waiting():
    gate = asyncio.Event()
    calls: list[list[int]] = []

    async def work(items: list[int]) -> list[int]:
        calls.append(items)
        await gate.wait()
        return items

    grouper = Grouper(work, most=2, ahead=True)
    callers = [asyncio.create_task(asked(grouper, [i])) for i in range(5)]
    await until(lambda: len(calls) == 2)
    gate.set()
    assert await asyncio.wait_for(asyncio.gather(*callers), 10) == [[i] for i in range(5)]
    await grouper.settled()
