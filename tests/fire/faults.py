"""A file system for SQLite that counts what is done to files, and that fails when it is told to."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

EIO = {"read": apsw.SQLITE_IOERR_READ, "write": apsw.SQLITE_IOERR_WRITE, "sync": apsw.SQLITE_IOERR_FSYNC}
ENOSPC = {"write": apsw.SQLITE_FULL, "sync": apsw.SQLITE_IOERR_FSYNC}

_names = itertools.count()


@dataclass
class Faults:
    """What was done so far, and what shall fail: the operation *at* (counted from 0), and with *for_ever* all later
    ones of its kind; *codes* says with what, and that no other kinds count.
    """

    codes: dict[str, int] = field(default_factory=dict)
    at: int = -1
    for_ever: bool = False
    done: list[tuple[str, str]] = field(default_factory=list)
    """Kind and file name of every operation, in order."""
    failed_at: int | None = None
    """The length of *done* when the first fault struck."""
    counted: int = 0

    def happens(self, kind: str, name: str) -> None:
        """Raises what SQLite is told of an operation that fails."""
        self.done.append((kind, name))
        if kind not in self.codes:
            return
        number, self.counted = self.counted, self.counted + 1
        if number == self.at or (self.for_ever and 0 <= self.at < number):
            if self.failed_at is None:
                self.failed_at = len(self.done)
            raise apsw.exception_for(self.codes[kind])

    def syncs(self, suffix: str) -> int:
        return sum(1 for kind, name in self.done if kind == "sync" and name.endswith(suffix))


_ever_made: list[apsw.VFS] = []


@contextlib.contextmanager
def injected(faults: Faults) -> Iterator[Faults]:
    """Every database that is opened inside is read and written through *faults*."""
    vfs = _System(faults)
    # Not freed: a connection that was being opened when the work failed goes on being opened through it, on its thread.
    _ever_made.append(vfs)
    try:
        yield faults
    finally:
        vfs.unregister()


class _System(apsw.VFS):
    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.real = apsw.vfs_names()[0]
        super().__init__(f"faults-{next(_names)}", self.real, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, system: _System, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._faults = system.faults
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "").name
        super().__init__(system.real, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._faults.happens("read", self._name)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._faults.happens("write", self._name)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._faults.happens("sync", self._name)
        super().xSync(flags)
