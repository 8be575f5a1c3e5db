"""A file to Records, one at a time, in constant memory: the one entrance for every format."""

from __future__ import annotations

import difflib
import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from powermem_cli.errors import UsageError
from powermem_cli.readers.base import FORMATS, Position, Reading
from powermem_cli.readers.input import Input
from powermem_cli.readers.rejects import as_reject_line, as_row
from powermem_cli.readers.source import open_file, open_stdin

__all__ = ["FORMATS", "Input", "Position", "Reading", "as_reject_line", "as_row", "expand", "open_input"]


def expand(patterns: Sequence[str]) -> list[str]:
    """The files that are meant, each once; those of one pattern sorted by byte. Raises UsageError for none."""
    return list(dict.fromkeys(path for pattern in patterns for path in _matches(pattern)))


def _matches(pattern: str) -> list[str]:
    if pattern == "-" or os.path.lexists(pattern):  # a name may have brackets in it
        return [pattern]
    if not glob.has_magic(pattern):
        raise UsageError(f"there is no file {pattern}", hint=_near(Path(pattern)), code="input.unreadable")
    # A quoted ~ has not been expanded by the shell. (Path.glob takes no absolute patterns.)
    found = glob.glob(str(Path(pattern).expanduser()), recursive=True)  # noqa: PTH207
    if not (files := [path for path in found if not Path(path).is_dir()]):
        raise UsageError(f"no file matches {pattern}", code="input.unreadable")
    return sorted(files, key=os.fsencode)


def _near(path: Path) -> str:
    """Which file may have been meant, or where it was looked for."""
    try:
        names = os.listdir(path.parent)  # noqa: PTH208
    except OSError:
        return f"{path.parent} can't be looked into"
    near = difflib.get_close_matches(path.name, names, 1, cutoff=0.75)
    return f"did you mean {path.with_name(near[0])}?" if near else f"it was looked for in {path.parent.absolute()}"


def open_input(path: str, reading: Reading, *, start: Position | None = None, stdin: BinaryIO | None = None) -> Input:
    """Open a file, or stdin for "-". Raises UsageError for what can't be read, or not as *reading* says.

    *start* is where an item of an earlier run ended; where the input is not `resumable`, reading begins at 0.
    """
    if path == "-":
        file = open_stdin(stdin or sys.stdin.buffer)
        return Input(file, "-", reading, piped=True)
    file = open_file(path)
    try:
        return Input(file, path, reading, start=start)
    except BaseException:
        file.close()
        raise
