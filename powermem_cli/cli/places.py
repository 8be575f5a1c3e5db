"""Whether the files that a command line names for a job are such that no file of somebody else is written over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from powermem_cli.errors import UsageError
from powermem_cli.readers.rejects import is_reject_line
from powermem_cli.readers.strict_json import BadJson, parse

LONGEST_LINE: Final = 64 * 1024 * 1024  # bytes of a line of rejects that are looked at: a record in JSON, escaped twice


def check_places(inputs: Sequence[str], checkpoint: Path | None, rejects: Path | None) -> None:
    """Raises UsageError, before anything was started."""
    for option, path in (("--checkpoint", checkpoint), ("--rejects", rejects)):
        if path is not None:
            _check_place(option, path)
    if checkpoint is not None and os.path.realpath(checkpoint) in map(os.path.realpath, inputs):
        raise UsageError(f"{checkpoint} is read, so it can't be the checkpoint", hint="name another --checkpoint")
    if rejects is not None and rejects.is_file() and not _holds_rejects(rejects):
        raise UsageError(
            f"{rejects} holds something else than rejects, and would be written over",
            hint="nothing was changed; name another file with --rejects",
        )


def _check_place(option: str, path: Path) -> None:
    try:
        wrong = "is a folder" if path.is_dir() else "" if path.parent.is_dir() else f"{path.parent} is no folder"
        wrong = "is a link, and never written through" if path.is_symlink() else wrong
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, before Python 3.13
        wrong = str(getattr(error, "strerror", None) or error)
    if wrong:
        raise UsageError(f"{option} {path}: {wrong}", hint="name a file in a folder that is there")


def _holds_rejects(path: Path) -> bool:
    """By its first line; an empty file may become one."""
    try:
        with path.open("rb") as file:
            line = file.readline(LONGEST_LINE)
        value = parse(line.decode()) if line else None
    except (OSError, UnicodeDecodeError, BadJson):
        return False
    return not line or (isinstance(value, dict) and is_reject_line(value))
