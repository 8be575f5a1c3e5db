"""The body of an answer, unpacked bit by bit, so that a small answer can't become a huge one."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

LARGEST_BODY: Final = 64 * 1024 * 1024  # bytes, unpacked
_INFLATION: Final = 200  # unpacked bytes per byte sent; embeddings and prose stay far below
_UNSUSPECTED: Final = 1024 * 1024  # bytes, unpacked: so little is no bomb


class Unreadable(Exception):
    """A body that is too large or not what its headers say."""


async def read_body(headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> bytes:
    """All of *chunks*, unpacked. Raises Unreadable."""
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        raise Unreadable(f"answered in the encoding {encoding!r}")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > LARGEST_BODY:
        raise Unreadable(f"answered with far too much: {int(declared):,} bytes")
    inflate = zlib.decompressobj(47) if "g" in encoding or encoding == "deflate" else None
    parts, received, size = [], 0, 0
    async for chunk in chunks:
        received += len(chunk)
        most = min(LARGEST_BODY, max(_UNSUSPECTED, received * _INFLATION))
        try:
            part = inflate.decompress(chunk, most + 1 - size) if inflate else chunk
        except zlib.error as error:
            raise Unreadable("answered with broken gzip") from error
        size += len(part)
        if size > most:
            raise Unreadable(f"answered with far too much: {size:,} bytes so far")
        parts.append(part)
    if inflate and received and not inflate.eof:
        raise Unreadable("answered with half a gzip")
    return b"".join(parts)
