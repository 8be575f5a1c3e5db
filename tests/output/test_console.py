from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from powermem_cli.output.console import (
    ASCII,
    UNICODE,
    console_for,
    encodable,
    has_colour,
    is_terminal,
    marks_for,
    speaks_unicode,
    width_of,
)


@pytest.fixture
def terminal():
    """A real one, 33 columns wide."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 33, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        yield stream
    os.close(master)


def stream(encoding: str | None = "utf-8"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def test_what_is_a_terminal(terminal):
    assert is_terminal(terminal)
    assert not is_terminal(io.StringIO())
    closed = stream()
    closed.close()
    assert not is_terminal(closed)
    assert width_of(closed, {}) == 80


def test_the_width(terminal):
    assert width_of(terminal, {}) == 33
    assert width_of(terminal, {"COLUMNS": "120"}) == 120
    assert width_of(terminal, {"COLUMNS": "wide"}) == 33
    assert width_of(io.StringIO(), {}) == 80
    assert console_for(terminal, {}).width == 33


@pytest.mark.parametrize(
    ("environ", "on_terminal", "in_pipe"),
    [
        ({}, True, False),
        ({"TERM": "xterm-256color"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, False),
    ],
)
def test_colour(environ, on_terminal, in_pipe, terminal):
    from rich.text import Text

    for out, wanted in ((terminal, on_terminal), (stream(), in_pipe)):
        assert has_colour(out, environ) is wanted
        console = console_for(out, environ)
        with console.capture() as captured:
            console.print(Text("x", style="red"))
        assert ("\x1b[31m" in captured.get()) is wanted


def test_nothing_is_taken_for_markup():
    out = io.StringIO()
    console_for(out, {}).print("[bold]x[/nope] :smile: 123")
    assert out.getvalue() == "[bold]x[/nope] :smile: 123\n"


@pytest.mark.parametrize(
    ("encoding", "unicode"),
    [("utf-8", True), ("UTF8", True), ("utf-16-le", True), ("ascii", False), ("latin-1", False)],
)
def test_encodings(encoding, unicode):
    out = stream(encoding)
    assert speaks_unicode(out) is unicode
    assert marks_for(out) is (UNICODE if unicode else ASCII)
    out.write(encodable("é漢🍵", out))


def test_encodable_keeps_what_the_encoding_has():
    assert encodable("é漢", stream("latin-1")) == "é\\u6f22"
    assert encodable("é漢", stream()) == "é漢"


def test_a_stream_without_an_encoding_holds_everything():
    assert speaks_unicode(io.StringIO())


def test_rich_is_loaded_for_a_table_alone():
    code = (
        "import sys; import powermem_cli.output.table, powermem_cli.output.json, powermem_cli.output.progress as p;"
        "p.progress_for('auto', sys.stderr).start(1); print('rich' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("False\n", "")
