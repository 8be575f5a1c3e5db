"""Whether all that memories need is in order: each provider is asked one thing, the store is opened and looked at."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from powermem_cli.config import Choice, Config
from powermem_cli.errors import EmbedderMismatch, PowerMemError
from powermem_cli.model import Message
from powermem_cli.providers import create_embedder, create_llm, create_reranker
from powermem_cli.providers.base import LLM, Embedder, Reranker
from powermem_cli.stores import create_store

LITTLE: Final = 200 * 1024 * 1024  # bytes free on a disk
_ANSWER: Final = 60  # characters of an answer that are shown

P = TypeVar("P", Embedder, LLM, Reranker)
State = Literal["ok", "warning", "failed", "not used"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to say of it; *error* is why it failed."""

    subject: str
    state: State
    said: str
    details: Mapping[str, Any] = field(default_factory=dict)
    error: PowerMemError | None = None


async def check_embedder(config: Config) -> Finding:
    async def ask(choice: Choice) -> tuple[str, dict[str, Any]]:
        async with _closed_after(create_embedder(choice.provider, choice.options)) as embedder:
            (vector,) = await embedder.embed(["Anna likes tea."])
        dims = len(vector) // 4
        return f"{embedder.model}: {dims} dimensions", {"model": embedder.model, "dims": dims}

    return await _asked("embedder", config.embedder, ask)


async def check_llm(config: Config) -> Finding:
    async def ask(choice: Choice) -> tuple[str, dict[str, Any]]:
        async with _closed_after(create_llm(choice.provider, choice.options)) as llm:
            completion = await llm.complete([Message("user", "Answer with one word: ready")])
        answer = " ".join(completion.text.split())[:_ANSWER]
        tokens = completion.usage.prompt_tokens + completion.usage.completion_tokens
        return f"{llm.model} answered {answer!r}", {"model": llm.model, "answer": answer, "tokens": tokens}

    return await _asked("llm", config.llm, ask, without="none is configured: texts are kept as they are")


async def check_reranker(config: Config) -> Finding:
    async def ask(choice: Choice) -> tuple[str, dict[str, Any]]:
        async with _closed_after(create_reranker(choice.provider, choice.options)) as reranker:
            tea, coal = await reranker.rerank("what does she drink?", ["Anna likes tea.", "Coal is black."])
        said = f"{reranker.model}: {tea:.2f} for what answers a question, {coal:.2f} for what does not"
        return said, {"model": reranker.model, "scores": [tea, coal]}

    return await _asked("reranker", config.reranker, ask, without="none is configured")


async def check_store(config: Config, dims: int | None) -> Finding:
    """*dims* are those that the embedder answered with, None if it did not. A file that is not there is not made."""
    choice = config.vector_store
    if (path := _file_of(config)) is not None and not os.path.exists(path):  # noqa: ASYNC240, PTH110
        return Finding("store", "ok", f"{path} is not there yet: the first add makes it", {"engine": "sqlite"})

    async def look(choice: Choice) -> tuple[str, dict[str, Any]]:
        store = create_store(choice.provider, choice.options)
        await store.open(create_embedder(config.embedder.provider, config.embedder.options).model)
        try:
            described = await store.describe()
        finally:
            await store.close()
        if dims is not None and described["dims"] not in {None, dims}:
            raise EmbedderMismatch(
                f"the store holds vectors of {described['dims']} dimensions, the embedder makes {dims}",
                hint="powermem db reembed, or configure the embedder it was filled with",
            )
        size = "" if described["bytes"] is None else f", {described['bytes'] / 1e6:,.1f} MB"
        said = f"{described['engine']} {described['version']}: {described['memories']:,} memories in {described['place']}{size}"
        said += f", index: {', '.join(described['indexes']) or 'none'}"
        return said, described

    return await _asked("store", choice, look)


def check_permissions(config: Config) -> Finding:
    """Whether others may read or replace the database file."""
    path = _file_of(config)
    if path is None or os.name != "posix" or not path.exists():
        return Finding("permissions", "not used", "there is no file to look at")
    files = [file for file in (path, *path.parent.glob(f"{path.name}-*")) if file.stat().st_mode & 0o077]
    wrong = [f"others may read {file}: chmod 600 {file}" for file in files]
    folder = path.parent.stat().st_mode
    if folder & stat.S_IWOTH and not folder & stat.S_ISVTX:
        wrong.append(f"everybody may replace it: chmod o-w {path.parent}")
    return Finding("permissions", "warning" if wrong else "ok", "; ".join(wrong) or "nobody else may read the database")


def _file_of(config: Config) -> Path | None:
    """The file of the store; None if it is none."""
    path = config.vector_store.options.get("path")
    return Path(path) if config.vector_store.provider == "sqlite" and path is not None else None


def check_disk(folders: Mapping[str, Path]) -> Finding:
    """*folders*: what is kept there → the folder, which need not be there yet."""
    free = {what: shutil.disk_usage(_existing(folder)).free for what, folder in folders.items()}
    said = ", ".join(f"{number / 1e9:,.1f} GB free for {what}" for what, number in free.items())
    return Finding("disk", "warning" if min(free.values()) < LITTLE else "ok", said, free)


def check_python() -> Finding:
    """What `import powermem` gives here."""
    versions = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    spec = importlib.util.find_spec("powermem")
    origin = None if spec is None else spec.origin
    details = {**versions, "module": origin}
    said = f"Python {versions['python']}"
    if origin is None:
        return Finding("python", "warning", f"{said}; no module powermem can be imported here", details)
    if _is_foreign(Path(origin)):
        said += f"; `import powermem` is another program's: {origin}"
        return Finding("python", "warning", said, details)
    return Finding("python", "ok", f"{said}; `import powermem` is {origin}", details)


def _is_foreign(origin: Path) -> bool:
    """Ours is one small file that imports this package."""
    try:
        return origin.name == "__init__.py" or "powermem_cli" not in origin.read_text("utf-8", "replace")
    except OSError:
        return True


async def _asked(
    subject: str,
    choice: Choice | None,
    ask: Callable[[Choice], Awaitable[tuple[str, dict[str, Any]]]],
    without: str = "",
) -> Finding:
    """What came of it; *without* is what is said if nothing is chosen."""
    if choice is None:
        return Finding(subject, "not used", without)
    started = time.perf_counter()
    try:
        said, details = await ask(choice)
    except PowerMemError as error:
        return Finding(subject, "failed", error.message, {"provider": choice.provider}, error)
    seconds = time.perf_counter() - started
    details = {"provider": choice.provider, **details, "ms": round(seconds * 1000)}
    return Finding(subject, "ok", f"{said}, {seconds * 1000:,.0f} ms", details)


@asynccontextmanager
async def _closed_after(provider: P) -> AsyncIterator[P]:
    try:
        yield provider
    finally:
        await provider.close()


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    return next(one for one in (folder, *folder.absolute().parents) if one.is_dir())
