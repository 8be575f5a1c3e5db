"""One opened file or pipe: gunzipped, decoded, its format known; and the records in it."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from powermem_cli.blocks import Block
from powermem_cli.errors import UsageError
from powermem_cli.files import Piece
from powermem_cli.model import Line, Record, Rejected, Source
from powermem_cli.readers.base import CHUNK, FORMATS, Position, Reading, target_of
from powermem_cli.readers.encoding import SAMPLE, check_is_text, encoding_of, is_exact
from powermem_cli.readers.faults import Faults
from powermem_cli.readers.lines import Lines
from powermem_cli.readers.sniff import find_format
from powermem_cli.readers.source import GZIP_MAGIC, ByteSource, FileBytes, Inflated, Transcoded

Ahead = Callable[[str, Iterable[Line], Callable[[Line], Record]], Iterable[Line | Block]]
"""Of the lines of a name, and what makes a record of one: the lines, but blocks where somebody has made them already."""


class Input:
    """A context manager; iterate once. Raises UsageError if it can't be read as *reading* says.

    *piped*: what is missing at the end will never come. *start* is where to go on, if that is possible.
    """

    def __init__(
        self, file: FileBytes, name: str, reading: Reading, *, start: Position | None = None, piped: bool = False
    ) -> None:
        self.name = name
        self.label = "stdin" if name == "-" else name  # for messages
        self._file = file
        self._piped = piped
        is_gzip = file.peek(2).startswith(GZIP_MAGIC)
        plain = Inflated(file) if is_gzip else file
        self.encoding, mark = encoding_of(plain.peek(4), reading.encoding)
        if not self.encoding.startswith(("utf-16", "utf-32")):
            check_is_text(self._first_bytes(plain), self.label)
        plain.skip(mark)
        self.beginning = Position(mark)
        self.source, measure = self._decoded(plain)
        self.faults = Faults(self.encoding, measure)
        self.reading = replace(reading, format=find_format(self.source, self.label, reading))
        how = FORMATS[self.format]
        self.growing = file.size is not None and not piped
        self.resumable = self.growing and not is_gzip and how.cut != "json" and is_exact(self.encoding)
        self.in_lines = how.cut == "jsonl" and not is_gzip
        self.start = start if self.resumable and start is not None and start.byte > mark else None
        self.unfinished: Source | None = None
        self._check_user()
        self._reader: Any = importlib.import_module(f"powermem_cli.readers.{how.cut}").Reader(self)

    @property
    def format(self) -> str:
        return self.reading.format

    @property
    def size(self) -> int | None:
        """Bytes on disk; None for a pipe and for what does not know its size."""
        return self._file.size

    @property
    def pieces(self) -> deque[Piece]:
        """What was read so far of a file that is `resumable`; who has looked at them takes them away."""
        return self._file.pieces

    @property
    def consumed(self) -> int:
        """Bytes of `size` that were read so far."""
        return self._file.consumed

    def __iter__(self) -> Iterator[Record | Rejected]:
        return iter(self._reader)

    def read_ahead(self, work: Ahead) -> Iterator[Record | Rejected | Block]:
        """As iteration, in blocks where *work* makes them; only of an input `in_lines`."""
        blocks: Iterator[Record | Rejected | Block] = self._reader.ahead(work)
        return blocks

    def __enter__(self) -> Input:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if not self._piped:
            self._file.close()

    def lines(self, start: Position | None = None) -> Lines:
        """The lines from *start* on; without it, from where `source` stands now."""
        if start is None:
            return Lines(self.source, self.beginning, self.faults.measure)
        start = self._line_start(start)
        self._file.seek(start.byte)
        source, measure = self._decoded(self._file)
        return Lines(source, start, measure)

    def _line_start(self, start: Position) -> Position:
        """*start*; but if it is the end of a line that had no newline yet and has grown, where that line begins."""
        newline = "\n".encode(self.encoding)
        self._file.seek(start.byte - len(newline))
        before = self._file.peek(len(newline) + 1)
        if before.startswith(newline) or len(before) <= len(newline):
            return start
        end = start.byte
        while end > self.beginning.byte:
            begin = max(self.beginning.byte, end - CHUNK)
            self._file.seek(begin)
            at = _last(newline, self._file.peek(end - begin)[: end - begin])
            if at >= 0:
                return Position(begin + at + len(newline), start.line)
            end = begin
        return Position(self.beginning.byte, start.line)

    def _first_bytes(self, plain: ByteSource) -> bytes:
        """As many as are looked at for whether they are text; of a pipe, which may be slow, at most the first line."""
        if self._file.size is not None:
            return plain.peek(SAMPLE)[:SAMPLE]
        while (newline := plain.ahead.find(b"\n")) < 0 and len(plain.ahead) < SAMPLE and plain.look_further():
            pass
        return plain.ahead[: min(SAMPLE, newline + 1) if newline >= 0 else SAMPLE]

    def _decoded(self, source: ByteSource) -> tuple[ByteSource, Callable[[bytes], int]]:
        if self.encoding == "utf-8":
            return source, len
        transcoded = Transcoded(source, self.encoding)
        return transcoded, transcoded.measure

    def _check_user(self) -> None:
        said = self.reading.scope.user_id is not None or "user_id" in map(target_of, self.reading.mapping)
        if FORMATS[self.format].needs_user and not said:
            raise UsageError(
                f"{self.label}: {self.format} files do not say whose conversations they hold", hint="say it with --user"
            )


def _last(newline: bytes, text: bytes) -> int:
    """Where the last newline is; -1 if there is none. Halves of two characters may look like one."""
    at = text.rfind(newline)
    while at > 0 and at % len(newline):
        at = text.rfind(newline, 0, at + len(newline) - 1)
    return at
