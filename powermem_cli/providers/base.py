"""What the engine asks of an embedder; each provider satisfies it in a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from powermem_cli.model import Vector


class Embedder(Protocol):
    """Texts to vectors."""

    @property
    def model(self) -> str:
        """What made the vectors, as `provider/model`. A store keeps vectors of one model only."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order, each of length 1 (or empty, see Vector). Raises ProviderError."""
        ...

    async def close(self) -> None:
        """Let go of connections. Safe to repeat."""
        ...
