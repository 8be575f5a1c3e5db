"""How a command opens the store: what it may do there, and what it finds where there is none yet."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from powermem_cli.config import Config


def accessing(config: Config, access: str) -> Config:
    """The same settings, for a store of files opened for *access*; servers know by the login what one may do."""
    return _with_options(config, access=access) if config.vector_store.provider == "sqlite" else config


@contextmanager
def nothing_yet(config: Config) -> Iterator[Config]:
    """The same settings over an empty store that is gone afterwards: every command finds nothing there, its own way."""
    with tempfile.TemporaryDirectory(prefix="powermem-") as folder:
        yield _with_options(config, path=str(Path(folder) / "empty.db"))


def _with_options(config: Config, **options: Any) -> Config:
    store = dataclasses.replace(config.vector_store, options={**config.vector_store.options, **options})
    return dataclasses.replace(config, vector_store=store)
