"""Memory: AsyncMemory for code without an event loop. Every method forwards; the loop runs in a thread of its own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from powermem_cli.config import Config
from powermem_cli.errors import UsageError
from powermem_cli.memory import AsyncMemory
from powermem_cli.results import AddResult, DeleteAllResult, GetAllResult, HistoryResult, MemoryDict, SearchResult
from powermem_cli.search import Mode

T = TypeVar("T")


class Memory:
    """AsyncMemory for code without an event loop: the same methods, blocking. Opens with its first use.

    `with Memory() as memory:` closes it at the end; without, the interpreter's end does.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | Config | None = None,
        storage_type: str | None = None,
        llm_provider: str | None = None,
        embedding_provider: str | None = None,
    ) -> None:
        self._inner = AsyncMemory(config, storage_type, llm_provider, embedding_provider)
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._closed = False
        self._finalizer: weakref.finalize[..., Memory] | None = None

    def initialize(self, *, lazily: bool = False) -> None:
        """Open the store now and not with the first use; *lazily* as in AsyncMemory."""
        self._wait_for(partial(self._inner.initialize, lazily=lazily))

    def close(self) -> None:
        """Finish what was begun and let go. Safe to repeat."""
        self._closed = True
        if self._finalizer is not None and (alive := self._finalizer.detach()) is not None:
            _close(*alive[2])

    def __enter__(self) -> Memory:
        self.initialize()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def add(
        self,
        messages: str | Mapping[str, Any] | Sequence[Any],
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        filters: Mapping[str, Any] | None = None,
        infer: bool = True,
    ) -> AddResult:
        return self._wait_for(self._inner.add, messages, user_id, agent_id, run_id, metadata, filters, infer)

    def search(
        self,
        query: str,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Mapping[str, Any] | None = None,
        limit: int = 30,
        threshold: float | None = None,
        *,
        mode: Mode = "hybrid",
        explain: bool = False,
    ) -> SearchResult:
        asked = (query, user_id, agent_id, run_id, filters, limit, threshold)
        return self._wait_for(partial(self._inner.search, *asked, mode=mode, explain=explain))

    def get(self, memory_id: int | str, user_id: str | None = None, agent_id: str | None = None) -> MemoryDict | None:
        return self._wait_for(self._inner.get, memory_id, user_id, agent_id)

    def update(
        self,
        memory_id: int | str,
        content: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> MemoryDict | None:
        return self._wait_for(self._inner.update, memory_id, content, user_id, agent_id, metadata)

    def delete(self, memory_id: int | str, user_id: str | None = None, agent_id: str | None = None) -> bool:
        return self._wait_for(self._inner.delete, memory_id, user_id, agent_id)

    def history(self, memory_id: int | str, user_id: str | None = None, agent_id: str | None = None) -> HistoryResult:
        return self._wait_for(self._inner.history, memory_id, user_id, agent_id)

    def delete_all(
        self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> DeleteAllResult:
        return self._wait_for(self._inner.delete_all, user_id, agent_id, run_id)

    def get_all(
        self,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        limit: int = 100,
        offset: int = 0,
        filters: Mapping[str, Any] | None = None,
        *,
        after: int | str | None = None,
    ) -> GetAllResult:
        async def call() -> GetAllResult:
            return await self._inner.get_all(user_id, agent_id, run_id, limit, offset, filters, after=after)

        return self._wait_for(call)

    def count(self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None) -> int:
        return self._wait_for(self._inner.count, user_id, agent_id, run_id)

    def _wait_for(self, method: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        result: T = self._opened().call(method, *arguments)
        return result

    def _opened(self) -> BlockingPortal:
        with self._lock:
            if self._closed:
                raise UsageError("this Memory is closed", hint="make a new one")
            if self._portal is None:
                with ExitStack() as stack:
                    portal = stack.enter_context(start_blocking_portal())
                    portal.call(self._inner.initialize)
                    # Tied to this object, not to close(): a portal left open keeps the interpreter from ending.
                    self._finalizer = weakref.finalize(self, _close_forgotten, portal, self._inner, stack.pop_all())
                self._portal = portal
            return self._portal


for _name, _method in vars(AsyncMemory).items():
    _forwarding = vars(Memory).get(_name)
    if callable(_forwarding) and not _forwarding.__doc__:
        _forwarding.__doc__ = _method.__doc__


def _close(portal: BlockingPortal, inner: AsyncMemory, stack: ExitStack) -> None:
    try:
        portal.call(inner.close)
    finally:
        stack.close()


def _close_forgotten(portal: BlockingPortal, inner: AsyncMemory, stack: ExitStack) -> None:
    if threading.current_thread().daemon:
        # The collector runs on any thread, perhaps on one of those, daemons all, that are waited for here.
        threading.Thread(target=_close, args=(portal, inner, stack)).start()
    else:
        _close(portal, inner, stack)
