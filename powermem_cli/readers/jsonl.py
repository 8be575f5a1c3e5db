"""JSON Lines: one record on each line. This is the path that must be fast."""

from __future__ import annotations

from collections.abc import Iterator

from powermem_cli.blocks import Block
from powermem_cli.errors import InvalidInput
from powermem_cli.model import Line, Record, Rejected, Source
from powermem_cli.readers.faults import against_the_rules, broken_off
from powermem_cli.readers.input import Ahead, Input
from powermem_cli.readers.lines import LAST, WHOLE
from powermem_cli.readers.record import RecordMaker
from powermem_cli.readers.strict_json import BadJson, parse


class Reader:
    def __init__(self, opened: Input) -> None:
        self._input = opened
        self._lines = opened.lines(opened.start)
        self._make = RecordMaker(opened.reading).make

    def __iter__(self) -> Iterator[Record | Rejected]:
        for line in self._lines:
            if (item := self._item(line)) is not None:
                yield item

    def ahead(self, work: Ahead) -> Iterator[Record | Rejected | Block]:
        """The same, in blocks where *work* makes them of lines."""
        for piece in work(self._input.name, self._lines, self._record):
            if isinstance(piece, Block):
                yield piece
            elif (item := self._item(piece)) is not None:
                yield item

    def _item(self, line: Line) -> Record | Rejected | None:
        """None for an empty line, and for a last one that is still being written."""
        raw, _, _, size, state = line
        faults = self._input.faults
        if state > LAST:
            return broken_off(state, raw, self._lines.trouble, self._source(line), size)
        try:
            return self._record(line)
        except InvalidInput as error:
            return against_the_rules(error, raw.decode(), self._source(line), size)
        except (BadJson, UnicodeDecodeError) as error:
            if not raw or raw.isspace():
                return None
            source = self._source(line)
            if state == LAST and self._input.growing:
                self._input.unfinished = source
                return None
            if isinstance(error, BadJson):
                return faults.bad_json(error, raw.decode(), source, size)
            return faults.not_text(raw, source, size)

    def _record(self, line: Line) -> Record:
        """Raises InvalidInput, BadJson and UnicodeDecodeError for what is none."""
        return self._make(parse(line[0].decode()), self._source(line), line[3])

    def _source(self, line: Line) -> Source:
        _, byte, number, _, state = line
        return Source(self._input.name, number, byte, None, 1 if state == WHOLE else self._lines.line - number)
