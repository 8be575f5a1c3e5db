"""What the tests of the readers share: opening bytes in all the ways there are, and what must hold for all of them."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from powermem_cli.errors import UsageError
from powermem_cli.model import Record, Rejected, Source
from powermem_cli.readers import FORMATS, Input, Position, Reading, open_input

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


_BLANK = b" \t\r\n\v\f"
BETWEEN = {"json": b" \t\r\n,[]", "delimited": _BLANK + b',;|"', "jsonl": _BLANK, "text": _BLANK + b"\0"}
"""What may stand between two items, by the way the input is cut."""


def outcome(stream: bytes | io.RawIOBase, reading: Reading) -> list[Item] | str:
    """The items, or why there are none."""
    try:
        return piped(stream, reading)
    except UsageError as error:
        return error.message


def every_byte_has_its_place(name: str, reading: Reading, data: bytes, step: int) -> list[Item]:
    """Every byte is in one record, one reject, or blank; and the items are the same when *step* bytes come at once.

    *name* is the format that *data* began as; *reading* may leave it to be found.
    """
    items = outcome(data, reading)
    assert outcome(by_steps(data, step), reading) == items, "the same however the bytes come"
    if isinstance(items, str):
        return []
    if data.startswith((b"\x1f\x8b", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        return items
    if reading.encoding == "gb18030":
        return items
    between = gaps(items, data)
    cut = FORMATS[name].cut
    if reading.format == name and reading.encoding != "utf-16-le" and b"results" not in data:
        first = between[0].removeprefix(codecs.BOM_UTF8)
        for gap in between[1:] if cut == "delimited" else [first, *between[1:]]:
            assert not gap.strip(BETWEEN[cut]), "bytes that are in no record, no reject, and are not blank"
    return items
