"""A lock that is a file: held until its process ends, also by kill -9, so that none is ever stale."""

from __future__ import annotations

import os
import re
import socket
import time
from io import FileIO
from pathlib import Path
from typing import Final

from powermem_cli.files import open_private, write_all

LONGEST: Final = 400  # bytes of what the holder says of itself


def acquire(path: Path, command: str = "") -> FileIO | None:
    """The file, locked until it is closed; None if another process has it. Raises OSError."""
    file = open_private(path, "a+")
    if not taken(file):
        file.close()
        return None
    file.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    said = f"process {os.getpid()} on {socket.gethostname()}, since {since}{f': {_shown(command)}' if command else ''}"
    write_all(file, said.encode("utf-8", "replace")[:LONGEST])
    return file


def holder(path: Path) -> str | None:
    """What the process that has the lock says of itself; None if nobody has it. Raises OSError."""
    try:
        file = open_private(path, "r+")
    except FileNotFoundError:
        return None
    with file:
        if taken(file):
            return None
        file.seek(0)
        return file.read(LONGEST).decode("utf-8", "replace").strip() or "a process that is not known"


def taken(file: FileIO) -> bool:
    """Whether the lock is ours now."""
    try:
        if os.name == "nt":
            import msvcrt  # noqa: PLC0415

            file.seek(LONGEST)  # there nobody can read what is locked
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _shown(command: str) -> str:
    """Without the password of a database's address."""
    return re.sub(r"://[^@/\s]*@", "://…@", command)
