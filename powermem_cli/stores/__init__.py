"""Where memories are kept: one file per engine, loaded when it is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from powermem_cli.registry import create
from powermem_cli.stores.base import Store

STORES: Final = {
    "sqlite": "powermem_cli.stores.sqlite:SqliteStore",
    "oceanbase": "powermem_cli.stores.oceanbase:OceanBaseStore",
    "postgres": "powermem_cli.stores.postgres:PostgresStore",
}


def create_store(provider: str, options: Mapping[str, Any]) -> Store:
    """The store of that name, not opened yet. Raises ConfigError."""
    store: Store = create("store", STORES, provider, options)
    return store
