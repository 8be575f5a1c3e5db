"""What several ask for at once is asked once, and goes on as long as one of them waits."""

from __future__ import annotations

import asyncio

import pytest

from powermem_cli.in_flight import InFlight

pytestmark = pytest.mark.anyio


class Slow:
    """Answers when it is let to; counts how often it was asked and given up."""

    def __init__(self):
        self.asked = self.cancelled = 0
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self):
        self.asked += 1
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def waiting(calls, slow, *names):
    return [asyncio.ensure_future(calls.result(name, slow)) for name in names]


async def test_one_call_for_all_who_ask_for_the_same():
    calls, slow = InFlight(), Slow()
    tasks = waiting(calls, slow, "a", "a", "b", "a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    slow.answer.set_result("said")
    assert await asyncio.gather(*tasks) == ["said"] * 4
    assert slow.asked == 2
    await calls.result("a", slow)
    assert slow.asked == 3  # nothing is kept


async def test_an_error_is_everybodys():
    calls, slow = InFlight(), Slow()
    tasks = waiting(calls, slow, "a", "a")
    await asyncio.sleep(0)
    slow.answer.set_exception(ValueError("no"))
    assert [str(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == ["no", "no"]


async def test_who_asked_first_may_go_away_and_the_last_ends_it():
    calls, slow = InFlight(), Slow()
    first, second = waiting(calls, slow, "a", "a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task, ended in ((first, 0), (second, 1)):
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert (slow.cancelled, slow.asked) == (ended, 1)
    slow.answer = asyncio.get_running_loop().create_future()
    slow.answer.set_result("again")
    assert await calls.result("a", slow) == "again"


def test_a_loop_that_is_gone_leaves_nothing_to_wait_for():
    calls = InFlight()

    async def never():
        await asyncio.Event().wait()

    async def left():
        waiting(calls, never, "a")
        await asyncio.sleep(0)

    async def answer():
        return "new"

    loop = asyncio.new_event_loop()
    loop.run_until_complete(left())
    pending = asyncio.all_tasks(loop)
    assert asyncio.run(calls.result("a", answer)) == "new"
    for task in pending:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    loop.close()
