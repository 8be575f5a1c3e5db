"""What a stream can show: terminal or not, colour or not, which characters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Marks:
    """The few characters of our own that are not ASCII, or what stands for them."""

    done: str
    failed: str
    dot: str
    ellipsis: str
    bar: str
    bar_end: str
    bar_rest: str


UNICODE: Final = Marks("✓", "✗", "·", "…", "━", "╸", "─")
ASCII: Final = Marks("+", "x", "|", "...", "=", ">", "-")


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed: `2>&-` gives a program no stderr
        return False


def speaks_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def encodable(text: str, stream: TextIO) -> str:
    """*text* with the characters that the stream's encoding lacks as escapes."""
    if speaks_unicode(stream):
        return text
    return text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)


def spelled(text: str, stream: TextIO) -> str:
    """Talk of our own, with the marks that the stream can show."""
    if speaks_unicode(stream):
        return text
    for name in Marks.__slots__:
        text = text.replace(getattr(UNICODE, name), getattr(ASCII, name))
    return text


def marks_for(stream: TextIO) -> Marks:
    return UNICODE if speaks_unicode(stream) else ASCII


def width_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> int:
    """Columns; asked each time, since a window may change its size."""
    if environ.get("COLUMNS", "").isdecimal():
        return max(int(environ["COLUMNS"]), 1)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # no terminal, no file descriptor, closed
        return 80


def has_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return bool(environ.get("FORCE_COLOR")) or is_terminal(stream)


def console_for(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Console:
    """A rich console that takes nothing in what it prints for markup."""
    from rich.console import Console  # noqa: PLC0415  50 ms that only a table costs

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704  rich would end the program; what a reader's leaving means is the caller's matter

    return Terminal(
        file=stream,
        width=width_of(stream, environ),
        height=25,  # given, so that rich does not ask the environment about either
        force_terminal=is_terminal(stream),
        force_jupyter=False,
        legacy_windows=False,
        color_system="standard" if has_colour(stream, environ) else None,
        markup=False,
        emoji=False,
        highlight=False,
    )
