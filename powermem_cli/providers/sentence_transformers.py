"""Models of the sentence-transformers library, in this process: no key, and no network once the model is there."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from typing import Any

from powermem_cli.errors import ConfigError, EmbedderMismatch, ProviderError
from powermem_cli.model import Vector
from powermem_cli.providers import options
from powermem_cli.providers.base import Usage


class SentenceTransformersEmbedder:
    """*model* is a name on the model hub or a folder; *embedding_dims* cuts the vectors of a model that allows it.

    Library and model are loaded by the first text: that takes seconds, and for a model that is not there a download.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        embedding_dims: int | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise ConfigError(
                "embedder 'sentence-transformers' needs the Python package 'sentence_transformers', "
                "which is not installed",
                hint='pip install "powermem-cli[sentence-transformers]"',
                code="config.extra",
            )
        self._name = options.text("model", model) or "all-MiniLM-L6-v2"
        self._dims = options.whole("embedding_dims", embedding_dims)
        self._device = options.text("device", device)
        self._batch_size = options.whole("batch_size", batch_size) or 32
        self._model: Any = None
        self._one_at_a_time = threading.Lock()

    @property
    def model(self) -> str:
        return f"sentence-transformers/{self._name}"

    @property
    def usage(self) -> Usage:
        """Nothing is asked of anybody."""
        return Usage()

    async def prepare(self) -> None:
        """Load the model. Raises ConfigError."""
        from anyio.to_thread import run_sync  # noqa: PLC0415

        await run_sync(self._loaded)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order. Raises ConfigError for a model that can't be loaded, ProviderError."""
        from anyio.to_thread import run_sync  # noqa: PLC0415

        return await run_sync(self._embed, list(texts)) if texts else []

    async def embed_each(self, texts: Sequence[str]) -> list[Vector | ProviderError]:
        """As embed: no text is refused by itself."""
        return list(await self.embed(texts))

    async def close(self) -> None:
        """Nothing is held that would have to be closed."""

    def _embed(self, texts: list[str]) -> list[Vector]:
        from powermem_cli.providers.vectors import unit_vectors  # noqa: PLC0415  numpy takes 100 ms to import

        with self._one_at_a_time:
            matrix = self._loaded().encode(texts, batch_size=self._batch_size, show_progress_bar=False)
        vectors = unit_vectors("sentence-transformers", matrix.tolist(), len(texts))
        if self._dims not in {None, len(vectors[0]) // 4}:
            raise EmbedderMismatch(
                f"{self.model} makes {len(vectors[0]) // 4} numbers per text, and embedding_dims says {self._dims}",
                hint="set embedding_dims (EMBEDDING_DIMS) to what the model makes, or leave it out",
            )
        return vectors

    def _loaded(self) -> Any:
        if self._model is None:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415  takes seconds

            try:
                self._model = SentenceTransformer(self._name, device=self._device, truncate_dim=self._dims)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"the model {self._name!r} can't be loaded: {str(error).splitlines()[0][:200]}",
                    hint="set EMBEDDING_MODEL to a model's name or to the folder of one",
                    code="config.model",
                ) from error
        return self._model
