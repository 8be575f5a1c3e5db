r"""The filter language: parsed once, checked once. Each store turns the parsed form into its own SQL.

What a test means, the same on every engine:

* A field is a column (`id user_id agent_id run_id memory created_at updated_at`) or a dotted path into the metadata.
  A missing value and a JSON null are the same: no value.
* `eq ne in nin` compare values of one type; `true` is not `1`, `1` is `1.0`. `ne` and `nin` are the exact opposites
  of `eq` and `in`, so they hold where there is no value.
* `gt gte lt lte` hold between two numbers, two strings (by code point) or two times, and never else.
* `like ilike` match a whole string: `%` any characters, `_` one, `\\` takes the next one as it is. `ilike` compares
  the lower case of both.
* `contains`: a string holds the substring (exact case), a list holds the value.
* `exists`: true where there is a value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from powermem_cli.errors import InvalidInput, did_you_mean
from powermem_cli.times import parse_time

Op = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "like", "ilike", "contains", "exists"]
Value = None | bool | int | float | str

OPERATORS: Final = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "like", "ilike", "contains", "exists")
COLUMNS: Final = ("id", "user_id", "agent_id", "run_id", "memory", "created_at", "updated_at")
TIMES: Final = frozenset({"created_at", "updated_at"})
WORDS: Final = ("AND", "OR", "NOT")
DEEPEST: Final = 32
WIDEST: Final = 1000
LARGEST_INTEGER: Final = 2**63 - 1

_PATH = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,7}")


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison. *column* is set for a column, *path* for a place in the metadata."""

    column: str | None
    path: tuple[str, ...]
    op: Op
    value: Value | tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; with no parts it always holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


Filter = Test | All | AnyOf | Not


def parse_filter(source: Mapping[str, Any] | None) -> Filter | None:
    """The parsed form of a filter dict, None for none. Raises InvalidInput that names the place and the right words."""
    if source is None:
        return None
    if not isinstance(source, Mapping):
        raise InvalidInput(f"a filter is a dict, not {type(source).__name__}", field="filters")
    return _parse(source, "filters", 0) if source else None


def _parse(source: Any, place: str, depth: int) -> Filter:
    if depth > DEEPEST:
        raise InvalidInput(f"the filter is nested more than {DEEPEST} deep", field=place)
    if not isinstance(source, Mapping):
        raise InvalidInput(f"{place} must be a dict, not {type(source).__name__}", field=place)
    parts = tuple(_entry(name, value, place, depth) for name, value in source.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _entry(name: Any, value: Any, place: str, depth: int) -> Filter:
    if name in {"AND", "OR"}:
        if not isinstance(value, (list, tuple)) or not value or len(value) > WIDEST:
            raise InvalidInput(f"{name} takes a list of 1 to {WIDEST} filters", field=f"{place}.{name}")
        parts = tuple(_parse(part, f"{place}.{name}[{i}]", depth + 1) for i, part in enumerate(value))
        return All(parts) if name == "AND" else AnyOf(parts)
    if name == "NOT":
        # mem0 and upstream write NOT with a list: none of them may hold.
        parts = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if not parts or len(parts) > WIDEST:
            raise InvalidInput(f"NOT takes a filter or a list of 1 to {WIDEST} filters", field=f"{place}.NOT")
        return Not(AnyOf(tuple(_parse(part, f"{place}.NOT", depth + 1) for part in parts)))
    column, path = _field(name, place)
    place = f"{place}.{name}"
    if not isinstance(value, Mapping):
        if isinstance(value, (list, tuple)):
            raise InvalidInput(
                f"{place} is compared with a list", field=place, hint=f'write {{"{name}": {{"in": [...]}}}}'
            )
        return _test(column, path, "eq", value, place)
    if not value:
        raise InvalidInput(f"{place} names no operator", field=place, hint="one of " + ", ".join(OPERATORS))
    tests = tuple(_test(column, path, op, operand, place) for op, operand in value.items())
    return tests[0] if len(tests) == 1 else All(tests)


def _field(name: Any, place: str) -> tuple[str | None, tuple[str, ...]]:
    if name in COLUMNS:
        return name, ()
    if not isinstance(name, str) or not _PATH.fullmatch(name):
        raise InvalidInput(
            f"{_shown(name)} is no field name",
            field=place,
            hint="letters, digits, _ and -, with dots between the steps of a path",
        )
    if name.upper() in WORDS:
        raise InvalidInput(f"{name!r} is written in capitals", field=place, hint=name.upper())
    path = tuple(name.split("."))
    return None, path[1:] if path[0] == "metadata" and len(path) > 1 else path


def _test(column: str | None, path: tuple[str, ...], op: Any, value: Any, place: str) -> Test:
    if op not in OPERATORS:
        hint = did_you_mean(op.lstrip("$") if isinstance(op, str) else "", OPERATORS)
        raise InvalidInput(f"{place}: {_shown(op)} is no operator", field=place, hint=hint)
    checked: Value | tuple[Value, ...]
    if op in {"in", "nin"}:
        if not isinstance(value, (list, tuple)) or len(value) > WIDEST:
            raise InvalidInput(f"{place}.{op} takes a list of at most {WIDEST} values", field=place)
        checked = tuple(_value(column, one, place) for one in value)
    elif op == "exists":
        if not isinstance(value, bool):
            raise InvalidInput(f"{place}.exists takes true or false", field=place)
        checked = value
    elif op in {"like", "ilike"}:
        if not isinstance(value, str) or column in TIMES or column == "id":
            raise InvalidInput(f"{place}.{op} compares text with a pattern", field=place)
        checked = _value(None, value, place)
    else:
        checked = _value(column, value, place)
        if op in {"gt", "gte", "lt", "lte"} and (checked is None or isinstance(checked, bool)):
            raise InvalidInput(f"{place}.{op} takes a number, a string or a time", field=place)
    return Test(column, path, cast("Op", op), checked)


def _value(column: str | None, value: Any, place: str) -> Value:
    if column in TIMES and value is not None:
        try:
            return parse_time(value)
        except ValueError as error:
            raise InvalidInput(f"{place}: {error}", field=place) from None
    if column == "id" and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str) and "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value):
        return value
    raise InvalidInput(
        f"{place}: {_shown(value)} can't be compared",
        field=place,
        hint="a string, a finite number of 64 bits, true, false or null",
    )


def _shown(value: Any) -> str:
    """For a message: str() of an integer, or of what holds one, fails beyond 4,300 digits."""
    return repr(value[:40]) if isinstance(value, str) else f"a value of type {type(value).__name__}"
