"""Servers that let so many calls a minute in, in virtual time: what 10,000 calls cost there.

    python tests/limits.py          # the whole table

A server is asked with the time of a call and answers None, or the seconds until the next one may come.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import virtual_time

from powermem_cli.errors import ProviderBusy
from powermem_cli.providers.pace import Pace
from powermem_cli.retry import Failure

Told = Literal["exactly", "in whole seconds", "not"]
"""How a refused caller is told when to come back."""

RPM = 500


class TokenBucket:
    """So much a second, *burst* at once."""

    def __init__(self, burst: int) -> None:
        self._rate, self._burst, self._level, self._at = RPM / 60, burst, float(burst), 0.0

    def refuses(self, now: float) -> float | None:
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level >= 1:
            self._level -= 1
            return None
        return (1 - self._level) / self._rate

    def headers(self, now: float) -> tuple[float, float, float]:
        return self._burst, int(self._level), (self._burst - self._level) / self._rate

    def ideal(self, calls: int) -> float:
        return (calls - self._burst) / self._rate


class FixedWindow:
    """So many in each minute of the clock."""

    def __init__(self) -> None:
        self._minute, self._count = -1, 0

    def refuses(self, now: float) -> float | None:
        if int(now // 60) != self._minute:
            self._minute, self._count = int(now // 60), 0
        self._count += 1
        return None if self._count <= RPM else (self._minute + 1) * 60 - now

    def headers(self, now: float) -> tuple[float, float, float]:
        return RPM, max(0, RPM - self._count), (self._minute + 1) * 60 - now

    def ideal(self, calls: int) -> float:
        return 60.0 * ((calls - 1) // RPM)


class SlidingWindow:
    """So many in any 60 seconds."""

    def __init__(self) -> None:
        self._let_in: deque[float] = deque()

    def refuses(self, now: float) -> float | None:
        while self._let_in and self._let_in[0] <= now - 60:
            self._let_in.popleft()
        if len(self._let_in) < RPM:
            self._let_in.append(now)
            return None
        return self._let_in[0] + 60 - now

    def headers(self, now: float) -> tuple[float, float, float]:
        return RPM, RPM - len(self._let_in), self._let_in[-1] + 60 - now

    def ideal(self, calls: int) -> float:
        return 60.0 * ((calls - 1) // RPM)


SERVERS: dict[str, Any] = {
    "bucket of 500": lambda: TokenBucket(500),
    "bucket of 10": lambda: TokenBucket(10),
    "bucket of 1": lambda: TokenBucket(1),
    "fixed window": FixedWindow,
    "sliding window": SlidingWindow,
}
TOLD: dict[Told, Any] = {"exactly": lambda wait: wait, "in whole seconds": math.ceil, "not": lambda wait: None}


@dataclass(frozen=True)
class Cost:
    """As shares: calls made for each that got through, time for the shortest possible."""

    calls: float
    time: float

    def __str__(self) -> str:
        return f"{self.calls:.3f} calls per record, {self.time:.3f} x the ideal time"


def work_through(
    server: Any,
    records: int,
    *,
    told: Told = "exactly",
    headers: bool = False,
    latency: float = 0.5,
    seed: int = 3,
    **options: Any,
) -> Cost:
    """What *records* calls cost, all wanted at once; *options* are those of Pace."""
    rng = random.Random(seed)
    pace = Pace("p", random=rng.random, **options)
    calls = 0

    async def one() -> None:
        nonlocal calls
        loop = asyncio.get_running_loop()
        while True:
            turn = await pace.turn(1)
            calls += 1
            wait, said = server.refuses(loop.time()), server.headers(loop.time())
            await asyncio.sleep((latency if wait is None else 0.05) * rng.uniform(0.7, 1.3))
            if headers:
                pace.named(turn, "calls", *said)
            if wait is None:
                assert pace.leave(turn, None) is None
                return
            busy = ProviderBusy("no", provider="p", code="rate.limited")
            assert pace.leave(turn, Failure(busy, TOLD[told](wait))) is None, "given up"

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(records)))

    _, seconds = virtual_time.run(main())
    return Cost(calls / records, seconds / server.ideal(records))


def main() -> None:
    for name, server in SERVERS.items():
        for told in TOLD:
            for headers in (False, True):
                for concurrency in (64, None):
                    cost = work_through(server(), 10_000, told=told, headers=headers, concurrency=concurrency)
                    wanted = "64 wanted" if concurrency else "adaptive"
                    named = "x-ratelimit" if headers else "no headers"
                    print(f"{name:15} told {told:17} {named:12} {wanted}: {cost}", flush=True)
        for concurrency in (64, None):
            cost = work_through(server(), 10_000, rpm=RPM, concurrency=concurrency)
            print(f"{name:15} with --rpm {RPM}: {cost}", flush=True)


if __name__ == "__main__":
    main()
