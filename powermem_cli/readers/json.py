"""JSON documents: the records in them, each parsed like a line of JSONL, so a bad one is one reject."""

from __future__ import annotations

from collections.abc import Iterator

from powermem_cli.errors import InvalidInput
from powermem_cli.model import Record, Rejected, Source
from powermem_cli.readers.faults import against_the_rules, broken_off
from powermem_cli.readers.input import Input
from powermem_cli.readers.lines import LONG, TORN
from powermem_cli.readers.record import RecordMaker
from powermem_cli.readers.strict_json import BadJson, parse
from powermem_cli.readers.values import REST, Values


class Reader:
    def __init__(self, opened: Input) -> None:
        self._input = opened
        self._values = Values(opened.source, opened.beginning, opened.faults.measure)

    def __iter__(self) -> Iterator[Record | Rejected]:
        name, faults = self._input.name, self._input.faults
        make = RecordMaker(self._input.reading).make
        for raw, byte, line, column, lines, size, state in self._values:
            source = Source(name, line, byte, column, lines)
            if state in {LONG, TORN}:
                yield broken_off(state, raw, self._values.trouble, source, size)
                continue
            try:
                text = raw.decode()
                if state == REST:
                    _check_rest(text)
                else:
                    yield make(parse(text), source, size)
            except UnicodeDecodeError:
                yield faults.not_text(raw, source, size)
            except BadJson as error:
                yield faults.bad_json(error, text, source, size)
            except InvalidInput as error:
                yield against_the_rules(error, text, source, size)


def _check_rest(text: str) -> None:
    """Nothing of it is wanted, but records must not be swallowed by it. Raises BadJson."""
    rest = text.lstrip()
    if rest != "}":
        if rest[0] != ",":
            raise BadJson("not valid JSON: expecting a comma or the end", len(text) - len(rest))
        parse(text.replace(",", "{", 1))
