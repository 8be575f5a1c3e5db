"""Embeddings from the static model in the package: no key, no network, the same bits on every machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from powermem_cli.model import Vector

if TYPE_CHECKING:
    from powermem_cli.providers.static_model import StaticModel

_DATA: Final = Path(__file__).parent.parent / "data"
_SHORT: Final = 300  # characters: as fast without numpy, which takes 100 ms to load
_INLINE: Final = 1 << 14  # characters: about 3 ms of work; more would hold up the event loop


class LocalEmbedder:
    """The sum of a text's word-piece vectors, made unit length. Loads the model when first asked."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: StaticModel | None = None

    @property
    def model(self) -> str:
        return "local/powermem-static-v1"

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order; b"" for a text of which no word is known. Raises ConfigError."""
        if len(texts) == 1 and len(texts[0]) <= _SHORT and "numpy" not in sys.modules:
            return [self._model().embed_one(texts[0])]
        if self._loaded is None or sum(map(len, texts)) > _INLINE:
            from anyio.to_thread import run_sync  # noqa: PLC0415

            return await run_sync(lambda: self._model().embed(texts))
        return self._loaded.embed(texts)

    async def close(self) -> None:
        """Nothing to let go of: the model is a read-only map of a file."""

    def _model(self) -> StaticModel:
        from powermem_cli.providers.static_model import StaticModel  # noqa: PLC0415

        with self._loading:
            if self._loaded is None:
                self._loaded = StaticModel.load(_DATA)
        return self._loaded
