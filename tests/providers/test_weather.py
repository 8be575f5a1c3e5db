"""Calls to a provider that fails now and then, is down for a while, or is slow: in virtual time, without a network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import virtual_time

from powermem_cli.errors import ProviderBusy
from powermem_cli.providers.http import Answer, Api, Call, Transport
from powermem_cli.retry import Failure

CALL = Call("/", {}, Answer, 1)
UNREACHABLE, UNAVAILABLE, TIMEOUT = "provider.unreachable", "provider.unavailable", "provider.timeout"


@dataclass
class Weather:
    """How a provider is: what becomes of a call that comes at a time, and how long that takes."""

    fate: Callable[[float], str | None] = lambda _now: None
    """The code of an error, or None for an answer."""
    latency: float = 0.1
    slots: int = 1_000_000
    """Calls that it works on at a time; the others wait for their turn."""
    timeout: float = 60.0
    calls: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.slots)

    async def __call__(self, *_about: object) -> Answer | Failure:
        now = asyncio.get_running_loop().time()
        self.calls.append(now)
        try:
            code = await asyncio.wait_for(self._work(), self.timeout)
        except asyncio.TimeoutError:
            code = TIMEOUT
        return Answer("done", 1, 0) if code is None else Failure(ProviderBusy("no", provider="p", code=code))

    async def _work(self) -> str | None:
        async with self._slots:
            await asyncio.sleep(self.latency)
            return self.fate(asyncio.get_running_loop().time())


@dataclass
class Story:
    """What became of so many calls."""

    results: list[object]
    times: list[float]
    """When each call came."""
    seconds: float

    @property
    def calls(self) -> int:
        return len(self.times)

    @property
    def failed(self) -> list[ProviderBusy]:
        return [result for result in self.results if isinstance(result, ProviderBusy)]


def through(number: int, *, at_once: int = 64, concurrency: int | None = None, **weather: object) -> Story:
    """*number* calls, *at_once* of them wanted at a time."""

    async def main() -> Story:
        server = Weather(**weather)
        transport = Transport(random=random.Random(5).random, timeout=server.timeout, concurrency=concurrency)
        api = Api("p", "m", "http://127.0.0.1:9", transport)
        api._attempt = server
        gate = asyncio.Semaphore(at_once)

        async def one() -> object:
            async with gate:
                return (await api.post(CALL))[0]

        results = await asyncio.gather(*(one() for _ in range(number)), return_exceptions=True)
        assert api.usage.calls == len(server.calls)
        return Story(results, server.calls, asyncio.get_running_loop().time())

    return virtual_time.run(main())[0]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6])
def test_a_share_of_failures_is_worked_through(share):
    dice = random.Random(3)
    story = through(800, fate=lambda _now: UNAVAILABLE if dice.random() < share else None)
    assert story.calls <= 800 / (1 - share) * 1.1
    assert len(story.failed) <= (0 if share <= 0.3 else 8)
    assert not any(error.outage for error in story.failed)


@pytest.mark.parametrize("code", [UNREACHABLE, UNAVAILABLE])
def test_two_minutes_are_waited_out(code):
    story = through(300, fate=lambda now: code if 1 < now < 121 else None)
    assert story.failed == []
    assert story.calls <= 300 + 64
    assert story.seconds < 250


@pytest.mark.parametrize("end", [600.0, float("inf")])
def test_ten_minutes_and_for_ever_are_given_up_and_nobody_is_to_blame(end):
    story = through(300, fate=lambda now: UNREACHABLE if 1 < now < end else None)
    assert all(error.outage for error in story.failed)
    assert 0 < len(story.failed) < 300
    assert sum(time > 1.2 for time in story.times) <= 10  # the looks whether it is there again
    assert 300 <= story.seconds <= 330


def test_five_seconds_up_and_five_down():
    story = through(1000, fate=lambda now: UNREACHABLE if now % 10 > 5 else None)
    assert story.failed == []
    print(story.calls, story.seconds)


SLOW = {
    "four at a time": {"slots": 4, "latency": 1.0},
    "one at a time, and time runs out in a long queue": {"slots": 1, "latency": 10.0},
    "two at a time, just in time": {"slots": 2, "latency": 25.0},
    "one at a time, too slow for those that go at first": {"slots": 1, "latency": 20.0},
}


@pytest.mark.parametrize("server", SLOW.values(), ids=SLOW)
def test_a_server_that_gets_no_faster_by_more_calls_is_used_as_well_as_can_be(server):
    fixed = [through(100, concurrency=size, **server) for size in (1, 2, 4, 8, 16, 32)]
    best = min(story.seconds for story in fixed if not story.failed)
    adaptive = through(100, **server)
    print(best, adaptive.seconds, adaptive.calls)
    assert adaptive.failed == []
    assert adaptive.seconds <= best / 0.9
