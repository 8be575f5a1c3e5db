"""The file of an SQLite store before SQLite sees it: found, made for nobody else, or refused; and errors as ours."""

from __future__ import annotations

import difflib
import errno
import os
import shutil
import stat
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import apsw

from powermem_cli.errors import (
    InvariantError,
    PowerMemError,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreMissing,
)
from powermem_cli.files import make_folder

Access = Literal["create", "write", "read"]
"""What is done with a store: anything, making it if it is missing; anything, if it is there; only look."""

BUSY_TIMEOUT: Final = 30.0  # seconds another process may hold the write lock
DAMAGED: Final = "nothing was changed; restore a backup or name another file with --db"
MOST_NEIGHBOURS: Final = 1000  # files of a folder that are compared with a name that is not there


def settle_file(path: Path, access: Access) -> None:
    """Make sure that there is a file SQLite may open. Raises StoreMissing, StoreError."""
    try:
        wal = _size(wal_of(path))  # before the file itself: another process may be making both
        size = _size(path)
        if wal and not size:
            # SQLite takes an empty file for a new database and removes the -wal: what is left would be gone.
            raise StoreCorrupt(
                f"{path} is {'empty' if path.exists() else 'gone'}, but the changes in {wal_of(path).name} are not",
                hint="nothing was changed; restore a backup of both files, or name another file with --db",
            )
        if access == "create":
            make_private(path)
        elif not size:
            raise _missing(path)
    except OSError as error:
        raise translated(error, path) from error


def wal_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def make_private(path: Path) -> None:
    """Make the file and its folder where they are missing, readable by nobody else from their first moment on.

    SQLite gives -wal and -shm the mode of the database. Raises StoreError.
    """
    try:
        make_folder(path.parent)
        if path.parent.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise StoreError(
                f"anybody can replace files in {path.parent}, so no memories are kept there",
                hint="chmod o-w that folder, or name another place with --db",
                code="store.permission",
            )
        # A file that is there is not even opened: closing it would end all locks this process holds on it.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise translated(error, path) from error


def _size(path: Path) -> int:
    """Bytes; 0 for none. Raises StoreError for what can't be a database, OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
        raise StoreError(f"{path} is {what}, not a database", hint="name a file with --db", code="store.permission")
    return found.st_size


def _missing(path: Path) -> StoreMissing:
    near: list[str] = []
    with suppress(OSError):
        names = (entry.name for entry in islice(os.scandir(path.parent), MOST_NEIGHBOURS) if entry.is_file())
        near = difflib.get_close_matches(path.name, [name for name in names if name != path.name], 1)
    makes = "powermem add makes a store that is not there yet"
    return StoreMissing(
        f"there is no store at {path}" + (": the file is empty" if path.exists() else ""),
        hint=f"did you mean {path.with_name(near[0])}? ({makes})" if near else makes,
    )


_CLOSED_TO_US: Final = (apsw.ReadOnlyError, apsw.PermissionsError, apsw.CantOpenError)
_CLOSED_ERRNOS: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOENT, errno.ELOOP}
_SIGNS_OF_DAMAGE: Final = ("malformed JSON", "Vector dimension", "unsupported file format")
_NO_ROOM: Final = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_TOO_MANY: Final = {errno.EMFILE, errno.ENFILE}


def translated(error: Exception, path: Path) -> PowerMemError:
    """SQLite's, the operating system's or Python's error as one of ours, with the file and what to do."""
    words = str(error) or ("disk I/O error" if isinstance(error, apsw.IOError) else type(error).__name__)
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreBusy(
            f"another process kept {path} locked for {BUSY_TIMEOUT:.0f} s",
            hint=f"nothing was lost: run the same command again; `fuser {path}` tells which process it is",
        )
    if isinstance(error, apsw.FullError) or number in _NO_ROOM:
        return StoreFull(
            f"no room left for {path} ({_free(path)} free)", hint="free some space and run the same command again"
        )
    if isinstance(error, (apsw.NotADBError, apsw.CorruptError)):
        what = "is not a database" if isinstance(error, apsw.NotADBError) else f"is damaged ({words})"
        return StoreCorrupt(f"{path} {what}", hint=DAMAGED)
    if isinstance(error, ValueError) or any(sign in words for sign in _SIGNS_OF_DAMAGE):
        return StoreCorrupt(f"{path} is damaged: it holds what nobody wrote ({words})", hint=DAMAGED)
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return StoreError(
            f"{path} can't be there: {_not_a_folder(path)} is not a folder",
            hint="name another file with --db",
            code="store.permission",
        )
    if number in _TOO_MANY or (isinstance(error, apsw.CantOpenError) and _no_file_left()):
        return StoreError(f"{path}: too many files are open", hint="allow more with: ulimit -n", code="store.io")
    if isinstance(error, _CLOSED_TO_US) or number in _CLOSED_ERRNOS:
        return StoreError(f"{path} can't be opened: {words}", hint=_why_closed(path), code="store.permission")
    if isinstance(error, (apsw.NoMemError, MemoryError)):
        return StoreError(f"{path}: no memory left", hint="allow more with: ulimit -v", code="store.io")
    if isinstance(error, (apsw.IOError, OSError, apsw.TooBigError)):
        hint = "allow larger files with: ulimit -f" if _files_are_limited() else "check the disk it is on"
        return StoreError(f"{path}: {words}", hint=hint, code="store.io")
    if isinstance(error, (apsw.InterruptError, apsw.AbortError)):
        return StoreError(f"{path}: the work was interrupted", code="store.interrupted")
    return InvariantError(f"{path}: SQLite says {words!r}")


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free:,} bytes"
    except OSError:
        return "unknown"


def _not_a_folder(path: Path) -> Path:
    return next((part for part in path.parents if part.exists() and not part.is_dir()), path.parent)


def _no_file_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in _TOO_MANY
    return False


def _files_are_limited() -> bool:
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return False
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _why_closed(path: Path) -> str:
    if not os.access(path.parent, os.F_OK):
        return f"the folder {path.parent} does not exist, could not be made, or may not be entered by you"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"the folder {path.parent} is not writable for you: chmod u+wx it, or name another file with --db"
    if os.access(path, os.F_OK) and not os.access(path, os.W_OK):
        return f"it is not writable for you: chmod u+w {path}, or name another file with --db"
    return "look at its owner and mode, or name another file with --db"
