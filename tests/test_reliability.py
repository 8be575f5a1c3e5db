"""RELIABILITY.md names what there is, and leaves out none of its rows."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
SAID = (TESTS / "RELIABILITY.md").read_text("utf-8")
ROWS = {
    *(f"C{number}" for number in range(1, 9)),
    *(f"D{number}" for number in range(1, 10)),
    *(f"I{number}" for number in range(1, 12)),
    *(f"U{number}" for number in range(1, 9)),
    *("S1", "S2", "S3", "S4", "S5", "S6", "S8", "S11"),
}


def test_every_file_it_names_is_there():
    named = set(re.findall(r"`([\w/]+\.py)\b", SAID))
    folders = [TESTS, *(path for path in TESTS.iterdir() if path.is_dir())]
    missing = [name for name in named if not any((folder / name).is_file() for folder in folders)]
    assert missing == []


def test_no_row_is_left_out():
    told = [row for cell in re.findall(r"^\| ([CDIUS][^|]*)\|", SAID, re.MULTILINE) for row in cell.strip().split(", ")]
    assert sorted(told) == sorted(ROWS)


def test_every_row_has_a_test_or_a_script():
    for line in re.findall(r"^\| [CDIUS]\d.*$", SAID, re.MULTILINE):
        assert re.search(r"`[\w/]+\.py\b", line), line
