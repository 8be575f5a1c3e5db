"""One SQLite connection on a thread of its own: aiosqlite's queue around apsw, and SQLite's errors as ours.

apsw brings a current SQLite with it on every platform; the one of the operating system may be unable to load
sqlite-vec, or have the bug that corrupts a WAL database two processes write to (3.7.0 to 3.51.2).
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import stat
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

import aiosqlite
import apsw

from powermem_cli.errors import (
    ConfigError,
    InvariantError,
    PowerMemError,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
)

T = TypeVar("T")

BUSY_TIMEOUT: Final = 30.0  # seconds another process may hold the write lock
CACHE_KIB: Final = 16 * 1024
MAPPED: Final = 1 << 30  # bytes of the database a reader may map
CHECKPOINT_PAGES: Final = 6000  # 48 MB of WAL, then it is moved into the database
LARGEST_WAL: Final = 64 * 1024 * 1024  # bytes the WAL file is cut back to when it is reset


class Connection(aiosqlite.Connection):
    """A connection that is asked for whole pieces of work, and that may be forgotten without being closed."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._holder: list[apsw.Connection] = []
        self.path = path
        super().__init__(partial(_open, path, self._holder, readonly=readonly), iter_chunk_size=64)
        # Nobody has to call close(): a thread that is no daemon would keep the interpreter from ending.
        self._thread.daemon = True
        self._finalizer = weakref.finalize(self, _shut_down, self._tx, self._holder, self._thread)

    @classmethod
    async def opened(cls, path: Path, *, readonly: bool = False) -> Connection:
        """Raises StoreError."""
        connection = cls(path, readonly=readonly)
        # Not by awaiting it: when that fails, aiosqlite's thread reports to a loop that may have ended by then.
        connection._thread.start()
        try:
            connection._connection = await connection._on_thread(connection._connector)
        except BaseException:
            connection._finalizer.detach()
            connection._tx.put_nowait((None, partial(_close, connection._holder)))
            raise
        return connection

    async def run(self, work: Callable[[apsw.Connection], T]) -> T:
        """Call *work* with the connection on its thread: one hop for everything it does. Raises StoreError.

        If the caller is cancelled the work goes on to its end: half of it is never kept, all of it may be.
        """
        if not self._holder:
            raise StoreError(f"the database {self.path} is not open", code="store.closed")
        return await self._on_thread(partial(work, self._holder[0]))

    async def _on_thread(self, work: Callable[[], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((None, _Job(work, future, self.path)))
        return await future

    async def close(self) -> None:
        if self._finalizer.alive:
            self._finalizer.detach()
            try:
                # Not by joining the thread, which takes another one: at the interpreter's end there is none to be had.
                await self._on_thread(partial(_close, self._holder))
            finally:
                self._tx.put_nowait((None, partial(_close, self._holder)))  # ends the thread
        self._connection = None

    def __del__(self) -> None:
        """Nothing: the finalizer closes, without the warning aiosqlite prints."""


class _Job(Generic[T]):
    """One piece of work for the thread. The thread holds its last job until the next one comes, perhaps for ever: so
    a job lets go of what it worked with, or nobody could forget a connection.
    """

    def __init__(self, work: Callable[[], T], future: asyncio.Future[T], path: Path) -> None:
        self._work = work
        self._future = future
        self._path = path

    def __call__(self) -> None:
        work, future = self._work, self._future
        del self._work, self._future
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except (apsw.Error, OSError) as error:
            failure = translated(error, self._path)
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - it goes to the caller, not into the thread
            failure = error
        try:
            future.get_loop().call_soon_threadsafe(_settle, future, result, failure)
        except RuntimeError:
            return  # the loop ended meanwhile: there is nobody left to tell


def _settle(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)


def _open(path: Path, holder: list[apsw.Connection], *, readonly: bool) -> Any:
    holder.append(_connect(path, readonly=readonly))
    return holder[0]


def _close(holder: list[apsw.Connection]) -> object:
    if holder:
        holder.pop().close()
    return aiosqlite.core._STOP_RUNNING_SENTINEL  # noqa: SLF001 - how aiosqlite ends its thread


def _shut_down(queue: SimpleQueue[Any], holder: list[apsw.Connection], thread: threading.Thread) -> None:
    queue.put_nowait((None, partial(_close, holder)))
    if thread.is_alive() and thread is not threading.current_thread():
        thread.join(2.0)


def _connect(path: Path, *, readonly: bool) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
    connection = apsw.Connection(str(path), flags=flags | apsw.SQLITE_OPEN_NOMUTEX)
    try:
        _configure(connection, readonly=readonly)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: apsw.Connection, *, readonly: bool) -> None:
    connection.set_busy_timeout(int(BUSY_TIMEOUT * 1000))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    connection.enable_load_extension(True)
    connection.load_extension(_sqlite_vec())
    connection.enable_load_extension(False)
    connection.create_scalar_function("lower_case", _lower, 1, deterministic=True)
    for pragma in ("trusted_schema = OFF", "temp_store = MEMORY", f"cache_size = -{CACHE_KIB}"):
        connection.execute(f"PRAGMA {pragma}")
    if readonly:
        connection.execute(f"PRAGMA mmap_size = {MAPPED}")  # a search walks over more than a cache should hold
    else:
        # Not where pages are mapped: there it looks through a page each time it is touched, twice the cost of a search.
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA page_size = 8192")
        _into_wal_mode(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LARGEST_WAL}")


def _sqlite_vec() -> str:
    """The extension's file. Found without importing the package, which loads numpy for what is not needed here."""
    spec = importlib.util.find_spec("sqlite_vec")
    if spec is None or spec.origin is None:
        raise ConfigError("the Python package sqlite-vec is not installed", hint="pip install sqlite-vec")
    return str(Path(spec.origin).parent / "vec0")


def _lower(*texts: Any) -> Any:
    return texts[0].lower() if isinstance(texts[0], str) else None


def _into_wal_mode(connection: apsw.Connection) -> None:
    """Two processes that make one database at once: SQLite answers "busy" here without waiting."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:  # noqa: PERF203
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def make_private(path: Path) -> None:
    """Make sure the file and its folder are there, readable by nobody else from their first moment on.

    SQLite gives -wal and -shm the mode of the database. Raises StoreError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise StoreError(
                f"anybody can replace files in {path.parent}, so no memories are kept there",
                hint="chmod o-w that folder, or name another place with --db",
                code="store.permission",
            )
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise translated(error, path) from error


_CLOSED_TO_US: Final = (
    *(apsw.ReadOnlyError, apsw.PermissionsError, apsw.CantOpenError),
    *(PermissionError, IsADirectoryError, NotADirectoryError, FileNotFoundError),
)


def translated(error: Exception, path: Path) -> PowerMemError:
    """SQLite's or the operating system's error as one of ours, with the file and what to do."""
    words = str(error) or type(error).__name__
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreBusy(
            f"another process kept {path} locked for {BUSY_TIMEOUT:.0f} s", hint="try again when it has finished"
        )
    if isinstance(error, apsw.FullError) or getattr(error, "errno", None) in {28, 122}:  # ENOSPC, EDQUOT
        return StoreFull(
            f"no room left for {path} ({_free(path)} free)", hint="free some space and run the same command again"
        )
    if isinstance(error, (apsw.NotADBError, apsw.CorruptError)):
        what = "is not a database" if isinstance(error, apsw.NotADBError) else f"is damaged ({words})"
        return StoreCorrupt(
            f"{path} {what}", hint="nothing was changed; restore a backup or name another file with --db"
        )
    if isinstance(error, _CLOSED_TO_US):
        return StoreError(
            f"{path} can't be opened for writing: {words}", hint=_why_closed(path), code="store.permission"
        )
    if isinstance(error, (apsw.IOError, OSError, apsw.NoMemError, apsw.TooBigError)):
        return StoreError(f"{path}: {words}", hint="check the disk it is on", code="store.io")
    if isinstance(error, (apsw.InterruptError, apsw.AbortError)):
        return StoreError(f"{path}: the work was interrupted", code="store.interrupted")
    return InvariantError(f"{path}: SQLite says {words!r}")


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free:,} bytes"
    except OSError:
        return "unknown"


def _why_closed(path: Path) -> str:
    if path.is_dir():
        return "it is a folder; name a file"
    if not path.parent.exists():
        return f"the folder {path.parent} does not exist and could not be made"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"the folder {path.parent} is not writable for you"
    return "look at its owner and mode, or name another file with --db"
