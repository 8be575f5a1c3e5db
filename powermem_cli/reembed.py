"""The story of a change of the embedder: every memory gets a vector of the new one, while the store is in use.

What is made is kept as it is made, so a run that was killed is gone on with. Searches find by the old vectors until
all new ones are there; those are put in their place in one transaction, so no search ever ranks by both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from powermem_cli.errors import ProviderError, ProviderRejected
from powermem_cli.model import Vector
from powermem_cli.providers.base import Embedder
from powermem_cli.stores.sqlite_reembed import NewVectors, Text

if TYPE_CHECKING:
    from powermem_cli.stores.sqlite import SqliteStore

AT_ONCE: Final = 512  # texts embedded, and kept, at a time
LOOKED_UP: Final = 64 * AT_ONCE  # at a time: what is missing takes a walk over all ids


@dataclass
class Reembedded:
    """*was* and *model*: what embedded before and now. *made* vectors in this run, *kept* by one that was stopped."""

    was: str | None
    model: str
    made: int = 0
    kept: int = 0
    refused: int = 0
    """Texts that the new model does not take: keywords alone find them from now on."""


async def reembed(
    store: SqliteStore, embedder: Embedder, report: Callable[[Reembedded], None] = lambda _done: None
) -> Reembedded:
    """Embed all memories of *store*, which is open for no model in particular. *report* hears of each step.

    Nothing is made for a store whose vectors are of that model. Raises StoreBusy if another process is at it,
    StoreError, ProviderError: what was made until then is kept.
    """
    done = Reembedded(await store.model(), embedder.model)
    vectors = NewVectors(store.path, await store.identity(), embedder.model)
    if done.was == done.model or done.was is None:
        vectors.remove()
        return done
    try:
        done.kept = len(vectors)
        while not await store.replace_vectors(vectors, embedder.model):
            while missing := await store.without_vector(vectors, LOOKED_UP):
                for start in range(0, len(missing), AT_ONCE):
                    await _make(missing[start : start + AT_ONCE], embedder, vectors, done)
                    report(done)
    except BaseException:
        vectors.close()
        raise
    vectors.remove()
    return done


async def _make(texts: Sequence[Text], embedder: Embedder, vectors: NewVectors, done: Reembedded) -> None:
    made = [_vector(answer) for answer in await embedder.embed_each([one.text for one in texts])]
    vectors.keep(texts, made)
    done.made += len(made)
    done.refused += made.count(b"")


def _vector(answer: Vector | ProviderError) -> Vector:
    """Empty for a text that is not taken. Raises ProviderError for all that may pass, or would hit every text."""
    if isinstance(answer, ProviderRejected):
        return b""
    if isinstance(answer, ProviderError):
        raise answer
    return answer
