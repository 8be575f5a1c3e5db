"""The pace of calls, in virtual time: limits are learned, outages waited out, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import random

import limits
import pytest
import virtual_time

from powermem_cli.errors import ProviderBusy, ProviderError
from powermem_cli.providers.pace import Pace, Window
from powermem_cli.providers.rates import Bucket
from powermem_cli.retry import Failure


def failed(code, retry_after=None):
    return Failure(ProviderBusy("no", provider="p", code=code), retry_after)


def pairs():
    """Every server, and every way to be told how long to wait; all with all in a soak."""
    for place, server in enumerate(limits.SERVERS):
        for turn, told in enumerate(limits.TOLD):
            yield pytest.param(server, told, marks=() if place % 3 == turn else pytest.mark.soak)


@pytest.mark.parametrize(("server", "told"), list(pairs()))
def test_an_unknown_limit_is_learned(server, told):
    cost = limits.work_through(limits.SERVERS[server](), 7_000, told=told, concurrency=64)
    print(cost)
    assert cost.calls <= 1.10
    assert cost.time <= 1.05


@pytest.mark.parametrize("server", limits.SERVERS.values(), ids=limits.SERVERS)
def test_named_limits_help_to_learn_it(server):
    cost = limits.work_through(server(), 5_000, told="not", headers=True, concurrency=64)
    print(cost)
    assert cost.calls <= 1.05
    assert cost.time <= 1.05


def test_a_call_in_fifty_that_may_come_back_at_once_does_not_slow_down_the_others():
    async def seconds(refused):
        pace, dice, left = Pace("p"), random.Random(5), 4000

        async def worker():
            nonlocal left
            while left > 0:
                turn = await pace.turn(1)
                await asyncio.sleep(0.02)
                no = dice.random() < refused
                left -= not no
                pace.leave(turn, failed("rate.limited", 0.0) if no else None)

        await asyncio.gather(*(worker() for _ in range(8)))

    without, some = (virtual_time.run(seconds(share))[1] for share in (0.0, 0.02))
    assert some < 1.2 * without


@pytest.mark.parametrize("server", limits.SERVERS.values(), ids=limits.SERVERS)
def test_a_known_limit_is_kept(server):
    cost = limits.work_through(server(), 2_000, rpm=limits.RPM, concurrency=64)
    print(cost)
    assert cost.calls <= 1.02


def test_tokens_a_minute_are_kept_and_corrected_by_what_it_really_took():
    async def seconds_for(actual):
        pace = Pace("p", tpm=6000, concurrency=1)
        for _ in range(100):
            pace.leave(await pace.turn(100), None, actual)

    assert virtual_time.run(seconds_for(100))[1] == pytest.approx((100 * 100 - 500) / 100, rel=0.05)
    assert virtual_time.run(seconds_for(50))[1] == pytest.approx((100 * 50 - 500) / 100, rel=0.05)


def test_a_call_larger_than_the_bucket_goes_when_it_is_full():
    bucket = Bucket(per_second=1, burst=10)
    assert bucket.wait(50, 0.0) == 0
    bucket.take(50, 0.0)
    assert bucket.wait(1, 0.0) == 41


def test_limits_that_the_provider_names_are_kept():
    async def main():
        pace = Pace("p", concurrency=1)
        for _ in range(20):
            turn = await pace.turn(1)
            pace.named(turn, "calls", limit=10, remaining=0, reset=10.0)
            pace.leave(turn, None)

    assert virtual_time.run(main())[1] == pytest.approx(19, rel=0.05)


@pytest.mark.parametrize("reset", [8 * 3600.0, 1_795_000_000.0])
def test_a_limit_of_a_day_and_a_moment_that_is_no_duration_hold_nobody_back(reset):
    async def main():
        pace = Pace("p", concurrency=1)
        for _ in range(20):
            turn = await pace.turn(1)
            pace.named(turn, "calls", limit=10, remaining=0, reset=reset)
            pace.leave(turn, None)

    assert virtual_time.run(main())[1] == 0


def test_a_cool_down_holds_everybody_back_and_is_one_event():
    async def main():
        pace = Pace("p", concurrency=10)
        loop = asyncio.get_running_loop()
        turns = [await pace.turn(1) for _ in range(10)]
        await asyncio.sleep(0.1)
        for turn in turns:
            pace.leave(turn, failed("rate.limited", 30.0))
        window = pace._window.size
        await pace.turn(1)
        return window, loop.time()

    (window, waited), _ = virtual_time.run(main())
    assert window == 7
    assert waited == pytest.approx(30.1)


@pytest.mark.parametrize("retry_after", [0.0, 1.0, 3.5, 300.0])
def test_a_named_wait_is_kept_exactly(retry_after):
    async def main():
        pace = Pace("p")
        pace.leave(await pace.turn(1), failed("rate.limited", retry_after))
        pace.leave(await pace.turn(1), None)

    assert virtual_time.run(main())[1] == pytest.approx(retry_after)


def test_a_wait_beyond_all_patience_is_said_at_once_and_does_not_last():
    async def main():
        pace = Pace("p", concurrency=1)
        turn = await pace.turn(1)
        waiting = asyncio.ensure_future(pace.turn(1))
        await asyncio.sleep(0)
        outage = pace.leave(turn, failed("rate.limited", 86400.0))
        with pytest.raises(ProviderBusy) as caught:
            await waiting
        pace.leave(await pace.turn(1), None)
        return outage, caught.value

    (outage, other), seconds = virtual_time.run(main())
    assert outage is other
    assert (outage.code, outage.outage, outage.retry_after) == ("rate.limited", True, 86400.0)
    assert seconds == 0


def test_the_window_opens_quickly_and_only_a_429_narrows_it():
    window = Window(None)
    sizes = [window.size]
    for _ in range(40):
        window.succeeded()
        sizes.append(window.size)
    assert sizes[:4] == [4, 5, 6, 7]
    assert sizes[-1] == 32
    window.timed_out()
    assert window.size == 32
    window.refused()
    assert window.size == 22
    for _ in range(22):
        window.succeeded()
    assert window.size == 23
    for _ in range(50):
        window.refused()
    assert window.size == 1


def outage_of(seconds, *, concurrency=4, patience=300.0):
    """Virtual seconds and calls until a provider that is down for *seconds* was waited out, or given up."""

    async def main():
        pace = Pace("p", concurrency=concurrency, patience=patience, random=random.Random(1).random)
        loop = asyncio.get_running_loop()
        calls = 0

        async def one():
            nonlocal calls
            while True:
                turn = await pace.turn(1)
                calls += 1
                await asyncio.sleep(0.1)
                down = loop.time() < seconds
                outage = pace.leave(turn, failed("provider.unreachable") if down else None)
                if outage is not None:
                    raise outage
                if not down:
                    return

        results = await asyncio.gather(*(one() for _ in range(50)), return_exceptions=True)
        return calls, results, loop.time()

    return virtual_time.run(main())[0]


def test_an_outage_is_waited_out():
    calls, results, seconds = outage_of(120)
    assert results == [None] * 50
    assert calls <= 50 + 40
    assert seconds < 180


def test_an_endless_outage_is_given_up_for_all():
    calls, results, seconds = outage_of(1e9)
    assert all(isinstance(result, ProviderBusy) and result.outage for result in results)
    assert calls <= 40
    assert 300 <= seconds <= 330


def test_whoever_comes_after_hears_it_at_once_or_finds_it_mended():
    async def main():
        pace = Pace("p", patience=0.0)
        for _ in range(10):
            outage = pace.leave(await pace.turn(1), failed("provider.timeout"))
        assert outage is not None
        again = pace.leave(await pace.turn(1), failed("provider.timeout"))
        pace.leave(await pace.turn(1), None)
        return again, pace.down

    (again, down), seconds = virtual_time.run(main())
    assert again.outage
    assert not down
    assert seconds == 0


def test_a_refusal_shows_that_the_provider_lives():
    async def main():
        pace = Pace("p")
        for _ in range(9):
            pace.leave(await pace.turn(1), failed("provider.unavailable"))
        pace.leave(await pace.turn(1), Failure(ProviderError("no", provider="p")))
        pace.leave(await pace.turn(1), failed("provider.unavailable"))
        return pace.down

    assert virtual_time.run(main())[0] is False


def test_those_who_go_away_leave_their_turn_to_others():
    async def main():
        pace = Pace("p", concurrency=1)
        first = await pace.turn(1)
        tasks = [asyncio.ensure_future(pace.turn(1)) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        pace.leave(first, None)  # grants the second, which goes away before it hears of it
        tasks[1].cancel()
        await asyncio.wait(tasks[:3])
        second = tasks[2].result()
        pace.withdraw(second)
        await tasks[3]
        return [task.cancelled() for task in tasks]

    assert virtual_time.run(main())[0] == [True, True, False, False]


def test_a_probe_that_goes_away_is_followed_by_another():
    async def main():
        pace = Pace("p")
        for _ in range(10):
            pace.leave(await pace.turn(1), failed("provider.timeout"))
        probe = await pace.turn(1)
        waiting = asyncio.ensure_future(pace.turn(1))
        await asyncio.sleep(1)
        assert not waiting.done()
        pace.withdraw(probe)
        pace.leave(await waiting, None)
        return pace.down

    down, seconds = virtual_time.run(main())
    assert not down
    assert seconds == pytest.approx(6)


def test_an_idle_hour_is_no_rate():
    async def main():
        pace = Pace("p", random=lambda: 0.0)
        for _ in range(10):
            pace.leave(await pace.turn(1), None)
            await asyncio.sleep(3600)
        pace.leave(await pace.turn(1), failed("rate.limited", 0.0))
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(10):
            pace.leave(await pace.turn(1), None)
        return loop.time() - start

    assert virtual_time.run(main())[0] == 0
