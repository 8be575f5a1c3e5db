"""A disk that remembers what is safe on it, and that the power can be taken from: for a process that ends with it.

Everything the program changes is counted, in order: each write, truncation, sync and removal that SQLite asks of its
file system, each write, truncation, fsync, rename and removal of the program's own files, each write to stdout. Before
operation number *at* the process dies by SIGKILL, with *power_cut* leaving behind what a disk would hold: what was
synced, and of all that was done since nothing, everything, some writes, or some sectors of them. A rename or removal
that no sync of its folder followed may have happened or not.
"""

from __future__ import annotations

import io
import os
import random
import signal
import stat
import sys
import threading
from pathlib import Path

import apsw

SECTOR = 512
LEFT = "left"
"""The folder of what is left after a power cut; in it, `said` holds the length of stdout at that moment."""


class Content:
    """The bytes of one file: those that are safe, and what was done to it since."""

    def __init__(self, safe: bytes = b"") -> None:
        self._safe = safe
        self._since: list[tuple[int, bytes | None]] = []  # offset and what was written there; None: cut to that size

    def write(self, data: bytes, offset: int) -> None:
        self._since.append((offset, bytes(data)))

    def truncate(self, size: int) -> None:
        self._since.append((size, None))

    def sync(self) -> None:
        self._safe = _applied(self._safe, self._since)
        self._since = []

    def after_power_cut(self, dice: random.Random) -> bytes:
        how = dice.choice(("nothing", "all", "some", "sectors"))
        since = [] if how == "nothing" else self._since
        if how == "sectors":
            since = [piece for step in since for piece in _sectors(*step)]
        if how in {"some", "sectors"}:
            since = [step for step in since if dice.random() < 0.5]
        return _applied(self._safe, since)


def _sectors(offset: int, data: bytes | None) -> list[tuple[int, bytes | None]]:
    if data is None:
        return [(offset, data)]
    return [(offset + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR)]


def _applied(content: bytes, steps: list[tuple[int, bytes | None]]) -> bytes:
    new = bytearray(content)
    for offset, data in steps:
        if data is None:
            del new[offset:]
        else:
            new.extend(bytes(max(0, offset - len(new))))
            new[offset : offset + len(data)] = data
    return bytes(new)


class Disk:
    """Make one in a process of its own, then `install` it: there is no way back."""

    def __init__(self, folder: Path, *, at: int | None = None, power_cut: random.Random | None = None) -> None:
        self.count = 0
        self._folder = folder
        self._at = at
        self._dice = power_cut
        self._lock = threading.RLock()
        self._names: dict[str, Content] = {}
        self._unsure: dict[str, Content | None] = {}  # what a name meant when its folder was last synced
        self._by_number: dict[int, Content] = {}

    def install(self) -> None:
        import powermem_cli.files

        self._system = _System(self)  # which registers it for as long as it lives
        _Own.disk = self
        powermem_cli.files.FileIO = _Own  # type: ignore[misc]
        self._fsync, os.fsync = os.fsync, self.fsync
        sys.addaudithook(self._audit)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Said(self)), encoding="utf-8")

    def happens(self) -> threading.RLock:
        """Count an operation, or die before it; what it does is to be noted while the lock is held."""
        self._lock.acquire()
        self.count += 1
        if self.count - 1 == self._at:
            if self._dice is not None:
                self._leave(self._dice)
            os.kill(os.getpid(), signal.SIGKILL)
        self._lock.release()
        return self._lock

    def content(self, path: str) -> Content:
        with self._lock:
            if path not in self._names:
                file = Path(path)
                if not file.exists():
                    self._unsure.setdefault(path, None)
                self._names[path] = Content(file.read_bytes() if file.exists() else b"")
            return self._names[path]

    def opened(self, number: int, content: Content) -> None:
        self._by_number[number] = content

    def fsync(self, number: int) -> None:
        with self.happens():
            found = os.fstat(number)
            if stat.S_ISDIR(found.st_mode):
                self.folder_synced(found)
            elif number in self._by_number:
                self._by_number[number].sync()
        self._fsync(number)

    def folder_synced(self, found: os.stat_result) -> None:
        for path in list(self._unsure):
            if os.path.samestat(Path(path).parent.stat(), found):
                del self._unsure[path]

    def removed(self, path: str) -> None:
        with self.happens():
            self._unsure.setdefault(path, self.content(path))
            del self._names[path]

    def _renamed(self, source: str, target: str) -> None:
        with self.happens():
            moved = self.content(source)
            was = self.content(target) if Path(target).exists() else None
            self._unsure.setdefault(source, moved)
            self._unsure.setdefault(target, was)
            del self._names[source]
            self._names[target] = moved

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename" and self._is_ours(arguments[0]):
            self._renamed(os.fspath(arguments[0]), os.fspath(arguments[1]))
        elif event == "os.remove" and self._is_ours(arguments[0]):
            self.removed(os.fspath(arguments[0]))

    def _is_ours(self, path: object) -> bool:
        return str(path).startswith(f"{self._folder}{os.sep}")

    def _leave(self, dice: random.Random) -> None:
        said = os.fstat(1).st_size
        left = self._folder / LEFT
        left.mkdir()
        (left / "said").write_text(str(said))
        for path in sorted({*self._names, *self._unsure}):
            content = self._names.get(path)
            if path in self._unsure and dice.random() < 0.5:
                content = self._unsure[path]
            target = left / "files" / Path(path).relative_to(self._folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                target.with_name(f"{target.name}.gone").touch()
            else:
                target.write_bytes(content.after_power_cut(dice))


class _System(apsw.VFS):
    """SQLite's file system, in place of the real one."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.real = apsw.vfs_names()[0]
        super().__init__("disk", self.real, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _Database(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.disk.removed(filename)
        super().xDelete(filename, syncdir)
        if syncdir:
            self.disk.folder_synced(Path(filename).parent.stat())


class _Database(apsw.VFSFile):
    def __init__(self, system: _System, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = system.disk
        self._path = path
        self._content = self._disk.content(path) if path else Content()
        super().__init__(system.real, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        with self._disk.happens():
            self._content.write(data, offset)
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        with self._disk.happens():
            self._content.truncate(size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._disk.happens():
            self._content.sync()
            if self._path and self._path.endswith(("-wal", "-journal")):  # SQLite syncs their folder with them
                self._disk.folder_synced(Path(self._path).parent.stat())
        super().xSync(flags)


class _Own(io.FileIO):
    """The program's own files: what is written without a buffer."""

    disk: Disk

    def __init__(self, path: Path, mode: str, **options: object) -> None:
        self._content = self.disk.content(str(path))
        super().__init__(path, mode, **options)  # type: ignore[arg-type]
        self.disk.opened(self.fileno(), self._content)
        if mode.startswith("w"):
            self._content.truncate(0)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        with self.disk.happens():
            at = os.fstat(self.fileno()).st_size if "a" in self.mode else self.tell()
            self._content.write(data, at)
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        with self.disk.happens():
            self._content.truncate(self.tell() if size is None else size)
        return super().truncate(size)


class _Said(io.FileIO):
    """stdout: each write of it is a promise."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(1, "w", closefd=False)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._disk.happens()
        return super().write(data)
