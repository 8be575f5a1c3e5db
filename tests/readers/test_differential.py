"""What we read against what others read: the same lines accepted, the same values. Every exception is listed here."""

from __future__ import annotations

import csv
import io
import json
import random
import re

import jq
import pytest
from readers.tools import piped

from powermem_cli.model import Record

STRICTER = {
    "input.duplicate_key": "an object has a key twice: the others keep the last",
    "input.number": "NaN, Infinity, or thousands of digits: numbers for them",
    "input.character": "U+0000 and lone surrogates: text for them",
    "input.too_deep": "more than 100 brackets: Python goes on to 1,000, jq to 10,000",
    "input.encoding": "bytes that are no UTF-8: jq writes U+FFFD for them",
}
"""JSON that we reject though others take it, by our code."""

PIECES = [
    *('{"memory": "x"}', '{"memory": "é茶😀"}', '{"memory": "a\\u0041\\n", "n": [1, 2.5, -3e2, true, null]}', '"just text"'),
    *('{"memory": "x"', '{"memory": "x"} {"memory": "y"}', "{'memory': 'x'}", '{"memory": "x",}', '{"memory" "x"}', "nul", "{}x"),
    *('{"memory": "x", "a": NaN}', '{"memory": "x", "a": 1e999}', '{"memory": "x", "a": 01}', '{"memory": "x", "a": .5}'),
    *('{"memory": "x", "memory": "y"}', '{"memory": "\\ud800"}', '{"memory": "\\u0000"}', '{"memory": "\\x41"}', '{"memory": "a\tb"}'),
    *('{"memory": "x", "a": ' + "[" * depth + "]" * depth + "}" for depth in (5, 98, 99, 120)),
    *("  ", "", '\t{"memory": "x"} ', '\ufeff{"memory": "x"}', '{"memory": "x"}\r', "\u2028", '{"memory": "a\u2028b"}', "\x0c"),
]  # fmt: skip


def mutated(dice: random.Random) -> str:
    """One line: a piece, perhaps with a character more, less or other."""
    line = dice.choice(PIECES)
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2))):
        at = dice.randrange(len(line) + 1)
        line = (
            line[:at]
            + dice.choice(('"', "{", "}", "[", "]", ",", ":", "\\", "0", "-", "e", " ", "u", "é", ""))
            + line[at + dice.randrange(2) :]
        )
    return line.replace("\n", "")


def ours(lines: list[str]) -> dict[int, str]:
    """Line → "" where it was accepted as JSON, whatever the record was worth; else the code. Blank lines are in none."""
    items = piped("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"), format="jsonl")
    said = {}
    for item in items:
        source = item.source
        is_json = isinstance(item, Record) or item.code in {"input.type", "input.missing", "input.empty", "input.both"}
        said[source.line] = "" if is_json else item.code
    return said


def by_python(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


@pytest.mark.parametrize(
    ("files", "lines"), [(40, 50), pytest.param(10_000, 30, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_lines_of_json(files, lines):
    """Python's json is the oracle; of what it takes and we do not, the reason is one of the list."""
    dice = random.Random(20260301)
    for _ in range(files):
        given = [mutated(dice) for _ in range(lines)]
        said = ours(['{"memory": "first"}', *given])
        for number, line in enumerate(given, 2):
            if number not in said:
                assert not line.strip(" \t\r\n\x0b\x0c"), line
                continue
            accepted, code = by_python(line.lstrip("\ufeff") if number == 1 else line), said[number]
            assert (code == "") <= accepted, f"{line!r} is no JSON, and was taken"
            assert not accepted or code in {"", *STRICTER}, f"{line!r} is JSON, and was rejected: {code}"


JQ_LOOSER = re.compile(
    r"\ufeff|\x0c|NaN|nan|Infinity|infinity|\\ud[89a-f]|0[0-9]|\.[0-9]|[0-9]\.(?![0-9])|[-+]\.|\\u0000", re.IGNORECASE
)
"""What jq takes and JSON has not: such numbers, halves of characters, byte order marks in the middle."""


@pytest.mark.parametrize("lines", [1500, pytest.param(300_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_lines_of_json_as_jq_reads_them(lines):
    """Each line alone, so that jq says for each whether it is one value."""
    dice = random.Random(7)
    given = [line for line in (mutated(dice) for _ in range(lines)) if not JQ_LOOSER.search(line)]
    is_json = jq.compile("try (fromjson | true) catch false").input_values(given)
    said = ours(['{"memory": "first"}', *given])
    for number, (line, accepted) in enumerate(zip(given, is_json, strict=True), 2):
        if number in said and said[number] not in STRICTER:
            assert (said[number] == "") == accepted, (line, said[number])


CELLS = [
    "x",
    "",
    "two words",
    "comma, in it",
    'a "quote"',
    "line\nbreak",
    "é茶",
    " blanks ",
    "0",
    "a\tb",
    "'",
    "\\",
    "r\r\nn",
]


def table(dice: random.Random) -> tuple[str, str]:
    """A table and its delimiter."""
    text = io.StringIO(newline="")
    delimiter, quoting = dice.choice(",;\t|"), dice.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=dice.choice(("\n", "\r\n")))
    writer.writerow(["memory", "user", "more"])
    for _ in range(dice.randrange(30)):
        width = 3 if dice.random() < 0.9 else dice.randrange(1, 6)
        writer.writerow([dice.choice(CELLS) for _ in range(width)])
    return text.getvalue(), delimiter


@pytest.mark.parametrize("files", [60, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_tables(files):
    """Python's csv is the oracle for rows and for the lines they end at."""
    dice = random.Random(5)
    for _ in range(files):
        text, delimiter = table(dice)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        next(reader)
        wanted, line = [], 2
        for cells in reader:
            wanted.append((line, cells))
            line = reader.line_num + 1
        got = piped(text.encode(), format="csv", delimiter=delimiter)
        # A row in which nothing is written is none, in both.
        wanted = [
            (line, cells) for line, cells in wanted if any(cells) and (cells[0].strip() or "".join(cells).strip())
        ]
        assert [item.source.line for item in got] == [line for line, _ in wanted], text
        for item, (_, cells) in zip(got, wanted, strict=True):
            if isinstance(item, Record):
                assert (item.memory, len(cells)) == (cells[0], 3)
            else:
                assert len(cells) != 3 or not cells[0].strip() or item.code == "input.character", (item, cells)
