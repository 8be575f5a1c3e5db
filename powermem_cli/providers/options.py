"""Options as they come from a configuration: each checked once, with its name in the error."""

from __future__ import annotations

import math
from typing import Any

from powermem_cli.errors import ConfigError


def text(name: str, value: Any) -> str | None:
    """*value* without blanks around it; None if there is none."""
    if value is not None and not isinstance(value, str):
        raise _wrong(name, "text", value)
    return (value or "").strip() or None


def whole(name: str, value: Any) -> int | None:
    """A number of things, 1 or more."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise _wrong(name, "a whole number from 1 up", value)
    return value


def number(name: str, value: Any) -> float | None:
    """A number from 0 up."""
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise _wrong(name, "a number from 0 up", value)
    return float(value)


def positive(name: str, value: Any) -> float | None:
    """A number above 0."""
    if number(name, value) == 0:
        raise _wrong(name, "a number above 0", value)
    return None if value is None else float(value)


def _wrong(name: str, wanted: str, value: Any) -> ConfigError:
    # A text is not shown: it may be a key that was given in the wrong place.
    shown = repr(value) if isinstance(value, (int, float)) else f"a {type(value).__name__}"
    return ConfigError(f"{name} must be {wanted}, not {shown}", code="config.value")
