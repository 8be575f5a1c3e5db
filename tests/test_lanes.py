"""Lanes: in the order of joining, one at a time, each lane for itself."""

from __future__ import annotations

import asyncio

import pytest

from powermem_cli.lanes import Lanes

pytestmark = pytest.mark.anyio


async def tick() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_after_another_in_the_order_of_joining():
    lanes, done = Lanes(), []
    places = [lanes.join("a") for _ in range(5)]

    async def pass_through(number: int) -> None:
        await places[number].first()
        done.append(number)
        await tick()
        assert done[-1] == number
        places[number].leave()

    await asyncio.gather(*map(pass_through, [3, 1, 4, 0, 2]))
    assert done == [0, 1, 2, 3, 4]


async def test_lanes_do_not_wait_for_each_other():
    lanes = Lanes()
    lanes.join("a")
    await lanes.join("b").first()


async def test_who_leaves_early_lets_nobody_past_those_before():
    lanes = Lanes()
    first, second, third = (lanes.join("a") for _ in range(3))
    second.leave()
    waiting = asyncio.ensure_future(third.first())
    await tick()
    assert not waiting.done()
    first.leave()
    await waiting


async def test_an_error_stops_those_behind_and_nobody_else():
    lanes = Lanes()
    first, second, third = (lanes.join("a") for _ in range(3))
    elsewhere = lanes.join("b")
    second.leave(ValueError("no"))
    first.leave()
    await elsewhere.first()
    with pytest.raises(ValueError, match="no"):
        await third.first()
    third.leave()
    await lanes.join("a").first()


async def test_who_is_cancelled_while_waiting_can_still_leave():
    lanes = Lanes()
    first, second, third = (lanes.join("a") for _ in range(3))
    waiting = asyncio.ensure_future(second.first())
    await tick()
    waiting.cancel()
    await tick()
    second.leave()
    first.leave()
    await third.first()


def test_who_stood_there_when_the_loop_ended_keeps_nobody_waiting():
    lanes = Lanes()

    async def join() -> None:
        lanes.join("a")

    async def pass_through() -> None:
        await lanes.join("a").first()

    asyncio.run(join())
    asyncio.run(asyncio.wait_for(pass_through(), 20))
