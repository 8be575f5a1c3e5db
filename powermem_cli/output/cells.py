"""Rows of short cells: a table on a terminal, tabs in a pipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from powermem_cli.output.console import console_for, encodable, is_terminal
from powermem_cli.output.safe import safe


def write_cells(
    header: Sequence[str], rows: Sequence[Sequence[Any]], stream: TextIO, environ: Mapping[str, str] = os.environ
) -> None:
    """*header* is for people alone; None is an empty cell."""
    texts = [
        [encodable("" if cell is None else safe(str(cell), single_line=True), stream) for cell in row] for row in rows
    ]
    if is_terminal(stream):
        _write_table(header, texts, stream, environ)
    else:
        stream.write("".join("\t".join(row) + "\n" for row in texts))
        stream.flush()


def _write_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO, environ: Mapping[str, str]
) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=any(header), header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console_for(stream, environ).print(table)
