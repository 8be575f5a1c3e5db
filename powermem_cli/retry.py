"""When to try again, and after how long. Knows no HTTP, no clock and no sleep: what happened goes in, a decision comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from powermem_cli.errors import PowerMemError

UNLIMITED: Final = 1 << 30


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How patient a call is. A call that is told "too many at once" (`rate.limited`) has not failed and is not counted."""

    attempts: int = 6
    """Calls in all, the first included. Twice as many while other calls to the same provider get through: then it is
    this one's bad luck, and worth more tries than a provider that is down."""
    first_wait: float = 0.5
    """Seconds; the upper end doubles each time."""
    longest_wait: float = 60.0
    again: Mapping[str, int] = field(
        default_factory=lambda: MappingProxyType(
            {
                "provider.unreachable": UNLIMITED,
                "provider.unavailable": UNLIMITED,
                "provider.timeout": 3,
                "provider.bad_response": 2,
                "embed.invalid": 1,
            }
        )
    )
    """Error code → how often it may be tried again. A code that is not here never is."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of one attempt: *retry_after* in seconds if the other side named it, *final* if it said "never"."""

    error: PowerMemError
    retry_after: float | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to call again, and after how many seconds."""

    again: bool
    wait: float = 0.0


GIVE_UP: Final = Decision(again=False)


def decide(
    policy: RetryPolicy, failures: Sequence[Failure], *, others_succeed: bool, random: Callable[[], float]
) -> Decision:
    """What to do after *failures* of one call, the last one just now. *random* gives numbers in 0..1."""
    last = failures[-1]
    code = last.error.code
    attempts = policy.attempts * 2 if others_succeed else policy.attempts
    if last.final or len(failures) >= attempts:
        return GIVE_UP
    if sum(failure.error.code == code for failure in failures) > policy.again.get(code, 0):
        return GIVE_UP
    if last.retry_after is not None:
        return Decision(again=True, wait=last.retry_after)
    return Decision(again=True, wait=backoff(len(failures), policy.first_wait, policy.longest_wait, random))


def backoff(failures: int, first: float, longest: float, random: Callable[[], float]) -> float:
    """Seconds to wait after so many *failures* (1, 2, …): full jitter, so that many callers do not come back as one."""
    return random() * min(longest, first * 2.0 ** min(failures - 1, 64))
