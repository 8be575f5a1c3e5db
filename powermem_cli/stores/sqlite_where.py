"""A Where as an SQL condition for SQLite, over the alias `m` of the memories table; every value is bound."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import apsw

from powermem_cli import times
from powermem_cli.filters import All, Filter, Not, Test, Value
from powermem_cli.stores.base import Where

Condition = tuple[str, tuple[Any, ...]]
Span = tuple[int, int]  # microseconds: from the first one up to and without the second

_COLUMNS: Final = {
    "id": "m.id",
    "memory": "m.text",
    "user_id": "(SELECT name FROM names WHERE number = m.user)",
    "agent_id": "(SELECT name FROM names WHERE number = m.agent)",
    "run_id": "(SELECT name FROM names WHERE number = m.run)",
    "created_at": "m.created_at",
    "updated_at": "m.updated_at",
}
_INTEGERS: Final = frozenset({"id", "created_at", "updated_at"})
_COMPARE: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
NO_ID: Final = -1
NEVER: Final[Condition] = ("0", ())
EVER: Final = ((times.YEAR_1900, times.YEAR_2200 + 1),)
MOST_SPANS: Final = 200


def listed(ids: Collection[int]) -> Any:
    """Any number of ids for `carray(?)`: one bound value, and one prepared statement for all."""
    return apsw.carray(array("q", ids or (NO_ID,)))  # an empty array has no address, which is refused


def compile_where(where: Where, *, expired: bool = False) -> Condition:
    """The condition, "1" if there is none. Scope comes first and is ANDed: no filter can widen it.

    *expired*: what has expired is among them.
    """
    parts: list[Condition] = []
    for column, name in (("user", where.scope.user_id), ("agent", where.scope.agent_id), ("run", where.scope.run_id)):
        if name is not None:
            # An unknown name gives NULL, which equals nothing.
            parts.append((f"m.{column} = (SELECT number FROM names WHERE name = ?)", (name,)))
    if where.ids is not None:
        parts.append(("m.id IN (SELECT value FROM carray(?))", (listed(where.ids),)))
    if not expired:
        parts.append(("(m.expires_at IS NULL OR m.expires_at > ?)", (times.now(),)))
    if where.filter is not None:
        parts.append(compile_filter(where.filter))
    return _joined(parts, " AND ", "1")


def compile_filter(source: Filter) -> Condition:
    """A condition that is 0 or 1, never NULL, so that NOT means not."""
    if isinstance(source, Test):
        sql, values = _column_test(source) if source.column else _metadata_test(source)
        return f"({sql}) IS TRUE", values
    if isinstance(source, Not):
        sql, values = compile_filter(source.part)
        return f"NOT ({sql})", values
    parts = [compile_filter(part) for part in source.parts]
    return _joined(parts, " AND ", "1") if isinstance(source, All) else _joined(parts, " OR ", "0")


def spans_of(where: Where) -> tuple[Span, ...] | None:
    """When the memories of a user, or all, that it leaves were made: EVER if it leaves all; None if it asks for more."""
    if any(part is not None for part in (where.ids, where.scope.agent_id, where.scope.run_id)):
        return None
    return EVER if where.filter is None else _spans(where.filter)


def _spans(source: Filter) -> tuple[Span, ...] | None:
    if isinstance(source, Test):
        return _span(source)
    if isinstance(source, Not):
        return None
    found: tuple[Span, ...] = EVER if isinstance(source, All) else ()
    for part in source.parts:
        more = _spans(part)
        if more is None:
            return None
        if isinstance(source, All):
            both = [(max(one[0], other[0]), min(one[1], other[1])) for one in found for other in more]
            found = tuple((start, end) for start, end in both if start < end)
        else:
            found += more
        if len(found) > MOST_SPANS:
            return None
    return found


def _span(test: Test) -> tuple[Span, ...] | None:
    value = test.value
    if test.column != "created_at" or test.op not in _COMPARE or not isinstance(value, int):
        return None
    ((first, last),) = EVER
    if test.op.startswith("g"):
        first = max(first, value + (test.op == "gt"))
    else:
        last = min(last, value + (test.op == "lte"))
    return ((first, last),) if first < last else ()


def _joined(parts: Sequence[Condition], word: str, empty: str) -> Condition:
    """All parts as a balanced tree: SQLite takes a thousand of them, but not one below the other."""
    if not parts:
        return empty, ()
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    left, right = _joined(parts[:half], word, empty), _joined(parts[half:], word, empty)
    return f"({left[0]}){word}({right[0]})", left[1] + right[1]


def _column_test(test: Test) -> Condition:
    assert test.column is not None
    column, value = _COLUMNS[test.column], test.value
    fits: Callable[[Value], bool] = _is_number if test.column in _INTEGERS else lambda one: isinstance(one, str)

    def equals(one: Value) -> Condition:
        if one is None:
            return f"{column} IS NULL", ()
        return (f"{column} = ?", (one,)) if fits(one) else NEVER

    if test.op in {"eq", "ne", "in", "nin"}:
        return _membership(test, equals)
    if test.op == "exists":
        return f"{column} IS {'NOT ' if value else ''}NULL", ()
    if test.op in {"like", "ilike"}:
        return _like(column, test.op, value)
    assert not isinstance(value, tuple)
    if not fits(value):
        return NEVER
    if test.op == "contains":
        return (f"instr({column}, ?) > 0", (value,)) if isinstance(value, str) else NEVER
    return f"{column} {_COMPARE[test.op]} ?", (value,)


def _metadata_test(test: Test) -> Condition:
    path = "$" + "".join(f'."{step}"' for step in test.path)  # steps are letters, digits, _ and - only
    kind, found, value = "json_type(m.metadata, ?)", "(m.metadata ->> ?)", test.value

    def equals(one: Value) -> Condition:
        if one is None:
            return f"coalesce({kind}, 'null') = 'null'", (path,)
        if isinstance(one, bool):
            return f"{kind} = '{'true' if one else 'false'}'", (path,)
        return f"{kind} IN {_types(one)} AND {found} = ?", (path, path, one)

    if test.op in {"eq", "ne", "in", "nin"}:
        return _membership(test, equals)
    if test.op == "exists":
        return f"coalesce({kind}, 'null') {'<>' if value else '='} 'null'", (path,)
    if test.op in {"like", "ilike"}:
        sql, values = _like(found, test.op, value)
        return f"{kind} = 'text' AND {sql}", (path, path, *values)
    assert not isinstance(value, tuple)
    if test.op == "contains":
        return _contains(path, kind, found, value)
    return f"{kind} IN {_types(value)} AND {found} {_COMPARE[test.op]} ?", (path, path, value)


def _contains(path: str, kind: str, found: str, value: Value) -> Condition:
    if value is None:
        element, values = "type = 'null'", ()
    elif isinstance(value, bool):
        element, values = f"type = '{'true' if value else 'false'}'", ()
    else:
        element, values = f"type IN {_types(value)} AND atom = ?", (value,)  # type: ignore[assignment]
    listed = f"{kind} = 'array' AND EXISTS (SELECT 1 FROM json_each(m.metadata, ?) WHERE {element})"
    if not isinstance(value, str):
        return listed, (path, path, *values)
    return f"({listed}) OR ({kind} = 'text' AND instr({found}, ?) > 0)", (path, path, *values, path, path, value)


def _membership(test: Test, equals: Callable[[Value], Condition]) -> Condition:
    options = test.value if isinstance(test.value, tuple) else (test.value,)
    sql, values = _joined([equals(one) for one in options], " OR ", "0")
    if test.op in {"eq", "in"}:
        return sql, values
    return f"NOT (({sql}) IS TRUE)", values


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _types(value: Value) -> str:
    return "('text')" if isinstance(value, str) else "('integer', 'real')"


def _like(column: str, op: str, value: Any) -> Condition:
    """SQLite's own LIKE folds ASCII only, and always; GLOB folds nothing."""
    pattern = _as_glob(value.lower() if op == "ilike" else value)
    return f"{f'lower_case({column})' if op == 'ilike' else column} GLOB ?", (pattern,)


def _as_glob(pattern: str) -> str:
    made: list[str] = []
    escaped = False
    for character in pattern:
        if not escaped and character == "\\":
            escaped = True
            continue
        if not escaped and character in "%_":
            made.append("*" if character == "%" else "?")
        else:
            made.append(f"[{character}]" if character in "*?[" else character)
        escaped = False
    return "".join(made) + ("\\" if escaped else "")
