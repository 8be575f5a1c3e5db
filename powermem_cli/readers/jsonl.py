"""JSON Lines: one record on each line. This is the path that must be fast."""

from __future__ import annotations

from collections.abc import Iterator

from powermem_cli.errors import InvalidInput
from powermem_cli.model import Record, Rejected, Source
from powermem_cli.readers.faults import against_the_rules, broken_off
from powermem_cli.readers.input import Input
from powermem_cli.readers.lines import LAST, WHOLE
from powermem_cli.readers.record import RecordMaker
from powermem_cli.readers.strict_json import BadJson, parse


class Reader:
    def __init__(self, opened: Input) -> None:
        self._input = opened
        self._lines = opened.lines(opened.start)

    def __iter__(self) -> Iterator[Record | Rejected]:
        name, faults, lines = self._input.name, self._input.faults, self._lines
        make = RecordMaker(self._input.reading).make
        item: Record | Rejected
        for (raw, byte, line, size, state), made in self._input.ahead(name, lines):
            if made is not None:
                yield made
                continue
            source = Source(name, line, byte, None, 1 if state == WHOLE else lines.line - line)
            if state > LAST:
                yield broken_off(state, raw, lines.trouble, source, size)
                continue
            try:
                text = raw.decode()
                item = make(parse(text), source, size)
            except InvalidInput as error:
                item = against_the_rules(error, text, source, size)
            except (BadJson, UnicodeDecodeError) as error:
                if not raw or raw.isspace():
                    continue
                if state == LAST and self._input.growing:
                    self._input.unfinished = source
                    return
                if isinstance(error, BadJson):
                    item = faults.bad_json(error, text, source, size)
                else:
                    item = faults.not_text(raw, source, size)
            yield item
