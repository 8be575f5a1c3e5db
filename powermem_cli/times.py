"""Points in time: what people and programs write, to microseconds since 1970 UTC and back."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
YEAR_1900: Final = -2_208_988_800_000_000
YEAR_2200: Final = 7_258_118_400_000_000
MICROSECOND: Final = timedelta(microseconds=1)

_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2})(?:(:\d{2})(?:[.,](\d{1,9}))?)?\s*(Z|z|UTC|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)
_AGO = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,20}(?:\.\d{1,20})?", re.ASCII)


def now() -> int:
    return time.time_ns() // 1000


def parse_time(value: object) -> int:
    """RFC 3339, or the epoch in seconds, ms or µs (told apart by size). Without a zone it is UTC.

    Raises ValueError with a sentence that can stand behind the name of the field.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"a time is RFC 3339 or a number since 1970, not {type(value).__name__}")
    if isinstance(value, str):
        text = value.strip()
        found = _RFC3339.fullmatch(text)
        micros = _from_epoch(text) if found is None else _from_rfc3339(found)
    else:
        micros = _from_epoch(value)
    if not YEAR_1900 <= micros <= YEAR_2200:
        raise ValueError(f"the time {value!r} is not between 1900 and 2200")
    return micros


def parse_moment(text: str, *, end: bool = False) -> int:
    """What a person writes: how long ago (`90s 30m 12h 7d 2w`), or anything parse_time knows; with *end* a bare day
    is the moment after it. Raises ValueError.
    """
    given = text.strip()
    if ago := _AGO.fullmatch(given):
        micros = now() - int(ago[1]) * _UNITS[ago[2]] * 1_000_000
        if micros < YEAR_1900:
            raise ValueError(f"{given} ago is before 1900")
        return micros
    if given.isdecimal() and len(given) < 5:
        raise ValueError(f"{given!r} lacks its unit: one of {' '.join(_UNITS)}")
    return parse_time(given) + (_UNITS["d"] * 1_000_000 if end and _DAY.fullmatch(given) else 0)


def _from_rfc3339(found: re.Match[str]) -> int:
    day, minute, second, fraction, zone = found.groups()
    offset = "+00:00" if zone is None or zone in {"Z", "z", "UTC"} else zone
    if len(offset) == 5:  # +0200
        offset = offset[:3] + ":" + offset[3:]
    micros = int((fraction or "0").ljust(6, "0")[:6])
    try:
        moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}{second or ':00'}{offset}")
    except ValueError as error:
        raise ValueError(f"there is no such time as {found.group()!r} ({error})") from None
    return (moment - EPOCH) // MICROSECOND + micros


def _from_epoch(value: float | str) -> int:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise ValueError(f"{value[:40]!r} is no time: write RFC 3339, as 2026-03-01T09:30:00Z")
        value = float(value) if "." in value else int(value)
    size = abs(value)
    if not size < 1e17:  # NaN and infinities too
        raise ValueError("a number of this size is no time between 1900 and 2200")
    scale = 1_000_000 if size < 1e11 else 1_000 if size < 1e14 else 1
    # An integer of microseconds is exact; a float of seconds is rounded where its digits end.
    return value * scale if isinstance(value, int) else round(value * scale)


def format_time(micros: int) -> str:
    """RFC 3339 in UTC, with the microseconds only where there are some."""
    moment = EPOCH + timedelta(microseconds=micros)
    return moment.isoformat(timespec="microseconds" if micros % 1_000_000 else "seconds").replace("+00:00", "Z")
