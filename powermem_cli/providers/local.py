"""Embeddings from the static model in the package: no key, no network, the same bits on every machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from powermem_cli.errors import ProviderError
from powermem_cli.grouping import Grouper
from powermem_cli.model import Vector
from powermem_cli.providers.base import Usage

if TYPE_CHECKING:
    from powermem_cli.providers.static_model import StaticModel

_DATA: Final = Path(__file__).parent.parent / "data"
_SHORT: Final = 300  # characters: as fast without numpy, which takes 100 ms to load
_FEW: Final = 3  # such texts: who asks more often is served faster with it
_INLINE: Final = 2000  # characters; of more the event loop would feel each wait for the GIL that numpy lets go of
_TOGETHER: Final = 128  # texts of concurrent callers that are worked on in one go


class LocalEmbedder:
    """The sum of a text's word-piece vectors, made unit length. Loads the model when first asked."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: StaticModel | None = None
        self._without_numpy = _FEW
        self._together: Grouper[str, Vector] = Grouper(self._embed, most=_TOGETHER)

    @property
    def model(self) -> str:
        return "local/powermem-static-v1"

    @property
    def usage(self) -> Usage:
        """Nothing is asked of anybody."""
        return Usage()

    async def prepare(self) -> None:
        """Load numpy and the model. Raises ConfigError."""
        await self._in_a_thread(["x"])

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order; b"" for a text of which no word is known. Raises ConfigError."""
        if self._without_numpy and len(texts) == 1 and len(texts[0]) <= _SHORT and "numpy" not in sys.modules:
            self._without_numpy -= 1
            return [self._model().embed_one(texts[0])]
        if len(texts) >= _TOGETHER:
            return await self._embed(texts)
        # A thousand callers at once must not work one behind another before the event loop is asked again.
        return await self._together.submit(texts)

    async def _embed(self, texts: Sequence[str]) -> list[Vector]:
        if self._loaded is None or "numpy" not in sys.modules or sum(map(len, texts)) > _INLINE:
            return await self._in_a_thread(texts)
        return self._loaded.embed(texts)

    async def _in_a_thread(self, texts: Sequence[str]) -> list[Vector]:
        from anyio.to_thread import run_sync  # noqa: PLC0415

        return await run_sync(lambda: self._model().embed(texts))

    def embed_now(self, texts: Sequence[str]) -> list[Vector]:
        """`embed` where there is no event loop. Raises ConfigError."""
        return self._model().embed(texts)

    async def embed_each(self, texts: Sequence[str]) -> list[Vector | ProviderError]:
        """As embed: there is no text that it refuses."""
        return [*await self.embed(texts)]

    async def close(self) -> None:
        """Nothing to let go of: the model is a read-only map of a file."""

    def _model(self) -> StaticModel:
        from powermem_cli.providers.static_model import StaticModel  # noqa: PLC0415

        with self._loading:
            if self._loaded is None:
                self._loaded = StaticModel.load(_DATA)
        return self._loaded
