"""When the next call to a provider may go out: how many at once, how many a minute, and whether at all."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import anyio

from powermem_cli.errors import ProviderBusy
from powermem_cli.retry import Failure, backoff

PATIENCE: Final = 300.0  # seconds a provider may be down, or refuse every call, before it is given up
_TRANSIENT: Final = {"provider.unreachable", "provider.timeout", "provider.unavailable"}
_SOON: Final = 1e-6  # seconds; a shorter wait is only rounding, and a timer for it could fire for ever

Kind = Literal["calls", "tokens"]


class Bucket:
    """So much a second; what is not used is kept, up to *burst*. It may be overdrawn by one call."""

    def __init__(self, per_second: float, burst: float, level: float | None = None) -> None:
        self.per_second = per_second
        self._burst = burst
        self._level = burst if level is None else level
        self._at = math.inf

    def wait(self, amount: float, now: float) -> float:
        """Seconds until a call of *amount* may go."""
        self._fill(now)
        return (min(amount, self._burst) - self._level) / self.per_second

    def take(self, amount: float, now: float) -> None:
        """Take *amount*; a negative one gives back."""
        self._fill(now)
        self._level -= amount

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self.per_second)
        self._at = now


class LearnedRate:
    """The rate at which calls get through, once a 429 has shown that there is a limit: calls are spaced by it.

    Near the rate that was refused last it grows slowly, farther away quickly, in case the limit has moved.
    """

    MEMORY: Final = 20  # successes that tell the rate, or that tell a touched limit from one passed by far
    ENOUGH: Final = 5

    def __init__(self) -> None:
        self._bucket: Bucket | None = None
        self._got_through: deque[float] = deque(maxlen=self.MEMORY)
        self._refused_at = 0.0
        self._streak = 0

    def wait(self, now: float) -> float:
        return self._bucket.wait(1, now) if self._bucket else 0.0

    def take(self, now: float) -> None:
        if self._bucket:
            self._bucket.take(1, now)

    def succeeded(self, now: float) -> None:
        if self._got_through and now - self._got_through[-1] > 60:
            self._got_through.clear()  # nobody asked for a while: that is no rate
        self._got_through.append(now)
        self._streak += 1
        if self._bucket:
            self._bucket.per_second *= 1.003 if self._bucket.per_second < self._refused_at * 1.05 else 1.04

    def refused(self, now: float) -> None:
        """The first 429 of a cool-down."""
        if self._bucket:
            self._refused_at = self._bucket.per_second
            self._bucket.per_second *= 0.9 if self._streak >= self.MEMORY else 0.7
        elif len(self._got_through) >= self.ENOUGH and now > self._got_through[0]:
            self._bucket = Bucket(0.97 * len(self._got_through) / (now - self._got_through[0]), 1)
        self._streak = 0


class Window:
    """How many calls may be under way at once.

    It grows by one with each success until the first 429 or time-out, then by one with each window of them, and only
    while it is what holds calls back. Only a 429 shrinks it.
    """

    FIRST: Final = 4
    WIDEST: Final = 32

    def __init__(self, fixed: int | None) -> None:
        self._size = float(fixed or self.FIRST)
        self._widest = fixed or self.WIDEST
        self._fast = True

    @property
    def size(self) -> int:
        return int(self._size)

    def succeeded(self) -> None:
        self._size = min(self._widest, self._size + (1.0 if self._fast else 1.0 / self._size))

    def timed_out(self) -> None:
        self._fast = False

    def refused(self) -> None:
        self._fast = False
        self._size = max(1.0, self._size * 0.7)


class Breaker:
    """Holds all calls back after many failures in a row, and lets a single one through now and then to see."""

    FAILURES: Final = 10
    FIRST_PROBE: Final = 5.0  # seconds; doubles
    LAST_PROBE: Final = 120.0

    def __init__(self, patience: float) -> None:
        self.opened: float | None = None
        self._patience = patience
        self._failures = 0
        self._interval = self.FIRST_PROBE
        self._probe_at = 0.0
        self._probing = False

    def wait(self, now: float) -> float:
        """Seconds until a call may go: 0 when closed, endless while a probe is out."""
        if self.opened is None:
            return 0.0
        return math.inf if self._probing else self._probe_at - now

    def went_out(self) -> bool:
        """A call goes out. True if it is the probe."""
        self._probing = self.opened is not None
        return self._probing

    def answered(self) -> None:
        """Any answer, even a refusal, shows that the provider lives."""
        self.opened = None
        self._failures = 0
        self._interval = self.FIRST_PROBE
        self._probing = False

    def failed(self, now: float, *, probe: bool) -> None:
        """What was under way when the breaker opened says nothing new; only a probe does."""
        if self.opened is None:
            self._failures += 1
            if self._failures < self.FAILURES:
                return
            self.opened = now
        elif not probe:
            return
        self._probing = False
        self._probe_at = now + self._interval
        if now < self.opened + self._patience:
            self._probe_at = min(self._probe_at, self.opened + self._patience)  # a last look before it is given up
        self._interval = min(self.LAST_PROBE, self._interval * 2)

    def withdrawn(self, *, probe: bool) -> None:
        """The caller went away before an answer: if it was the probe, the next one is."""
        if probe:
            self._probing = False

    def given_up(self) -> None:
        """Whoever comes next need not wait for the next probe to hear the same."""
        self._probe_at = -math.inf


@dataclass(slots=True)
class CoolDown:
    """Nobody calls before *until*. *begun* tells the 429s of one cool-down from those of the next."""

    begun: float = -math.inf
    until: float = -math.inf
    in_a_row: int = 0
    since: float | None = None
    """When the first 429 came after which nothing got through."""

    def succeeded(self) -> None:
        self.in_a_row = 0
        self.since = None


@dataclass(slots=True)
class Turn:
    """The right to send one call, from Pace.turn until Pace.leave or Pace.withdraw."""

    tokens: int
    granted: asyncio.Future[None]
    started: float = 0.0
    probe: bool = False
    saturated: bool = False


class Pace:
    """Hands out turns, first come first served, and learns from how the calls end. One per provider and model."""

    def __init__(
        self,
        provider: str,
        *,
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        patience: float = PATIENCE,
        clock: Callable[[], float] = anyio.current_time,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.successes = 0
        self._provider = provider
        self._patience = patience
        self._clock = clock
        self._random = random
        # A bucket of calls holds one: calls go out evenly, and no server sees a burst.
        self._asked = {"calls": Bucket(rpm / 60, 1)} if rpm else {}
        if tpm:
            self._asked["tokens"] = Bucket(tpm / 60, tpm / 12)
        self._named: dict[Kind, Bucket] = {}
        self._learned = LearnedRate()
        self._window = Window(concurrency)
        self._breaker = Breaker(patience)
        self._cool_down = CoolDown()
        self._in_flight = 0
        self._queue: deque[Turn] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def down(self) -> bool:
        """Whether calls are held back because none of the last ones was answered."""
        return self._breaker.opened is not None

    async def turn(self, tokens: int) -> Turn:
        """Wait until a call of about *tokens* may go out. Raises ProviderBusy if the provider is given up meanwhile."""
        turn = Turn(tokens, asyncio.get_running_loop().create_future())
        self._queue.append(turn)
        self._pump()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.done() and not turn.granted.cancelled() and turn.granted.exception() is None:
                self.withdraw(turn)
            raise
        return turn

    def leave(self, turn: Turn, failure: Failure | None, tokens: int | None = None) -> ProviderBusy | None:
        """The call of *turn* ended; *tokens* is what it really took. An error says that the provider is given up."""
        now = self._clock()
        self._in_flight -= 1
        if tokens is not None and "tokens" in self._asked:
            self._asked["tokens"].take(tokens - turn.tokens, now)
        outage = None
        if failure is None:
            self._succeeded(turn, now)
        elif failure.error.code in _TRANSIENT:
            outage = self._failed(turn, failure, now)
        else:
            self._breaker.answered()
            if failure.error.code == "rate.limited":
                outage = self._limited(turn, failure, now)
        self._pump()
        return outage

    def withdraw(self, turn: Turn) -> None:
        """The caller of *turn* went away; how the call would have ended is not known."""
        self._in_flight -= 1
        self._breaker.withdrawn(probe=turn.probe)
        self._pump()

    def named(self, kind: Kind, limit: float, remaining: float, reset: float) -> None:
        """The provider says that *remaining* of *limit* are left, and that all are there again in *reset* seconds."""
        if limit > remaining and reset > 0:
            others = self._in_flight - 1 if kind == "calls" else 0  # under way, and perhaps not yet counted
            self._named[kind] = Bucket((limit - remaining) / reset, limit, remaining - others)

    def _pump(self) -> None:
        """Let go whoever may go, and look again when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        while self._queue:
            turn = self._queue[0]
            if turn.granted.done():
                self._queue.popleft()
                continue
            wait = self._wait(turn.tokens, now)
            if wait > _SOON:
                if wait < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._pump)
                return
            self._queue.popleft()
            self._grant(turn, now)

    def _wait(self, tokens: int, now: float) -> float:
        """Seconds until the next call may go; endless if only the end of another call can tell."""
        if self._in_flight >= self._window.size:
            return math.inf
        amounts = {"calls": 1, "tokens": tokens}
        buckets = (*self._asked.items(), *self._named.items())
        waits = [bucket.wait(amounts[kind], now) for kind, bucket in buckets]
        return max(self._cool_down.until - now, self._breaker.wait(now), self._learned.wait(now), *waits)

    def _grant(self, turn: Turn, now: float) -> None:
        self._in_flight += 1
        for kind, bucket in (*self._asked.items(), *self._named.items()):
            bucket.take(1 if kind == "calls" else turn.tokens, now)
        self._learned.take(now)
        turn.started = now
        turn.probe = self._breaker.went_out()
        turn.saturated = self._in_flight >= self._window.size
        turn.granted.set_result(None)

    def _succeeded(self, turn: Turn, now: float) -> None:
        self.successes += 1
        self._breaker.answered()
        self._cool_down.succeeded()
        self._learned.succeeded(now)
        if turn.saturated:
            self._window.succeeded()

    def _failed(self, turn: Turn, failure: Failure, now: float) -> ProviderBusy | None:
        self._breaker.failed(now, probe=turn.probe)
        if failure.error.code == "provider.timeout":
            self._window.timed_out()
        if self._breaker.opened is None or now - self._breaker.opened < self._patience:
            return None
        self._breaker.given_up()
        return self._give_up(f"no answer for {now - self._breaker.opened:.0f} s", failure)

    def _limited(self, turn: Turn, failure: Failure, now: float) -> ProviderBusy | None:
        cool_down = self._cool_down
        if turn.started >= cool_down.begun:
            cool_down.begun = now
            cool_down.in_a_row += 1
            self._window.refused()
            self._learned.refused(now)
        if cool_down.since is None:
            cool_down.since = now
        wait = failure.retry_after
        if wait is None:
            wait = backoff(cool_down.in_a_row + 1, 0.5, 60.0, self._random)
        cool_down.until = max(cool_down.until, now + wait)
        if wait <= self._patience and now - cool_down.since < self._patience:
            return None
        cool_down.until = now  # whoever comes next need not wait as long to hear the same
        return self._give_up("calls are refused as too many", failure)

    def _give_up(self, why: str, failure: Failure) -> ProviderBusy:
        """What to raise, and what all who wait for their turn raise as well."""
        error = ProviderBusy(
            f"{why}: {failure.error.message.removeprefix(self._provider + ': ')}",
            provider=self._provider,
            status=getattr(failure.error, "status", None),
            hint="what was done is kept; run the same command again later",
            code=failure.error.code,
        )
        error.outage = True
        error.retry_after = failure.retry_after
        for turn in self._queue:
            if not turn.granted.done():
                turn.granted.set_exception(error)
        self._queue.clear()
        return error
