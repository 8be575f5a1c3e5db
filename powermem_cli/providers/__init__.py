"""Who embeds: chosen by name; a module is imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from powermem_cli.providers.base import Embedder
from powermem_cli.registry import create

EMBEDDERS: Final = {
    "local": "powermem_cli.providers.local:LocalEmbedder",
}


def create_embedder(choice_provider: str, options: Mapping[str, Any]) -> Embedder:
    """The embedder of that name, made with *options*; nothing is opened yet. Raises ConfigError."""
    embedder: Embedder = create("embedder", EMBEDDERS, choice_provider, options)
    return embedder
