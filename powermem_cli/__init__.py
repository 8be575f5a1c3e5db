"""Memory for AI agents: from the command line and from Python."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from powermem_cli.config import auto_config
    from powermem_cli.errors import PowerMemError
    from powermem_cli.memory import AsyncMemory
    from powermem_cli.sync_memory import Memory

__version__ = "2.0.0.dev0"

__all__ = ["AsyncMemory", "Memory", "PowerMemError", "auto_config"]

_PLACES = {
    "AsyncMemory": "powermem_cli.memory",
    "Memory": "powermem_cli.sync_memory",
    "PowerMemError": "powermem_cli.errors",
    "auto_config": "powermem_cli.config",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: the command line starts without the engine."""
    if name not in _PLACES:
        raise AttributeError(f"module 'powermem_cli' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
