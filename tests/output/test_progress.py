from __future__ import annotations

import io

import pytest
from rich.cells import cell_len

from powermem_cli.output.progress import Bar, Log, Silent, progress_for


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """Says that it is one; what is on its last line can be asked."""

    def isatty(self) -> bool:
        return True

    def line(self) -> str:
        return self.getvalue().split("\n")[-1].split("\r\x1b[K")[-1]


@pytest.fixture
def clock():
    return Clock()


def bar(clock, width=80, **environ):
    stream = Terminal()
    return Bar(stream, {"COLUMNS": str(width), "NO_COLOR": "1", **environ}, clock), stream


@pytest.mark.parametrize(
    ("mode", "stream", "environ", "kind"),
    [
        ("auto", Terminal(), {}, Bar),
        ("auto", Terminal(), {"TERM": "dumb"}, Silent),
        ("auto", io.StringIO(), {}, Silent),
        ("bar", io.StringIO(), {}, Bar),
        ("log", Terminal(), {}, Log),
        ("none", Terminal(), {}, Silent),
    ],
)
def test_modes(mode, stream, environ, kind):
    assert type(progress_for(mode, stream, environ)) is kind


def test_nothing_is_written_where_nobody_watches():
    stream = io.StringIO()
    progress = progress_for("auto", stream, {})
    progress.start(100, "a")
    progress.update(50, {"added": 1})
    progress.finish()
    assert stream.getvalue() == ""


