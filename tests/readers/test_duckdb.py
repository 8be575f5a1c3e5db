"""Tables against DuckDB, which too goes on behind a row it can't read: the same rows accepted, the same lines rejected."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from readers.tools import piped

from powermem_cli.model import Record

HEADER = ("memory", "more", "other")
SQL = """
SELECT * FROM read_csv(?, delim = ?, quote = '"', escape = '"', header = true, auto_detect = false, store_rejects = true,
    rejects_limit = 0, columns = {'memory': 'VARCHAR', 'more': 'VARCHAR', 'other': 'VARCHAR'})
"""

OTHERWISE = {
    "a line is a line": "to DuckDB it is a row; so its bytes are asked, which begin with the empty lines before it",
    "a row of empty cells or blanks is none": "to DuckDB it is a row of NULLs, or one with too few cells",
    "a row is too long whatever is in it": "DuckDB takes one whose further cells are empty",
    "U+0000 is rejected": "to DuckDB it is a character like others",
    "a byte that is no UTF-8 is told by its own line": "DuckDB names the first line of its row",
    "behind a quote that is never closed the next line is read": "DuckDB ends there, and has lost all that follows",
}
"""What we do, and what DuckDB does. These are left out of the files, or looked at by a test of their own."""

CELLS = (
    "",
    "x",
    "two words",
    "comma, in it",
    'a "quote"',
    "line\nbreak",
    "é茶😀",
    " blanks ",
    "0",
    "a\tb",
    "'",
    "\\",
    "\n",
)
FAULTS = {"input.columns": ("few", "many"), "input.quote": ("behind a quote",), "input.encoding": ("a byte",)}
KINDS = [None] * 12 + [kind for kinds in FAULTS.values() for kind in kinds]


def row(dice: random.Random, number: int, delimiter: str, newline: str) -> bytes:
    """One that can be told from all others, with at most one fault."""
    kind = dice.choice(KINDS)
    cells = [f"{number} {dice.choice(CELLS)}", *(dice.choice(CELLS) for _ in range(1 if kind == "few" else 2))]
    cells += [dice.choice(CELLS[1:]) for _ in range(dice.randrange(1, 4) if kind == "many" else 0)]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=dice.choice((0, 1)), lineterminator=newline).writerow(cells)
    line = text.getvalue().removesuffix(newline)
    if kind == "behind a quote":
        line = f'{number}{delimiter}"closed" and more{delimiter}{dice.choice(CELLS[:4]).replace(delimiter, "")}'
    written = f"{line}{newline}".encode()
    return written.replace(b"x", b"\xff", 1) if kind == "a byte" and "\n" not in line else written


def table(dice: random.Random) -> tuple[bytes, str]:
    """A table and its delimiter; some lines of it are empty."""
    delimiter, newline = dice.choice(",;\t|"), dice.choice(("\n", "\r\n"))
    rows = [row(dice, number, delimiter, newline) for number in range(dice.randrange(40))]
    gaps = [newline.encode() * dice.choice((0, 0, 0, 0, 0, 1, 3)) for _ in rows]
    parts = [part for pair in zip(gaps, rows, strict=True) for part in pair]
    whole = b"".join([f"{delimiter.join(HEADER)}{newline}".encode(), *parts])
    return whole.removesuffix(newline.encode()) if rows and dice.random() < 0.2 else whole, delimiter


Found = tuple[list[tuple[str, ...]], list[tuple[int, str]]]
"""The cells of the rows accepted; line and code of those rejected."""

CODES = {
    "MISSING COLUMNS": "input.columns",
    "TOO MANY COLUMNS": "input.columns",
    "UNQUOTED VALUE": "input.quote",
    "INVALID ENCODING": "input.encoding",
}


def ours(data: bytes, delimiter: str) -> Found:
    accepted, rejected = [], []
    for item in piped(data, format="csv", delimiter=delimiter):
        if isinstance(item, Record):
            accepted.append((item.memory or "", *[str(item.metadata.get(name, "")) for name in HEADER[1:]]))
        else:
            rejected.append((item.source.line, item.code))
    return accepted, rejected


class Duck:
    """DuckDB, which reads files."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "table.csv"
        self._database = duckdb.connect(config={"threads": 1})

    def reads(self, data: bytes, delimiter: str) -> Found:
        self._path.write_bytes(data)
        rows = self._rows(SQL, [str(self._path), delimiter])
        rejected = self._rows("SELECT DISTINCT line_byte_position, error_type FROM reject_errors ORDER BY ALL")
        self._rows("DROP TABLE reject_errors")
        self._rows("DROP TABLE reject_scans")
        accepted = [tuple(cell or "" for cell in cells) for cells in rows]
        return accepted, [(_line(data, at - 1), CODES[kind]) for at, kind in rejected]

    def close(self) -> None:
        self._database.close()

    def _rows(self, sql: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        return self._database.execute(sql, values).fetchall()


def _line(data: bytes, byte: int) -> int:
    """That of the row for which DuckDB says *byte*, where the empty lines before it begin."""
    empty = len(data) - byte - len(data[byte:].lstrip(b"\r\n"))
    return data.count(b"\n", 0, byte + empty) + 1


@pytest.fixture
def duck(tmp_path) -> Iterator[Duck]:
    made = Duck(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("files", [40, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_the_same_rows_and_the_same_lines(duck, files):
    dice = random.Random(20260412)
    for number in range(files):
        data, delimiter = table(dice)
        assert ours(data, delimiter) == duck.reads(data, delimiter), (number, data)


def test_behind_a_quote_that_is_never_closed(duck):
    """There DuckDB has nothing more; what we have is what it reads where that line is taken out."""
    lines = [f"{number},a,b\n".encode() for number in range(9)]
    head, broken = b"memory,more,other\n", b'4,"never closed,b\n'
    whole = [head, *lines[:4], broken, *lines[5:]]
    accepted, rejected = ours(b"".join(whole), ",")
    by_duckdb, its_rejects = duck.reads(b"".join(whole), ",")
    assert (len(by_duckdb), its_rejects) == (4, [(6, "input.quote")])
    assert rejected == its_rejects
    assert accepted == duck.reads(b"".join(line for line in whole if line != broken), ",")[0]
