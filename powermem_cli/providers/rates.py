"""How many calls a minute: rates that a user or a provider names, and the one that refusals teach."""

from __future__ import annotations

import math
from collections import deque
from typing import Final


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

    First it searches, quickly and then more slowly. A refusal after many calls has touched the limit: from then on the
    rate follows a curve that stays a little below, comes back slowly, and leaves the limit behind ever more quickly if
    nothing happens, in case it has moved. A refusal after few calls shows that the rate is too high for now.
    """

    MEMORY: Final = 100  # successes that tell the rate
    LAST: Final = 20  # successes that tell it for the moment
    ENOUGH: Final = 5  # successes that tell anything
    MANY: Final = 10  # calls let in between two refusals that tell a touched limit from one passed by far
    QUIET: Final = 25  # successes without a refusal after which a rate that was too high is tried again
    BELOW: Final = 0.02  # the share of the touched rate that is given up
    RETURN: Final = 40.0  # seconds, or calls if those take longer, until the touched rate is reached again
    SOON: Final = 20.0  # seconds, the same after a refusal that was no touch
    LONGEST_RETURN: Final = 160.0  # seconds, the same when one rate was touched again and again
    IDLE: Final = 60.0  # seconds without a success after which those before tell no rate

    def __init__(self) -> None:
        self._bucket: Bucket | None = None
        self._got_through: deque[float] = deque(maxlen=self.MEMORY)
        self._streak = 0
        self._growth = 0.06  # with each success, while it searches
        self._level: float | None = None  # where the curve is flat; None while it searches
        self._level_at = 0.0
        self._return = self.RETURN
        self._before: float | None = None  # the rate that was too high for a while

    @property
    def slot(self) -> float | None:
        """Seconds between two calls; None as long as no limit is known."""
        return 1 / self._bucket.per_second if self._bucket else None

    def wait(self, now: float) -> float:
        if self._bucket is None:
            return 0.0
        if self._level is not None:
            self._bucket.per_second = self._on_curve(self._level, now)
        return self._bucket.wait(1, now)

    def take(self, now: float) -> None:
        if self._bucket:
            self._bucket.take(1, now)

    def succeeded(self, now: float) -> None:
        if self._got_through and now - self._got_through[-1] > self.IDLE:
            self._got_through.clear()
        self._got_through.append(now)
        self._streak += 1
        if self._bucket is None:
            return
        if self._level is None:
            # No further than twice what gets through: else it is the calls' own number that holds them back.
            faster = min(self._bucket.per_second * (1 + self._growth), 2 * (self._measured(now, self.LAST) or math.inf))
            self._bucket.per_second = max(self._bucket.per_second, faster)
        elif self._before is not None and self._streak > self.QUIET:
            self._level, self._level_at = max(self._level, min(self._before, self._level * 1.015)), now

    def refused(self, now: float, let_in: int) -> bool:
        """A 429 after *let_in* calls without one. True once the rate alone gives way, and no longer the window."""
        self._streak = 0
        measured = self._measured(now)
        if self._bucket is not None:
            if let_in >= self.MANY:
                self._touched(self._bucket.per_second, now)
            else:
                self._passed(self._bucket.per_second, measured or 0.0, now)
        elif measured is not None:
            self._bucket = Bucket(measured, 1)
            self._got_through.clear()
        return self._level is not None

    def _touched(self, rate: float, now: float) -> None:
        if self._level is not None and abs(rate - self._level) < self.BELOW * rate:
            self._return = min(self._return * 1.5, self.LONGEST_RETURN)
        self._level, self._level_at, self._before = rate, now + self._until_back(rate), None

    def _passed(self, rate: float, measured: float, now: float) -> None:
        assert self._bucket is not None
        less = max(rate * 0.8, min(rate, measured))
        if self._level is None:
            self._bucket.per_second = less
            self._growth = max(0.015, self._growth / 2)
        else:
            self._before = max(rate, self._before or 0.0)
            self._level, self._level_at, self._return = less, now, self.SOON

    def _measured(self, now: float, last: int = MEMORY) -> float | None:
        """Calls per second of the *last* that got through."""
        number = min(last, len(self._got_through))
        if number < self.ENOUGH or now <= self._got_through[-number]:
            return None
        return number / (now - self._got_through[-number])

    def _until_back(self, rate: float) -> float:
        return max(self._return, self.RETURN / rate)

    def _on_curve(self, level: float, now: float) -> float:
        """Steep, flat where it meets *level*, and steep again."""
        away = (now - self._level_at) / self._until_back(level)
        return level * min(2.0, 1 + self.BELOW * away**3)
