"""Plain text: each line that is not blank is a memory."""

from __future__ import annotations

from collections.abc import Iterator

from powermem_cli.errors import InvalidInput
from powermem_cli.model import Record, Rejected, Source
from powermem_cli.readers.faults import against_the_rules, broken_off, quoted
from powermem_cli.readers.input import Input
from powermem_cli.readers.lines import LAST
from powermem_cli.readers.record import RecordMaker


class Reader:
    def __init__(self, opened: Input) -> None:
        self._input = opened
        self._lines = opened.lines(opened.start)

    def __iter__(self) -> Iterator[Record | Rejected]:
        name, faults = self._input.name, self._input.faults
        make = RecordMaker(self._input.reading).make
        for raw, byte, line, size, state in self._lines:
            source = Source(name, line, byte, None, self._lines.line - line)
            if state > LAST:
                yield broken_off(state, raw, self._lines.trouble, source, size)
                continue
            if not raw or raw.isspace():
                continue
            try:
                text = raw.decode().removesuffix("\r")
                yield make(text, source, size)
            except UnicodeDecodeError:
                yield faults.not_text(raw, source, size)
            except InvalidInput as error:
                yield against_the_rules(error, quoted(text), source, size)
