"""When the next call to a provider may go out: how many at once, how many a minute, and whether at all."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from powermem_cli.errors import ProviderBusy
from powermem_cli.providers.rates import Bucket, LearnedRate
from powermem_cli.retry import Failure, backoff

PATIENCE: Final = 300.0  # seconds a provider may be down, or refuse every call, before it is given up
_TRANSIENT: Final = {"provider.unreachable", "provider.timeout", "provider.unavailable"}
_REFUSED_BY_NOW: Final = 1.5  # times what a refusal just took: by then another would have come
_SOON: Final = 1e-6  # seconds; a shorter wait is only rounding, and a timer for it could fire for ever

Kind = Literal["calls", "tokens"]


class Window:
    """How many calls may be under way at once.

    It grows by one with each success until the first 429 or time-out, then by one with each window of them, and only
    while it is what holds calls back. Only a 429 shrinks it, and a time-out that many calls at once must have caused.
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
    """Nobody calls before *until*. *begun* tells the calls that were under way by then from those that came later."""

    begun: float = -math.inf
    until: float = -math.inf
    in_a_row: int = 0
    """Refusals, each of a call that went out after the one before, without any that was let in between them."""
    since: float | None = None
    """When the first of them came; None once a call got through."""
    got_through: int = 0
    """Calls that went out since the last refusal and got through."""

    lasted: float | None = None
    """Seconds that the last series of refusals took, if it was long: a window's limit comes back like a clock."""

    LONGEST_GUESS: Final = 10.0  # seconds: to look again costs one call, to sleep on may cost a minute

    def succeeded(self, started: float) -> None:
        """A call that went out when all those before had been refused got through."""
        if self.since is not None and self.in_a_row > 2:  # a series
            self.lasted = started - self.since
        self.got_through += 1
        self.in_a_row = 0
        self.since = None

    def begin_again(self, now: float) -> None:
        self.since, self.in_a_row = now, 0

    def guess(self, now: float, slot: float | None, random: Callable[[], float]) -> float:
        """Seconds to wait if the provider names none; *slot* is the time between two calls, once that is known."""
        if slot is None:
            return backoff(self.in_a_row + 1, 0.5, self.LONGEST_GUESS, random)
        step = min(self.LONGEST_GUESS, max(0.1, slot) * 2.0 ** min(self.in_a_row - 1, 64))
        if self.lasted is not None and self.since is not None:
            share = (now - self.since) / self.lasted
            if 0.25 < share < 0.95:
                return (0.95 - share) * self.lasted
            if 0.95 <= share < 1.25:
                step = 0.03 * self.lasted
        return step * (0.5 + random() / 2)


@dataclass(slots=True, eq=False)
class Turn:
    """The right to send one call, from Pace.turn until Pace.leave or Pace.withdraw."""

    tokens: int
    granted: asyncio.Future[None]
    number: int = 0
    started: float = 0.0
    probe: bool = False
    saturated: bool = False


def _now() -> float:
    """By the loop itself: anyio's way to ask it needs a task, and a timer runs in none."""
    return asyncio.get_running_loop().time()


