"""Many callers at once: a few per turn of the event loop, in order, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from powermem_cli.turns import PER_TURN, Turns


async def begun_per_turn(callers: int) -> list[list[int]]:
    """The numbers of the callers that began in each turn of the loop, turns without any left out."""
    turns, began, seen = Turns(), [], []

    async def caller(number: int) -> None:
        await turns.mine()
        began.append(number)

    waiting = [asyncio.ensure_future(caller(number)) for number in range(callers)]
    while not all(one.done() for one in waiting):
        await asyncio.sleep(0)
        if began:
            seen.append(began[:])
            began.clear()
    return seen


def test_callers_begin_in_order_and_few_at_a_time():
    seen = asyncio.run(begun_per_turn(5 * PER_TURN + 3))
    assert [number for some in seen for number in some] == list(range(5 * PER_TURN + 3))
    assert max(map(len, seen)) == PER_TURN


def test_a_single_caller_does_not_wait():
    turns = Turns()
    call = turns.mine()

    async def first_step() -> bool:
        try:
            call.send(None)
        except StopIteration:
            return True
        return False

    assert asyncio.run(first_step())


@pytest.mark.anyio
async def test_a_cancelled_caller_does_not_hold_up_the_others():
    turns = Turns()
    callers = [asyncio.ensure_future(turns.mine()) for _ in range(3 * PER_TURN)]
    await asyncio.sleep(0)
    callers[PER_TURN + 1].cancel()
    done = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 10)
    assert [type(one) for one in done if one is not None] == [asyncio.CancelledError]


def test_another_event_loop_begins_anew():
    turns = Turns()

    async def left_behind() -> None:
        for _ in range(2 * PER_TURN):
            asyncio.ensure_future(turns.mine())  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(left_behind())
    asyncio.run(asyncio.wait_for(turns.mine(), 10))
