"""What mem0 exports: a list of memories, or {"results": [...]}."""

from __future__ import annotations

from typing import Any

# Made from the memory, or from the search that found it.
_DERIVED = ("hash", "score")


def row(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if name not in _DERIVED and one is not None}
