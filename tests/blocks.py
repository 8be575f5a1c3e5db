"""Blocks of records as the process that reads ahead makes them, without that process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from powermem_cli.ahead import _answer, _in_order
from powermem_cli.blocks import Block, Columns
from powermem_cli.identity import identify
from powermem_cli.model import Line, Record, Source
from powermem_cli.providers import built_in_model
from powermem_cli.readers import Reading
from powermem_cli.readers.lines import WHOLE
from powermem_cli.readers.record import RecordMaker
from powermem_cli.readers.strict_json import parse

FILE = "chats.jsonl"


def lines_of(*rows: Mapping[str, Any]) -> list[Line]:
    lines, byte = list[Line](), 0
    for number, row in enumerate(rows, 1):
        text = json.dumps(row).encode()
        lines.append((text, byte, number, len(text) + 1, WHOLE))
        byte += len(text) + 1
    return lines


def pieces_of(*rows: Mapping[str, Any], thorough: bool = True) -> list[Line | Block]:
    """What comes of a file of these rows."""
    make, lines = RecordMaker(Reading("jsonl")).make, lines_of(*rows)
    answer = _answer([line[0] for line in lines], make, built_in_model() if thorough else None)

    def record(line: Line) -> Record:
        return make(parse(line[0].decode()), Source(FILE, line[2], line[1]), line[3])

    return list(_in_order(FILE, lines, answer, record))


def block_of(*rows: Mapping[str, Any], thorough: bool = True) -> Block:
    """All of them must be records, each of a key of its own."""
    (block,) = pieces_of(*rows, thorough=thorough)
    assert isinstance(block, Block)
    return block


def around(records: Sequence[Record]) -> Block:
    """A block of these very records, of which nothing is worked out but who they are."""
    lines: list[Line] = [(b"", one.source.byte, one.source.line, one.size, WHOLE) for one in records if one.source]
    by_line = {line[2]: record for line, record in zip(lines, records, strict=True)}
    identities = list(map(identify, records))
    columns = Columns(
        [identity.key for identity in identities],
        [identity.content for identity in identities],
        [record.key for record in records],
        [record.scope for record in records],
        [record.created_at for record in records],
    )
    return Block(FILE, lines, columns, lambda line: by_line[line[2]])
