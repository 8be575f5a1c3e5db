"""Talk for a terminal: lines broken between words, not within them."""

from __future__ import annotations

import re
import textwrap
from typing import Final

_A_COMMAND: Final = re.compile(r"\b(?:powermem|pip) \S")
_INDENT: Final = re.compile(r" *(?:\w+ {2,}|\d+\. )?")
_HANGING: Final = 2


def wrapped(text: str, width: int) -> str:
    """*text* with no line wider than *width* columns, what is broken off standing under the beginning of what it says.

    A line with a command in it stays whole, and so do paths: they are copied, and the terminal's own break is not.
    """
    return "\n".join(_wrapped_line(line, width) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    if len(line) <= width or _A_COMMAND.search(line):
        return line
    found = _INDENT.match(line)
    indent = " " * ((found.end() if found else 0) or _HANGING)
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
