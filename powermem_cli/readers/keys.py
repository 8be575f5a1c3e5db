"""What a record's key is taken from: --key auto, content, position, or the name of a field."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

from powermem_cli.errors import InvalidInput
from powermem_cli.model import Record
from powermem_cli.readers.mapping import MISSING, looked_up
from powermem_cli.readers.source import GZIP_MAGIC
from powermem_cli.rules import canonical_json, check_id

AUTO: Final = "auto"
CONTENT: Final = "content"
POSITION: Final = "position"

HEAD: Final = 1024  # bytes that tell one file from another


def key_rule(by: str) -> Callable[[Any], str | None] | None:
    """From a row as it was read to its key. None: its own key is what it came with.

    The function raises InvalidInput for a row that has no such field, or something in it that can't be a key.
    """
    if by == AUTO:
        return None
    if by in {CONTENT, POSITION}:
        return lambda _row: None
    steps = by.split(".")

    def key_of(row: Any) -> str | None:
        value = looked_up(row, [by])
        if value is MISSING:
            value = looked_up(row, steps)
        if value is None or value is MISSING:
            raise InvalidInput(f"there is no field {by}, which --key says is the key", field=by, code="input.key")
        return check_id(value, by)

    return key_of


def head_of(path: str) -> bytes:
    """What a file begins with, unpacked. Raises OSError."""
    with open(path, "rb") as file:  # noqa: PTH123
        content = file.read(64 * HEAD)
    if content.startswith(GZIP_MAGIC):
        try:
            content = zlib.decompressobj(31).decompress(content, HEAD)
        except zlib.error:
            return b""  # reading it will say what is wrong
    return content[:HEAD]


def at_position(record: Record, head: bytes) -> Record:
    """*record* with a key of where it stood in a file that begins with *head*, and of what it says.

    Only the part of the head up to the record's own end counts, so that a file may grow. What it says counts so that
    of two files that begin alike neither takes the other's place.
    """
    assert record.source is not None
    place = record.source.byte
    said = canonical_json([record.memory, [[turn.role, turn.content] for turn in record.messages]])
    digest = blake2b(head[: place + record.size], digest_size=16)
    digest.update(f"{place} {said}".encode())
    return replace(record, key=f"{POSITION}:{digest.hexdigest()}")
