"""Rows of short cells: a table on a terminal, tabs in a pipe."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from powermem_cli.output.console import console_for, encodable, is_terminal, width_of
from powermem_cli.output.safe import safe

_FEW: Final = 4  # columns that are still read when their cells are broken
_GAP: Final = 2  # between columns
_NUMBERS: Final = re.compile(r"[\d,]+")


def write_cells(
    header: Sequence[str], rows: Sequence[Sequence[Any]], stream: TextIO, environ: Mapping[str, str] = os.environ
) -> None:
    """*header* is for people alone; None is an empty cell. Where a terminal is too narrow, a row stands one below the other."""
    texts = [
        [encodable("" if cell is None else safe(str(cell), single_line=True), stream) for cell in row] for row in rows
    ]
    if is_terminal(stream):
        narrow = len(header) > _FEW and _width([header, *texts]) > width_of(stream, environ)
        (_write_blocks if narrow else _write_table)(header, texts, stream, environ)
    else:
        stream.write("".join("\t".join(row) + "\n" for row in texts))
        stream.flush()


def moment(at: str) -> str:
    """A time as the other tables show it (UTC): to the second, for what people do."""
    return at[:19].replace("T", " ")


def _width(rows: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + _GAP for column in zip(*rows, strict=True)) - _GAP


def _write_blocks(
    header: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO, environ: Mapping[str, str]
) -> None:
    for row in rows:
        _write_table(("", ""), [pair for pair in zip(header, row, strict=True) if pair[1]], stream, environ)
        print(file=stream)


def _write_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO, environ: Mapping[str, str]
) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = console_for(stream, environ)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=any(header), header_style="bold")
    columns = list(zip(header, *rows, strict=True))
    whole = _room_for_words(columns, console.width)
    for place, (name, *cells) in enumerate(columns):
        numbers = place > 0 and all(map(_NUMBERS.fullmatch, cells))
        in_words = any(" " in cell for cell in cells)
        table.add_column(name, overflow="fold", justify="right" if numbers else "left", no_wrap=whole and not in_words)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _room_for_words(columns: Sequence[Sequence[str]], width: int) -> bool:
    """Whether nothing has to be broken but between words: a path stays whole while sentences beside it can give way."""
    from rich.cells import cell_len  # noqa: PLC0415

    longest = [max([cell_len(word) for cell in column for word in cell.split(" ")]) for column in columns]
    return sum(longest) + _GAP * (len(columns) - 1) <= width
