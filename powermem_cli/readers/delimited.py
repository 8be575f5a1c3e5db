"""CSV and TSV: a header that names the columns, then a record on each row; a quoted cell may have several lines.

Python's csv does the cutting. It is fed line by line, so it is known which lines a row took, and what a stray quote
has swallowed can be given back, all but the line of the quote.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace

from powermem_cli.errors import InvalidInput, UsageError
from powermem_cli.model import Line, Record, Rejected, Source
from powermem_cli.readers.base import LONGEST_RECORD
from powermem_cli.readers.faults import against_the_rules, broken_off, quoted
from powermem_cli.readers.feed import Feed, Runaway
from powermem_cli.readers.header import Header, read_header
from powermem_cli.readers.input import Input
from powermem_cli.readers.lines import LAST, WHOLE
from powermem_cli.readers.record import RecordMaker


class _Unfinished(Exception):
    """The last row may still be being written."""


class Reader:
    def __init__(self, opened: Input) -> None:
        # A setting of the whole process; what a row may take is watched by the feed.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_RECORD))
        self._input = opened
        lines = opened.lines()
        coming = iter(lines)
        header = _header_of(coming, opened)
        self._columns = header.columns
        if opened.start is not None and opened.start.byte > lines.byte:
            lines = opened.lines(opened.start)
            coming = iter(lines)
        self._lines = lines
        self._feed = Feed(coming, header.delimiter)
        opened.reading = replace(opened.reading, mapping=header.mapping)

    def __iter__(self) -> Iterator[Record | Rejected]:
        try:
            yield from self._items()
        except _Unfinished:
            self._input.unfinished = self._place()[0]

    def _items(self) -> Iterator[Record | Rejected]:
        maker = RecordMaker(self._input.reading)
        feed = self._feed
        rows = feed.rows()
        while True:
            feed.begin_row()
            try:
                cells = next(rows, None)
            except (Runaway, csv.Error) as error:
                item: Record | Rejected | None = self._broken(error)
                rows = feed.rows()  # what csv has begun is void
            else:
                if cells is None:
                    return
                item = self._item(cells, maker)
            if item is not None:
                yield item

    def _item(self, cells: list[str], maker: RecordMaker) -> Record | Rejected | None:
        """None for a row in which nothing is written."""
        if not any(cells) or (not cells[0].strip() and self._feed.raw.isspace()):
            return None
        source, size = self._place()
        if not self._feed.is_text:
            self._must_be_finished()
            return self._input.faults.not_text(self._feed.raw, source, size)
        if len(cells) != len(self._columns):
            self._must_be_finished()
            reason = f"{len(cells)} cells where the header has {len(self._columns)}"
            return Rejected("input.columns", reason, source, self._feed.text, size)
        row = dict(zip(self._columns, cells, strict=True))
        try:
            return maker.make(row, source, size)
        except InvalidInput as error:
            return against_the_rules(error, quoted(row), source, size)

    def _broken(self, error: Exception) -> Rejected:
        """The line on which csv went astray; the others of the row are read again."""
        feed = self._feed
        raw, _, _, _, state = feed.row[0]
        if state > LAST:
            return broken_off(state, raw, self._lines.trouble, *self._place())
        quote = feed.open_quote()
        if quote is not None:
            feed.give_back(feed.text.count("\n", 0, quote.at) + 1)
        self._must_be_finished()
        if not feed.is_text:
            return self._input.faults.not_text(feed.raw, *self._place())
        if quote is None:
            source, size = self._place()
            return Rejected("input.csv", f"not valid CSV: {error}", source, feed.text, size)
        reason = "this quote is not closed within 1,000 lines or 16 MiB"
        if isinstance(error, csv.Error):
            reason = "text follows the quote that closes this cell" if quote.closed else "this quote is never closed"
        return self._input.faults.at("input.quote", reason, quote.at, feed.text, *self._place())

    def _place(self) -> tuple[Source, int]:
        row = self._feed.row
        lines = len(row) if row[-1][4] == WHOLE else self._lines.line - row[0][2]
        return Source(self._input.name, row[0][2], row[0][1], None, lines), sum(line[3] for line in row)

    def _must_be_finished(self) -> None:
        if self._feed.row[-1][4] == LAST and self._input.growing:
            raise _Unfinished


def _header_of(lines: Iterator[Line], opened: Input) -> Header:
    raw, state = next(((line[0], line[4]) for line in lines if line[0].strip()), (b"", LAST))
    if not raw:
        return Header(",", (), {})
    try:
        line = raw.decode().removesuffix("\r")
    except UnicodeDecodeError:
        state = LAST + 1
    if state > LAST or "\0" in line:
        raise UsageError(f"{opened.label}: the first line is no header: it is no text, or has no end")
    return read_header(line, opened.label, opened.reading)