class TestBar:
    def test_a_run(self, clock):
        progress, stream = bar(clock, 100)
        progress.start(10_000, "chats.jsonl")
        assert stream.line() == "chats.jsonl  ──────────────────────────────    0%  0 records"
        for second in range(1, 7):
            clock.now += 1
            progress.update(second * 1000, {"added": second * 1000, "rejected": 1, "retried": 3, "not_started": 9})
        assert stream.line() == (
            "chats.jsonl  ━━━━━━━━━━╸───────   60%  6,001 records  1,000/s  0:00:04 left  3 retried · 1 rejected"
        )
        progress.update(10_000, {"added": 10_000})
        progress.finish()
        assert stream.getvalue().endswith("\n")
        assert " 100%  10,000 records" in stream.getvalue().split("\r\x1b[K")[-1]

    def test_it_is_not_drawn_more_often_than_it_can_be_seen(self, clock):
        progress, stream = bar(clock)
        progress.start(100)
        drawn = stream.getvalue().count("\r")
        for _ in range(1000):
            clock.now += 0.001
            progress.update(1, {"added": 1})
        assert 9 <= stream.getvalue().count("\r") - drawn <= 10

    @pytest.mark.parametrize("width", [1, 2, 5, 10, 20, 21, 30, 40, 60, 80, 100, 120, 300])
    def test_it_never_wraps(self, clock, width):
        progress, stream = bar(clock, width)
        progress.start(10_000, "短い日本語のメモです" * 9)
        for second in range(1, 30):
            clock.now += 1
            progress.update(second, {"added": 10**second, "failed": 10**second, "retried": second})
            assert cell_len(stream.line()) < max(width, 2)

    def test_the_window_may_change_its_size(self, clock):
        environ = {"COLUMNS": "80", "NO_COLOR": "1"}
        stream = Terminal()
        progress = Bar(stream, environ, clock)
        progress.start(100, "a")
        environ["COLUMNS"] = "20"
        clock.now += 1
        progress.update(50, {"added": 1})
        assert len(stream.line()) < 20

    def test_without_a_known_size_there_is_no_bar(self, clock):
        progress, stream = bar(clock)
        progress.start(None, "stdin")
        clock.now += 2
        progress.update(5000, {"added": 7})
        assert stream.line() == "stdin  7 records  3.5/s"

    @pytest.mark.parametrize(("total", "read"), [(0, 0), (10, 11)])
    def test_an_empty_or_grown_input_has_no_share(self, clock, total, read):
        progress, stream = bar(clock)
        progress.start(total, "a")
        clock.now += 1
        progress.update(read, {"added": 1})
        assert stream.line() == "a  1 record  1.0/s"

    def test_what_was_done_before_says_nothing_about_the_speed(self, clock):
        progress, stream = bar(clock)
        progress.start(10_000, "a", done_bytes=9_000)
        assert " 90%" in stream.line()
        clock.now += 1
        progress.update(9_100, {"added": 1})
        assert "0:00:09 left" in stream.line()

    def test_the_speed_is_that_of_the_last_seconds(self, clock):
        progress, stream = bar(clock)
        progress.start(1_000_000, "a")
        records = 0
        for per_second in (1000,) * 30 + (20,) * 12:
            clock.now += 1
            records += per_second
            progress.update(records, {"added": records})
        assert " 20/s " in stream.line()

    def test_hours(self, clock):
        progress, stream = bar(clock)
        progress.start(100_000, "a")
        clock.now += 1
        progress.update(1, {})
        assert " 27:46:39 left" in stream.line()

    def test_a_message_stands_above_it(self, clock):
        progress, stream = bar(clock)
        progress.message("first")
        progress.start(100, "a")
        progress.message("openai asks to wait\n\x1b")
        assert stream.getvalue().startswith("first\n\r\x1b[K")
        assert "\r\x1b[Kopenai asks to wait\n\\x1b\n" in stream.getvalue()
        assert stream.line().startswith("a  ")

    def test_it_ends_once_and_only_if_it_began(self, clock):
        progress, stream = bar(clock)
        progress.finish()
        assert stream.getvalue() == ""
        progress.start(1, "a")
        progress.update(1, {"added": 1})
        progress.finish()
        progress.finish()
        assert stream.getvalue().count("\n") == 1

    def test_where_nothing_was_read_it_leaves_no_trace(self, clock):
        progress, stream = bar(clock)
        progress.start(1, "a")
        progress.finish()
        assert stream.getvalue().endswith("\r\x1b[K")
        assert "\n" not in stream.getvalue()

    def test_colour_and_characters_follow_the_stream(self, clock):
        stream = Terminal()
        progress = Bar(stream, {"COLUMNS": "60"}, clock)
        progress.start(100, "a")
        clock.now += 1
        progress.update(50, {"added": 1, "failed": 2})
        assert "\x1b[32m━━━" in stream.getvalue()
        assert "\x1b[1m2 failed\x1b[0m" in stream.getvalue()
        ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        progress = Bar(ascii_only, {"COLUMNS": "60"}, clock)
        progress.start(100, "漢" * 9)
        clock.now += 1
        progress.update(55, {"added": 1, "failed": 2, "retried": 1})
        assert ascii_only.buffer.getvalue().split(b"\r\x1b[K")[-1].startswith(b"=====")  # type: ignore[attr-defined]


class TestLog:
    def test_a_line_every_few_seconds(self, clock):
        stream = io.StringIO()
        progress = progress_for("log", stream, {}, clock)
        progress.start(10_000, "chats.jsonl")
        for second in range(1, 12):
            clock.now += 1
            progress.update(second * 500, {"added": second * 1000, "failed": 2})
        progress.message("said")
        progress.finish()
        assert stream.getvalue().splitlines() == [
            "chats.jsonl, 25%, 5,002 records, 1,000/s, 0:00:15 left, 2 failed",
            "chats.jsonl, 50%, 10,002 records, 1,000/s, 0:00:10 left, 2 failed",
            "said",
        ]


@pytest.mark.parametrize("mode", ["bar", "log", "none"])
def test_the_work_goes_on_when_nobody_can_see_it(mode, clock):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        progress = progress_for(mode, stream, {"COLUMNS": "80"}, clock)
        progress.start(100, "a")
        clock.now += 10
        progress.update(50, {"added": 1})
        progress.message("x")
        progress.finish()
