from __future__ import annotations

import io
import random
import re
from itertools import count

import pytest
from rich.cells import cell_len

from powermem_cli.output.progress import progress_for
from powermem_cli.output.table import write_details, write_plain, write_table

TEA = {
    "id": 1,
    "memory": "Likes green tea in the morning",
    "user_id": "u1",
    "agent_id": None,
    "run_id": None,
    "metadata": {"topic": "food"},
    "created_at": "2026-03-01T09:30:00Z",
    "updated_at": "2026-03-02T09:30:00Z",
    "score": 0.8126,
}
LONG = {**TEA, "id": 7180000000000000123, "memory": "短い日本語のメモです。" * 90, "score": 0.5}


def table(rows, width=80, encoding="utf-8", **environ) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    write_table(rows, stream, {"COLUMNS": str(width), **environ})
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def plain(rows) -> str:
    stream = io.StringIO()
    write_plain(rows, stream)
    return stream.getvalue()


def details(row, width=80) -> str:
    stream = io.StringIO()
    write_details(row, stream, {"COLUMNS": str(width)})
    return stream.getvalue()


class TestPlain:
    def test_columns_for_cut(self):
        listed = {**TEA, "memory": "a\tb\nc"}
        del listed["score"]
        assert plain([TEA, listed]) == (
            "1\t2026-03-01T09:30:00Z\t0.813\tLikes green tea in the morning\n1\t2026-03-01T09:30:00Z\t\ta\\tb\\nc\n"
        )

    def test_nothing(self):
        assert plain([]) == ""

    def test_an_encoding_without_the_characters(self):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
        write_plain([{**TEA, "memory": "é漢"}], stream)
        assert stream.buffer.getvalue().endswith(b"\t\xe9\\u6f22\n")  # type: ignore[attr-defined]


class TestTable:
    def test_at_80_columns(self):
        assert [re.split(" {2,}", line) for line in table([TEA]).splitlines()] == [
            ["score", "memory", "when (UTC)", "id"],
            ["0.813", "Likes green tea in the morning", "2026-03-01", "1"],
        ]

    def test_without_scores(self):
        assert table([{**TEA, "score": None}]).startswith("memory ")

    def test_the_time_of_day_where_there_is_room(self):
        assert "2026-03-01 09:30  " in table([TEA], 100)

    def test_narrow(self):
        assert table([TEA], 24) == "0.813  2026-03-01  1\nLikes green tea in the \nmorning\n\n"

    @pytest.mark.parametrize("width", [20, 21, 40, 59, 60, 61, 80, 99, 100, 139, 140, 141, 300])
    def test_no_line_is_wider_than_the_terminal(self, width):
        lines = table([TEA, LONG, {**TEA, "memory": "x" * 5000}], width).splitlines()
        assert all(cell_len(line) <= width for line in lines)
        assert "7180000000000000123" in "\n".join(lines)

    def test_a_long_text_is_cropped(self):
        shown = table([{**TEA, "memory": "x" * 5000 + "END"}])
        assert shown.count("x") == 600
        assert "END" not in shown
        assert "x…" in shown
        shown = table([{**TEA, "memory": "\n".join("abcdefgh")}])
        assert "f…" in shown
        assert "g" not in shown.split("f…")[1]

    def test_nothing(self):
        assert table([]) == ""

    def test_a_list_without_end_begins_at_once(self):
        shown = []

        class Stream(io.StringIO):
            def flush(self):
                shown.append(self.getvalue())
                if len(shown) > 2:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_table(({**TEA, "id": number} for number in count(1000)), Stream(), {})
        assert [text.count("green tea") for text in shown] == [100, 200, 300]
        assert shown[-1].count("score") == 1

    def test_a_reader_that_is_gone_is_the_callers_matter(self):
        class Gone(io.StringIO):
            def write(self, _text):
                raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            write_table([TEA], Gone(), {})

    def test_an_encoding_without_the_characters(self):
        shown = table([LONG], encoding="ascii")
        assert r"\u77ed" in shown
        assert "..." in shown

    def test_colour_only_when_wanted(self):
        assert "\x1b" not in table([TEA])
        assert "\x1b[2m2026-03-01" in table([TEA], FORCE_COLOR="1")


class TestDetails:
    def test_every_field_that_is_set_and_the_whole_text(self):
        row = {**TEA, "memory": "x" * 5000 + "\nEND"}
        assert details(row, 40) == (
            "id          1\nuser_id     u1\n"
            'metadata    {"topic": "food"}\n'
            "created_at  2026-03-01T09:30:00Z\nupdated_at  2026-03-02T09:30:00Z\nscore       0.8126\n"
            f"\n{'x' * 5000}\nEND\n"
        )


NASTY = [
    "\x1b[31m", "\x1b]0;title\x07", "\x9b1m", "\x00", "\x08", "\r", "\n", "\t", "\x7f", "\x85", "\u2028", "\u202e", "\u2066",
    "\ufeff", "\U000e0041", "\ud800", "[/nope]", "[bold]", "[link=x]", ":smile:", "\\", "漢", "👩\u200d👧", "\u200f", "a" * 30,
    "word ", "\u0301", "{", "%s", "\x1b]8;;http://x\x1b\\", "\x1bP", "\x18",
]  # fmt: skip
OURS = re.compile(r"\r\x1b\[K|\x1b\[[0-9;]*m")


def nasty_rows(number: int):
    draw = random.Random(20260301)
    for i in range(number):
        text = "".join(draw.choices(NASTY, k=draw.randint(1, 12)))
        yield {**TEA, "id": i, "memory": text, "user_id": text, "metadata": {text: text}, "created_at": text}


def assert_harmless(shown: str) -> None:
    left = OURS.sub("", shown)
    assert "\x1b" not in left
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", left)
    shown.encode()


class TestStrangers:
    """Text that tries to command the terminal, through every output for people."""

    def test_plain(self):
        shown = plain(nasty_rows(10_000))
        assert_harmless(shown)
        assert shown.count("\n") == 10_000
        assert shown.count("\t") == 30_000

    @pytest.mark.parametrize("width", [20, 80, 300])
    def test_tables(self, width):
        assert_harmless(table(nasty_rows(2_000), width))
        assert_harmless(table(nasty_rows(500), width, FORCE_COLOR="1"))

    def test_details(self):
        for row in nasty_rows(1_000):
            assert_harmless(details(row))

    @pytest.mark.parametrize("mode", ["bar", "log", "none"])
    def test_progress(self, mode):
        stream, seconds = io.StringIO(), count(0, 6)
        progress = progress_for(mode, stream, {"COLUMNS": "80"}, lambda: next(seconds))
        for row in nasty_rows(3_000):
            progress.start(100, row["memory"])
            progress.update(50, {"added": 5})
            progress.message(row["memory"])
        progress.finish()
        assert_harmless(stream.getvalue())

    def test_markup_is_printed_as_it_is(self):
        row = {**TEA, "memory": "[/nope] [bold]x[/bold] :smile:"}
        for shown in (plain([row]), table([row]), details(row)):
            assert "[/nope] [bold]x[/bold] :smile:" in shown
