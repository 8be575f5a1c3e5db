"""Files of ours: for nobody else, never through a link, written whole or not at all; and whether one is still the same."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from powermem_cli.errors import StoreError


class Piece(NamedTuple):
    """What one read of a file gave: where it begins, how many bytes it has, their digest."""

    byte: int
    size: int
    digest: bytes


def digest_of(content: bytes) -> bytes:
    return blake2b(content, digest_size=8).digest()


def write_atomically(path: Path, content: bytes) -> None:
    """The old content or the new, never a part: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _new(temporary) as file:
        write_all(file, content)
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def _new(path: Path) -> FileIO:
    """A file of ours from its first byte on, whatever a run that was killed, or somebody else, has left there."""
    try:
        return open_private(path, "x")
    except FileExistsError:
        path.unlink()
        return open_private(path, "x")


def make_folder(path: Path) -> None:
    """With whatever is missing above it, for nobody else from its first moment on. Raises OSError."""
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        make_folder(path.parent)
        make_folder(path)
    except FileExistsError:
        if not path.is_dir():
            raise


def sync_folder(path: Path) -> None:
    """What was made, renamed or removed in it stays so."""
    with suppress(OSError):  # Windows has no way to sync a folder
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def open_private(path: Path, mode: str) -> FileIO:
    """Opened for nobody else, and never through a link that somebody put there; without a buffer that could fail late."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)

    return FileIO(path, mode, opener=opener)


def write_all(file: FileIO, content: bytes) -> None:
    """All of it: a file without a buffer may take less at a time. Where the disk is full, nothing of it. Raises OSError."""
    left = memoryview(content)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        if begun := len(content) - len(left):
            with suppress(OSError):  # what can't be cut, a pipe, was never a file with lines in it
                file.truncate(file.tell() - begun)
        raise


def unusable(path: Path, error: OSError) -> StoreError:
    """What to raise for a file of a job that can't be read or written."""
    code = (
        "store.full" if error.errno in {28, 122} else "store.permission" if error.errno in {1, 13, 30} else "store.io"
    )
    return StoreError(
        f"{path}: {error.strerror or error}",
        hint="the state of jobs is kept in $XDG_STATE_HOME/powermem, or where --checkpoint and --rejects say: name a "
        "place that can be written",
        code=code,
    )
