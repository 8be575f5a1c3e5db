"""A relay before a database server whose connections can all be cut at any moment, from another thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path


class Relay:
    """Listens on one Unix socket and forwards to another."""

    def __init__(self, listening: Path, server: Path) -> None:
        self._listening = listening
        self._server = server
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """May be repeated: while it does not run, nobody is there."""
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            self._listener = self._wait(asyncio.start_unix_server(self._serve, self._listening))
            yield
        finally:
            self._wait(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def cut(self) -> int:
        """End every connection as it stands, on both sides, whatever is on its way; how many there were."""
        return self._wait(self._cut())

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _cut(self) -> int:
        writers = list(self._open)
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    async def _end(self) -> None:
        self._listener.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        try:
            server_in, server_out = await asyncio.open_unix_connection(self._server)
        except OSError:  # it is away: so is this line
            client_out.transport.abort()
            return
        ends = {client_out, server_out}
        self._open |= ends
        try:
            await asyncio.gather(_passed_on(client_in, server_out), _passed_on(server_in, client_out))
        finally:
            self._open -= ends


async def _passed_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """All that comes, and its end."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()
