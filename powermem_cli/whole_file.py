"""A file that has its name only when all is in it and on the disk: until then it is FILE.partial."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO

from powermem_cli.errors import StoreBusy
from powermem_cli.files import open_private, sync_folder
from powermem_cli.lock import taken


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A stream into *path*, which is there, instead of what was, when the block has ended well. Raises OSError."""
    with claimed(path) as partial, open_private(partial, "w") as raw:
        with os.fdopen(os.dup(raw.fileno()), "wb") as stream:
            yield stream
        place(partial, path)


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """*path*.partial, made empty and for us alone; whatever of it is left in the end is removed.

    What a run that was killed has left is written over. Raises StoreBusy if another one is writing it, OSError.
    """
    partial = partial_of(path)
    with _locked(partial) as file:
        try:
            yield partial
        finally:
            if _is_at(file, partial):  # not where it has got its name: what has this one now is another's
                partial.unlink()


def partial_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def place(partial: Path, path: Path) -> None:
    """Give what is whole its name, for good. Raises OSError."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def _locked(partial: Path) -> FileIO:
    file = open_private(partial, "a")
    if not taken(file) or not _is_at(file, partial):  # the other one may have ended since
        file.close()
        raise StoreBusy(f"{partial} is being written by another run", hint="wait for it, or name another file")
    file.truncate(0)
    return file


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
