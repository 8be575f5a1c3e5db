"""Memories for people: a table on a terminal, a line each in a pipe, every field of a single one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from powermem_cli.output.console import console_for, encodable, marks_for
from powermem_cli.output.safe import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Row = Mapping[str, Any]
"""A memory as the public methods return it; one that was searched for has a *score*, too."""

_ROWS_AT_ONCE: Final = 100  # so that a list of any length begins at once and takes little memory
_NARROW: Final = 60  # columns; below, a table leaves no room for the text
_WIDE: Final = 100  # columns; from here, there is room for the time of day
_WIDEST: Final = 140  # columns; no eye follows a longer line
_LONGEST: Final = 600  # characters in a cell
_MOST_LINES: Final = 6  # in a cell


def write_plain(rows: Iterable[Row], stream: TextIO) -> None:
    """A line each, for cut and grep: id, created_at, score (empty if it has none), memory; tabs between them."""
    for row in rows:
        cells = (str(row["id"]), row.get("created_at") or "", _score(row), row["memory"])
        line = "\t".join([safe(cell, single_line=True) for cell in cells])
        stream.write(encodable(line, stream) + "\n")
    stream.flush()


def write_table(rows: Iterable[Row], stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
    """Score (if they have one), memory, when and id; where it is narrow, one below the other."""
    console = console_for(stream, environ)
    layout = _blocks if console.width < _NARROW else _columns
    pages = iter(rows)
    header = True
    while page := list(islice(pages, _ROWS_AT_ONCE)):
        layout(console, page, header)
        header = False


def write_details(row: Row, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
    """Every field that is set, and the whole text as the last one."""
    from rich.text import Text  # noqa: PLC0415

    console = console_for(stream, environ)
    fields = {name: value for name, value in row.items() if name != "memory" and value not in (None, {})}
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        shown = encodable(safe(text, single_line=True), stream)
        console.print(Text.assemble((f"{name:{width}}  ", "dim"), shown), soft_wrap=True)
    # The terminal itself breaks long lines: what is copied from it has no break of ours.
    console.print(Text("\n" + encodable(safe(row["memory"]), stream)), soft_wrap=True)


def _columns(console: Console, page: Sequence[Row], header: bool) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    wide = console.width >= _WIDE
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=header, header_style="bold")
    table.width = min(console.width, _WIDEST)
    scored = any(_score(row) for row in page)
    if scored:
        table.add_column("score", width=5)
    table.add_column("memory", ratio=1)
    table.add_column("when (UTC)", width=16 if wide else 10, style="dim")
    table.add_column("id", min_width=max(len(str(row["id"])) for row in page), justify="right", style="dim")
    for row in page:
        cells = (_memory(console, row), Text(_when(row, with_minute=wide)), Text(safe(str(row["id"]))))
        table.add_row(*([Text(_score(row))] if scored else []), *cells)
    console.print(table)


def _blocks(console: Console, page: Sequence[Row], _header: bool) -> None:
    from rich.text import Text  # noqa: PLC0415

    for row in page:
        head = [part for part in (_score(row), _when(row), safe(str(row["id"]))) if part]
        console.print(Text("  ".join(head), style="dim"), _memory(console, row), "", sep="\n")


def _memory(console: Console, row: Row) -> Text:
    from rich.text import Text  # noqa: PLC0415

    stream = cast("TextIO", console.file)
    whole: str = row["memory"]
    shown = "\n".join(whole[:_LONGEST].split("\n")[:_MOST_LINES])
    more = marks_for(stream).ellipsis if len(shown) < len(whole) else ""
    return Text(encodable(safe(shown), stream) + more, overflow="fold")


def _when(row: Row, *, with_minute: bool = False) -> str:
    return safe(str(row.get("created_at") or ""), single_line=True)[: 16 if with_minute else 10].replace("T", " ")


def _score(row: Row) -> str:
    return "" if row.get("score") is None else f"{row['score']:.3f}"
