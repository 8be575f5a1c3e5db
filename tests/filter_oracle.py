"""What a filter means, in plain Python: the engines are compared with this."""

from __future__ import annotations

import re
from typing import Any

from powermem_cli.filters import All, AnyOf, Filter, Not, Test
from powermem_cli.model import Scope, StoredMemory


def holds(source: Filter, memory: StoredMemory) -> bool:
    if isinstance(source, All):
        return all(holds(part, memory) for part in source.parts)
    if isinstance(source, AnyOf):
        return any(holds(part, memory) for part in source.parts)
    if isinstance(source, Not):
        return not holds(source.part, memory)
    return _compare(source, _found(source, memory))


def covers(scope: Scope, memory: StoredMemory) -> bool:
    pairs = [(getattr(scope, name), getattr(memory.scope, name)) for name in ("user_id", "agent_id", "run_id")]
    return all(wanted is None or wanted == held for wanted, held in pairs)


def _found(test: Test, memory: StoredMemory) -> Any:
    if test.column == "memory":
        return memory.text
    if test.column in {"user_id", "agent_id", "run_id"}:
        return getattr(memory.scope, test.column)
    if test.column is not None:
        return getattr(memory, test.column)
    value: Any = memory.metadata
    for step in test.path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _compare(test: Test, found: Any) -> bool:
    wanted: Any = test.value
    match test.op:
        case "eq":
            return _same(found, wanted)
        case "ne":
            return not _same(found, wanted)
        case "in":
            return any(_same(found, one) for one in wanted)
        case "nin":
            return not any(_same(found, one) for one in wanted)
        case "exists":
            return (found is not None) == wanted
        case "contains":
            if isinstance(found, list):
                return any(_same(one, wanted) for one in found)
            return isinstance(found, str) and isinstance(wanted, str) and wanted in found
        case "like":
            return isinstance(found, str) and _matches(wanted, found)
        case "ilike":
            return isinstance(found, str) and _matches(wanted.lower(), found.lower())
        case _:
            return _kind(found) == _kind(wanted) and _ordered(test.op, found, wanted)


def _ordered(op: str, found: Any, wanted: Any) -> bool:
    return {"gt": found > wanted, "gte": found >= wanted, "lt": found < wanted, "lte": found <= wanted}[op]


def _same(found: Any, wanted: Any) -> bool:
    return _kind(found) == _kind(wanted) and _kind(wanted) != "other" and found == wanted


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return type(value).__name__
    return "number" if isinstance(value, (int, float)) else "text" if isinstance(value, str) else "other"


def _matches(pattern: str, text: str) -> bool:
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    made = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(made, text, re.DOTALL) is not None
