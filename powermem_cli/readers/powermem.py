"""Our own export: a memory on each line, with everything there is to know about it."""

from __future__ import annotations

from typing import Any

# They say how it was kept in the other store; here it gets its own.
_OF_THE_STORE = ("id", "updated_at", "vector")

ALWAYS = frozenset(["id", "memory", "user_id", "agent_id", "run_id", "metadata", "created_at", "updated_at"])
FIELDS = ALWAYS | {"vector", "key"}


def row(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if name not in _OF_THE_STORE}
