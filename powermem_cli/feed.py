"""Items of a blocking iterator for an event loop: read ahead on a thread, as far as there is room and no further."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

READ_AHEAD: Final = 1024  # items that may wait
READ_AHEAD_BYTES: Final = 8 * 1024 * 1024


class Feed(Generic[T]):
    """Gives what has been read so far, as soon as there is something: a slow pipe is not waited for, a fast file
    comes in long lists, but for the first item, which comes alone. An error of the iterator is raised to the consumer
    after the items before it.
    """

    def __init__(
        self, items: Iterator[T], *, size_of: Callable[[T], int], count_of: Callable[[T], int] = lambda _item: 1
    ) -> None:
        self._items = items
        self._size_of = size_of
        self._count_of = count_of
        self._change = threading.Condition()
        self._ready: list[T] = []
        self._ready_count = 0
        self._ready_bytes = 0
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the consumer's
        self._arrived = asyncio.Event()

    def stop(self) -> None:
        """Read no more; what has been read is still given."""
        with self._change:
            self._stopped = True
            self._change.notify()
        self._wake()  # the thread may sit in a read() that never ends

    async def lists(self) -> AsyncIterator[list[T]]:
        self._loop = asyncio.get_running_loop()
        # A daemon: it may sit in a read() of a terminal or a pipe that never ends.
        threading.Thread(target=self._read, name="powermem-reader", daemon=True).start()
        most = 1
        while True:
            with self._change:
                ready, self._ready = self._ready[:most], self._ready[most:]
                self._ready_count -= sum(map(self._count_of, ready))
                self._ready_bytes -= sum(map(self._size_of, ready))
                ended = (self._ended or self._stopped) and not self._ready
                self._arrived.clear()
                self._change.notify()
            if ready:
                yield ready
                most = READ_AHEAD
            elif ended:
                break
            else:
                await self._arrived.wait()
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._add(item):
                    break
        except BaseException as error:  # noqa: BLE001 - it is the consumer's
            self._error = error
        with self._change:
            self._ended = True
        self._wake()

    def _add(self, item: T) -> bool:
        with self._change:
            self._ready.append(item)
            self._ready_count += self._count_of(item)
            self._ready_bytes += self._size_of(item)
            if len(self._ready) == 1:
                self._wake()  # before waiting for room: one item may take all of it
            while self._full() and not self._stopped:
                self._change.wait()
            return not self._stopped

    def _full(self) -> bool:
        return self._ready_count >= READ_AHEAD or self._ready_bytes >= READ_AHEAD_BYTES

    def _wake(self) -> None:
        if self._loop is None:
            return  # nobody waits yet
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:
            return  # the loop has ended, nobody waits any more
