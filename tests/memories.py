"""An engine over a file, short ways to look into it, and an embedder of the tests' own for when one must fail."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from places import vector

from powermem_cli.errors import ProviderError, ProviderRefused, ProviderRejected
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Message, Record, Scope
from powermem_cli.providers import EMBEDDERS
from powermem_cli.providers.base import Usage

HOSTILE_IDS = (
    *(
        "u1",
        "U1",
        "u1 ",
        " u1",
        "u1\u00a0",
        "u1' OR 1=1--",
        'u1"',
        "u1\\",
        "u1\\'",
        "%",
        "_",
        "*",
        "?",
        "u_",
        "u%",
        "[u1]",
    ),
    *("../u1", "$1", "{0}", "%s", "%(v0)s", ":1", "NULL", "null", "0", "1", "1.0", "é", "e\u0301", "É", "ß", "ss", "ſ"),
    *("İ", "i", "ı", "😀", "日本", "\u202eu1", "u\u200b1", "u1\u200b", "u1\u2028", "раypal", "paypal", "7·paris"),
    *("a" * 255, "a" * 254 + "b", "é" * 127, "😀" * 63, "用户"),
)
"""Each of them is somebody else."""


def config(path: Path, **embedder: Any) -> dict[str, Any]:
    chosen = {"provider": "moody", "config": embedder} if embedder else {"provider": "local"}
    return {"vector_store": {"provider": "sqlite", "config": {"path": str(path)}}, "embedder": chosen}


def ids(result: dict[str, Any]) -> list[int]:
    return [one["id"] for one in result["results"]]


def texts(result: dict[str, Any]) -> list[str]:
    return [one["memory"] for one in result["results"]]


async def held(memory: AsyncMemory, user_id: str | None = None) -> list[str]:
    """All texts of a user, or of the whole store, in the order they were added."""
    return texts(await memory.get_all(user_id, limit=1_000_000))


def talk(*said: str, **fields: Any) -> Record:
    """A conversation in which a user says all this, with an answer after each."""
    turns = [turn for text in said for turn in (Message("user", text), Message("assistant", f"So: {text}"))]
    return Record(messages=tuple(turns), **{"scope": Scope("anna"), **fields})


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    """What is begun inside has ended at the end, or does so without being asked to."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive(), thread.name


class MoodyEmbedder:
    """Same text, same vector; but it will not take the word *poison*, and with *refuses* it takes nothing at all."""

    def __init__(self, embedding_dims: int = 8, refuses: bool = False, poison: str = "poison") -> None:
        self.model = f"moody/{embedding_dims}"
        self.usage = Usage()
        self.calls: list[list[str]] = []
        self.refuses = refuses
        self._dims = embedding_dims
        self._poison = poison

    async def prepare(self) -> None:
        """Nothing to load."""

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        answers = await self.embed_each(texts)
        for answer in answers:
            if isinstance(answer, ProviderError):
                raise answer
        return [answer for answer in answers if isinstance(answer, bytes)]

    async def embed_each(self, texts: Sequence[str]) -> list[bytes | ProviderError]:
        self.calls.append(list(texts))
        return [self._answer(text) for text in texts]

    def _answer(self, text: str) -> bytes | ProviderError:
        if self.refuses:
            return ProviderRefused("the key is refused", provider="moody", status=401)
        if self._poison in text:
            return ProviderRejected("this text is not taken", provider="moody", status=400)
        return vector(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"), self._dims)

    async def close(self) -> None:
        """Nothing to let go of."""


EMBEDDERS.setdefault("moody", "memories:MoodyEmbedder")
