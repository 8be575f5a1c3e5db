"""What the tests of the readers share: opening bytes in all the ways there are, and what must hold for all of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from powermem_cli.model import Record, Rejected, Source
from powermem_cli.readers import Input, Position, Reading, open_input

Item = Record | Rejected

AS_IT_IS = Reading()


class Drip(io.RawIOBase):
    """A pipe that gives *data* in pieces that end at the places *cuts*."""

    def __init__(self, data: bytes, cuts: Iterator[int]) -> None:
        super().__init__()
        self._data, self._at = data, 0
        self._cuts = cuts

    def read(self, size: int = -1) -> bytes:
        end = next(self._cuts, len(self._data))
        piece = self._data[self._at : end]
        self._at = end
        return piece if piece or end >= len(self._data) else self.read(size)


def by_steps(data: bytes, step: int) -> Drip:
    return Drip(data, iter(range(step, len(data) + step, step)))


def cut_at(data: bytes, place: int) -> Drip:
    return Drip(data, iter([place, len(data)]))


def piped(data: bytes | io.RawIOBase, reading: Reading = AS_IT_IS, **options: object) -> list[Item]:
    """What stdin gives."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    with open_input("-", replace(reading, **options), stdin=stream) as opened:
        return list(opened)


def written(folder: Path, data: bytes | str, name: str = "in.jsonl") -> str:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def read(path: str, reading: Reading = AS_IT_IS, *, start: Position | None = None, **options: object) -> list[Item]:
    with open_input(path, replace(reading, **options), start=start) as opened:
        return list(opened)


def read_with(path: str, reading: Reading = AS_IT_IS, **options: object) -> tuple[Input, list[Item]]:
    """The input too, closed."""
    with open_input(path, replace(reading, **options)) as opened:
        return opened, list(opened)


def bare(items: list[Item]) -> list[Item]:
    """Records without where they stood, rejects with their code alone."""
    nowhere = Source("", 0, 0)
    return [
        replace(item, source=None, size=0) if isinstance(item, Record) else Rejected(item.code, "", nowhere, "")
        for item in items
    ]


def records(items: list[Item]) -> list[Record]:
    assert not [item for item in items if isinstance(item, Rejected)]
    return [item for item in items if isinstance(item, Record)]


def rejects(items: list[Item]) -> list[Rejected]:
    return [item for item in items if isinstance(item, Rejected)]


def where(item: Item) -> tuple[int, int | None, int, int]:
    """Line, column, byte, size."""
    assert item.source is not None
    return item.source.line, item.source.column, item.source.byte, item.size


def gaps(items: list[Item], data: bytes, end: int | None = None) -> list[bytes]:
    """The bytes of *data* up to *end* that belong to no item; no byte belongs to two."""
    at, between = 0, []
    for item in items:
        assert item.source is not None
        assert at <= item.source.byte, "two items share a byte"
        between.append(data[at : item.source.byte])
        at = item.source.byte + item.size
    assert at <= len(data)
    return [*between, data[at:end]]
