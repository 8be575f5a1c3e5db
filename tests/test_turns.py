"""Many callers at once: few inside, a few per turn of the event loop, in order, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from powermem_cli.turns import PER_TURN, Turns

pytestmark = pytest.mark.anyio

MANY = 100 * PER_TURN


@asynccontextmanager
async def inside(turns: Turns) -> AsyncIterator[None]:
    turn = turns.wait()
    try:
        await turn
        yield
    finally:
        turns.leave(turn)


async def begun_per_turn(callers: int) -> list[list[int]]:
    """The numbers of the callers that began in each turn of the loop, turns without any left out."""
    turns, began, seen = Turns(MANY), [], []

    async def caller(number: int) -> None:
        async with inside(turns):
            began.append(number)

    waiting = [asyncio.ensure_future(caller(number)) for number in range(callers)]
    while not all(one.done() for one in waiting):
        await asyncio.sleep(0)
        if began:
            seen.append(began[:])
            began.clear()
    return seen


async def test_callers_begin_in_order_and_few_at_a_time() -> None:
    seen = await begun_per_turn(5 * PER_TURN + 3)
    assert [number for some in seen for number in some] == list(range(5 * PER_TURN + 3))
    assert max(map(len, seen)) == PER_TURN


async def test_a_single_caller_does_not_wait() -> None:
    assert Turns(1).wait().done()


@pytest.mark.parametrize("at_work", [1, 7, PER_TURN])
async def test_so_many_are_inside_and_no_more(at_work: int) -> None:
    turns, number_inside, most, order = Turns(at_work), 0, 0, []

    async def caller(number: int) -> None:
        nonlocal number_inside, most
        async with inside(turns):
            order.append(number)
            number_inside += 1
            most = max(most, number_inside)
            await asyncio.sleep(0)
            number_inside -= 1

    callers = [caller(number) for number in range(3 * at_work)]
    await asyncio.wait_for(asyncio.gather(*callers), 10)
    assert most == at_work
    assert order == list(range(3 * at_work))


async def test_who_fails_inside_leaves_the_place_to_another() -> None:
    turns = Turns(1)

    async def caller(number: int) -> int:
        async with inside(turns):
            await asyncio.sleep(0)
            return 1 // number

    done = await asyncio.wait_for(asyncio.gather(caller(0), caller(1), return_exceptions=True), 10)
    assert [type(one) for one in done] == [ZeroDivisionError, int]


@pytest.mark.parametrize("loops", [0, 1, 2, 3])
async def test_a_cancelled_caller_does_not_hold_up_the_others(loops: int) -> None:
    """Whether it is cancelled while it waits, when it has just been let in, or inside."""
    turns = Turns(1)

    async def caller() -> None:
        async with inside(turns):
            await asyncio.sleep(0)

    callers = [asyncio.ensure_future(caller()) for _ in range(4)]
    for _ in range(loops):
        await asyncio.sleep(0)
    for one in callers[:3]:
        one.cancel()
    await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 10)
    assert not callers[3].cancelled()
    await asyncio.wait_for(caller(), 10)


def test_another_event_loop_begins_anew() -> None:
    turns = Turns(PER_TURN)

    async def stay() -> None:
        async with inside(turns):
            await asyncio.Event().wait()

    async def left_behind() -> None:
        for _ in range(2 * PER_TURN):
            asyncio.ensure_future(stay())  # noqa: RUF006
        await asyncio.sleep(0)

    async def once() -> None:
        async with inside(turns):
            pass

    asyncio.run(left_behind())
    asyncio.run(asyncio.wait_for(once(), 10))


def test_a_loop_that_was_closed_over_its_callers_is_left_in_silence() -> None:
    """Not asyncio.run, which cancels what is left. Those inside leave when nobody runs that loop any more."""
    turns = Turns(1)
    held: list[asyncio.Future[None]] = []

    async def stay() -> None:
        held.append(turns.wait())
        held.append(turns.wait())
        await held[0]

    loop = asyncio.new_event_loop()
    loop.run_until_complete(stay())
    held[1].add_done_callback(lambda _: None)  # somebody waits
    loop.close()
    turns.leave(held[0])
    assert not held[1].done()
