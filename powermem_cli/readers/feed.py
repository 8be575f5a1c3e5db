"""The lines a table is cut into rows from: each row is known by its lines, and lines can be given back."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from powermem_cli.model import Line
from powermem_cli.readers.base import LONGEST_RECORD
from powermem_cli.readers.lines import LAST, WHOLE

LONGEST_CELL: Final = 1000  # lines


class Runaway(Exception):
    """A cell goes on beyond the limits, or up to what is no line."""


class Quote(NamedTuple):
    """A quote that opens a cell and does not rightly end it: it is never *closed*, or not before a delimiter."""

    at: int
    closed: bool


class Feed:
    """An iterator of texts for csv.reader. *row* has the lines of the row so far."""

    def __init__(self, lines: Iterator[Line], delimiter: str) -> None:
        self._lines = lines
        self._given_back: deque[Line] = deque()
        self._delimiter = delimiter
        self.begin_row()

    def begin_row(self) -> None:
        self.row: list[Line] = []
        self._no_text: list[int] = []  # which of the lines are no UTF-8, or have U+0000
        self._texts: list[str] = []
        self._size = 0
        self._next_look = LONGEST_CELL  # at how many lines to see where the open cell began

    def rows(self) -> Iterator[list[str]]:
        return csv.reader(self, delimiter=self._delimiter, strict=True)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """The next line with its newline. Raises Runaway."""
        line = self._given_back.popleft() if self._given_back else next(self._lines)
        raw, _, _, size, state = line
        if self.row and (state > LAST or self._size + size > LONGEST_RECORD or self._is_endless()):
            self._given_back.appendleft(line)
            raise Runaway
        self.row.append(line)
        if state > LAST:
            raise Runaway
        self._size += size
        text = self._decoded(raw) + ("\n" if state == WHOLE else "")
        self._texts.append(text)
        return text

    @property
    def is_text(self) -> bool:
        return not self._no_text

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def raw(self) -> bytes:
        return b"\n".join(line[0] for line in self.row)

    def give_back(self, kept: int) -> None:
        """All lines of the row but the first *kept* are to come again."""
        self._given_back.extendleft(reversed(self.row[kept:]))
        del self.row[kept:], self._texts[kept:]
        self._no_text = [number for number in self._no_text if number < kept]

    def open_quote(self) -> Quote | None:
        return open_quote(self.text, self._delimiter)

    def _is_endless(self) -> bool:
        if len(self.row) < self._next_look:
            return False
        quote = self.open_quote()
        began = self.text.count("\n", 0, quote.at) if quote else 0
        self._next_look = began + LONGEST_CELL
        return len(self.row) >= self._next_look

    def _decoded(self, raw: bytes) -> str:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            self._no_text.append(len(self._texts))
            text = raw.decode("utf-8", "replace")
        if "\0" in text:
            self._no_text.append(len(self._texts))
            text = text.replace("\0", " ")  # csv of Python 3.10 stops there
        return text


def open_quote(text: str, delimiter: str) -> Quote | None:
    """The first quote of a row that opens a cell without ending it."""
    cell_end = re.compile(f"[{re.escape(delimiter)}\r\n]")
    at = 0
    while True:
        after = at
        if text.startswith('"', at):
            after = _behind_closing(text, at + 1)
            if after < 0:
                return Quote(at, closed=False)
            if after < len(text) and not cell_end.match(text, after):
                return Quote(at, closed=True)
        end = cell_end.search(text, after)
        if end is None or end.group() != delimiter:
            return None
        at = end.end()


def _behind_closing(text: str, at: int) -> int:
    """-1 if there is no closing quote; two quotes are one that is meant."""
    while (quote := text.find('"', at)) >= 0:
        if not text.startswith('"', quote + 1):
            return quote + 1
        at = quote + 2
    return -1
