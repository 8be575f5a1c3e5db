"""The lines of a source, each with where it stands; a line over the limit is passed by, not held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from powermem_cli.model import Line
from powermem_cli.readers.base import LONGEST_RECORD, Position
from powermem_cli.readers.source import ByteSource

WHOLE: Final = 0
LAST: Final = 1  # the input ends without a newline
LONG: Final = 2  # over the limit: the text is only its beginning
TORN: Final = 3  # the input broke off here, as `source.trouble` says
HOLE: Final = (
    4  # NULs where a line should begin, as a writer that crashed leaves them; what follows is a line of its own
)

SHOWN: Final = 1000  # bytes kept of a line over the limit


class Lines:
    r"""Split on \n alone. *measure* counts the bytes of the input that a piece of it was: another encoding has others."""

    def __init__(self, source: ByteSource, start: Position, measure: Callable[[bytes], int] = len) -> None:
        self._source = source
        self._measure = measure
        self.byte, self.line = start.byte, start.line  # of the line that comes next
        self._parts: list[bytes] = []  # of the line that has not ended yet
        self._held = 0  # its bytes so far
        self._size = 0  # and the bytes of the input they were

    @property
    def trouble(self) -> str:
        return self._source.trouble or ""

    def __iter__(self) -> Iterator[Line]:
        measure, newline = self._measure, self._measure(b"\n")
        while chunk := self._source.read():
            if self._is_hole:
                after = chunk.lstrip(b"\0")
                self._hold(chunk[: len(chunk) - len(after)])
                if not after:
                    continue
                chunk = after
                if not chunk.startswith(b"\n"):
                    yield self._held_line(HOLE, 0)
            pieces = chunk.split(b"\n")
            rest = pieces.pop()
            if pieces and self._held:
                self._hold(pieces.pop(0))
                yield self._held_line(HOLE if self._is_hole else WHOLE, newline)
            for text in pieces:
                if text and not text[0]:
                    yield from self._behind_hole(text, newline)
                    continue
                byte, line, size = self.byte, self.line, measure(text) + newline
                self.byte, self.line = byte + size, line + 1
                yield text, byte, line, size, WHOLE
            if rest and not self._held and not rest[0]:
                yield from self._begun(rest)
            elif rest:
                self._hold(rest)
        if self._held or self._source.trouble:
            yield self._held_line(TORN if self._source.trouble else LAST, 0)

    def _behind_hole(self, text: bytes, newline: int) -> Iterator[Line]:
        after = text.lstrip(b"\0")
        self._hold(text[: len(text) - len(after)])
        if after:
            yield self._held_line(HOLE, 0)
            self._hold(after)
        yield self._held_line(WHOLE if after else HOLE, newline)

    def _begun(self, rest: bytes) -> Iterator[Line]:
        """Hold the beginning of a line; what NULs stand before it is over."""
        after = rest.lstrip(b"\0")
        if after and len(after) < len(rest):
            self._hold(rest[: len(rest) - len(after)])
            yield self._held_line(HOLE, 0)
        self._hold(after or rest)

    @property
    def _is_hole(self) -> bool:
        """All that is held of a line are NULs: those before anything else are never held together with it."""
        return bool(self._parts) and not self._parts[0].strip(b"\0")

    def _hold(self, piece: bytes) -> None:
        self._held += len(piece)
        self._size += self._measure(piece)
        self._parts.append(piece)
        if self._held > LONGEST_RECORD:
            self._parts = [b"".join(self._parts)[:SHOWN]]

    def _held_line(self, state: int, newline: int) -> Line:
        text, size = b"".join(self._parts), self._size + newline
        if self._held > LONGEST_RECORD and not self._is_hole:
            state = LONG
        held = text, self.byte, self.line, size, state
        self.byte += size
        self.line += newline > 0
        self._parts, self._held, self._size = [], 0, 0
        return held
