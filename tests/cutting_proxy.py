"""A proxy before a database server that cuts the line at the worst moment: around the answer to a COMMIT."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

Moment = Literal["before", "after"]


class CuttingProxy:
    """Listens on one Unix socket and forwards to another. *cuts* holds what is to happen to the next COMMITs:
    "before": it never reaches the server; "after": the server does it, and its answer never comes back.
    """

    def __init__(self, listening: Path, server: Path) -> None:
        self.listening = listening
        self.server = server
        self.cuts: list[Moment] = []
        self._lines: set[asyncio.Task[None] | None] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, self.listening)
        try:
            yield
        finally:
            server.close()
            await asyncio.gather(*self._lines)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        self._lines.add(asyncio.current_task())
        server_in, server_out = await asyncio.open_unix_connection(self.server)
        cut: list[Moment] = []
        answers = asyncio.ensure_future(_answers(server_in, client_out, cut))
        with contextlib.suppress(ConnectionError):
            while data := await client_in.read(1 << 16):
                if self.cuts and b"COMMIT" in data:
                    cut.append(self.cuts.pop(0))
                if cut == ["before"]:
                    break
                server_out.write(data)
        if cut != ["after"]:
            server_out.close()
        await answers
        for writer in (server_out, client_out):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _answers(server_in: asyncio.StreamReader, client_out: asyncio.StreamWriter, cut: list[Moment]) -> None:
    """Passes on what the server says, and its end; of what it says after a cut, nothing."""
    with contextlib.suppress(ConnectionError):
        while (data := await server_in.read(1 << 16)) and not cut:
            client_out.write(data)
    client_out.close()
