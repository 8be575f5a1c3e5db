"""Memory for AI agents: from the command line and from Python.

A memory is a dict, for type checkers a MemoryDict. `id` is an int of 64 bits, `memory` its text, `user_id`, `agent_id`
and `run_id` (str or None) say whose it is, `metadata` is a dict, `created_at` and `updated_at` are times (RFC 3339 in
UTC, to the second or finer). Where there is one, `expires_at` is the time from which on it is not found any more, and
`source` a dict of the `job`, `file`, `line` and `role` it was made from. `search` adds `score`, a similarity in 0..1;
`add` adds `event`: "ADD", "UPDATE" (with `previous_memory`) or "DELETE".

Nothing is returned in the place of an error. Every call may raise UsageError (not open, or closed), InvalidInput (a
text, scope, filter or metadata value breaks a rule), ProviderError (a model was asked in vain) and StoreError; all are
PowerMemError, with `code`, `hint` and `retryable`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from powermem_cli.config import auto_config
    from powermem_cli.errors import PowerMemError
    from powermem_cli.memory import AsyncMemory
    from powermem_cli.results import (
        AddedMemory,
        AddResult,
        DeleteAllResult,
        Explanation,
        FoundMemory,
        GetAllResult,
        HistoryEvent,
        HistoryResult,
        MemoryDict,
        SearchResult,
        SourceDict,
    )
    from powermem_cli.sync_memory import Memory

__version__ = "2.0.0.dev0"

__all__ = [
    "AddResult",
    "AddedMemory",
    "AsyncMemory",
    "DeleteAllResult",
    "Explanation",
    "FoundMemory",
    "GetAllResult",
    "HistoryEvent",
    "HistoryResult",
    "Memory",
    "MemoryDict",
    "PowerMemError",
    "SearchResult",
    "SourceDict",
    "auto_config",
]

_PLACES = {  # of all others it is results
    "AsyncMemory": "powermem_cli.memory",
    "Memory": "powermem_cli.sync_memory",
    "PowerMemError": "powermem_cli.errors",
    "auto_config": "powermem_cli.config",
}


if not TYPE_CHECKING:  # whose reader knows the names from above, and shall find the wrong ones

    def __getattr__(name: str) -> Any:
        """Import a public name when it is asked for: the command line starts without the engine."""
        if name not in __all__:
            raise AttributeError(f"module 'powermem_cli' has no attribute {name!r}")
        return getattr(importlib.import_module(_PLACES.get(name, "powermem_cli.results")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