class Pace:
    """Hands out turns, first come first served, and learns from how the calls end. One per provider and model."""

    def __init__(
        self,
        provider: str,
        *,
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        timeout: float = math.inf,
        patience: float = PATIENCE,
        clock: Callable[[], float] = _now,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.successes = 0
        self._provider = provider
        self._timeout = timeout
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
        self._took = 0.0
        """Seconds of the last call that was answered."""
        self._narrowed = -math.inf
        self._granted = 0
        self._in_flight: set[Turn] = set()
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
        self._in_flight.discard(turn)
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
        self._in_flight.discard(turn)
        self._breaker.withdrawn(probe=turn.probe)
        self._pump()

    def named(self, turn: Turn, kind: Kind, limit: float, remaining: float, reset: float) -> None:
        """The answer to *turn* says that *remaining* of *limit* are left, and all are there again in *reset* seconds.

        It said so when it let the call in: what went out since is not in it, and neither is what was refilled since.
        """
        if limit <= remaining or not 0 < reset <= (limit - remaining) * self._patience:
            return  # the limit of a day, or no duration at all: a refusal says what is to be done
        per_second, now = (limit - remaining) / reset, self._clock()
        since = max(0, self._granted - turn.number) if kind == "calls" else 0
        level = min(limit, remaining + (now - turn.started) * per_second - since)
        self._named[kind] = Bucket(per_second, limit, level)

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
        if len(self._in_flight) >= self._window.size or self._looking_again():
            return math.inf
        amounts = {"calls": 1, "tokens": tokens}
        buckets = (*self._asked.items(), *self._named.items())
        waits = [bucket.wait(amounts[kind], now) for kind, bucket in buckets]
        return max(self._cool_down.until - now, self._breaker.wait(now), self._learned.wait(now), *waits)

    def _looking_again(self) -> bool:
        """Whether a call is out to see if the calls are let in again: one is enough."""
        return self._cool_down.in_a_row > 1 and any(turn.started >= self._cool_down.begun for turn in self._in_flight)

    def _let_in_before(self, refused: Turn, now: float, *, told: bool) -> int:
        """How many that went out since the last refusal, before this one, wait for their answer: they were let in.

        Unless the provider says how long to wait, that has to be seen: a refusal of theirs would be here by now.
        """
        least = 0.0 if told else _REFUSED_BY_NOW * (now - refused.started)
        return sum(
            turn.started >= self._cool_down.begun and turn.number < refused.number and now - turn.started >= least
            for turn in self._in_flight
        )

    def _grant(self, turn: Turn, now: float) -> None:
        self._granted += 1
        self._in_flight.add(turn)
        for kind, bucket in (*self._asked.items(), *self._named.items()):
            bucket.take(1 if kind == "calls" else turn.tokens, now)
        self._learned.take(now)
        turn.number, turn.started = self._granted, now
        turn.probe = self._breaker.went_out()
        turn.saturated = len(self._in_flight) >= self._window.size
        turn.granted.set_result(None)

    def _succeeded(self, turn: Turn, now: float) -> None:
        self.successes += 1
        self._breaker.answered()
        if turn.started >= self._cool_down.begun:
            self._cool_down.succeeded(turn.started)
        self._learned.succeeded(now)
        self._took = now - turn.started
        # A server that works on few calls at a time lets all others wait: more of them would wait until time runs out.
        if turn.saturated and self._took < self._timeout / 2:
            self._window.succeeded()

    def _failed(self, turn: Turn, failure: Failure, now: float) -> ProviderBusy | None:
        self._breaker.failed(now, probe=turn.probe)
        if failure.error.code == "provider.timeout":
            self._timed_out(turn, now)
        if self._breaker.opened is None or now - self._breaker.opened < self._patience:
            return None
        self._breaker.given_up()
        return self._give_up(f"no answer for {now - self._breaker.opened:.0f} s", failure)

    def _timed_out(self, turn: Turn, now: float) -> None:
        """One of many quick calls had bad luck; one of many slow ones waited behind the others."""
        self._window.timed_out()
        if self._took > self._timeout / 4 and turn.started >= self._narrowed:
            self._window.refused()
            self._narrowed = now

    def _limited(self, turn: Turn, failure: Failure, now: float) -> ProviderBusy | None:
        cool_down = self._cool_down
        self._granted -= 1  # it was not let in
        if turn.started >= cool_down.begun:
            let_in = cool_down.got_through + self._let_in_before(turn, now, told=failure.retry_after is not None)
            if let_in or cool_down.since is None:
                cool_down.begin_again(now)
                # "At once", after many that got through, names no limit: a server had no room for this one. To go slower
                # each time would end in a crawl, since it says so whatever the rate.
                no_limit = failure.retry_after == 0 and let_in >= LearnedRate.MANY
                if not no_limit and not self._learned.refused(now, let_in):
                    self._window.refused()
            cool_down.begun = now
            cool_down.got_through = 0
            cool_down.in_a_row += 1
        wait = failure.retry_after
        if wait is None:
            wait = cool_down.guess(now, self._learned.slot, self._random)
        cool_down.until = max(cool_down.until, now + wait)
        since = now if cool_down.since is None else cool_down.since
        if wait <= self._patience and now - since < self._patience:
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
