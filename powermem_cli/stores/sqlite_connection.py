"""One SQLite connection on a thread of its own: aiosqlite's queue around apsw, and SQLite's errors as ours.

apsw brings a current SQLite with it on every platform; the one of the operating system may be unable to load
sqlite-vec, or have the bug that corrupts a WAL database two processes write to (3.7.0 to 3.51.2).
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from json import JSONDecodeError
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import aiosqlite
import apsw

from powermem_cli.errors import ConfigError, StoreBusy, StoreError
from powermem_cli.stores import sqlite_file
from powermem_cli.stores.sqlite_file import translated, wal_of
from powermem_cli.stores.sqlite_schema import is_damaged, refuse_foreign

T = TypeVar("T")

CACHE_KIB: Final = 16 * 1024
MAPPED: Final = 1 << 33  # bytes of the database a reader may map
CHECKPOINT_PAGES: Final = 6000  # 48 MB of WAL, then it is moved into the database
LARGEST_WAL: Final = 64 * 1024 * 1024  # bytes the WAL file is cut back to when it is reset


class Connection(aiosqlite.Connection):
    """A connection that is asked for whole pieces of work, and that may be forgotten without being closed."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._holder: list[apsw.Connection] = []
        self._failed: list[str] = []  # the I/O error after which nothing more is done here
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

    @property
    def is_open(self) -> bool:
        return bool(self._holder)

    async def run(self, work: Callable[[apsw.Connection], T]) -> T:
        """Call *work* with the connection on its thread: one hop for everything it does. Raises StoreError.

        If the caller is cancelled the work goes on to its end: half of it is never kept, all of it may be.
        """
        return await self._on_thread(partial(_guarded, work, self._holder, self._failed, self.path))

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
        # The last two: texts and JSON that can't be read, because they are not what was written.
        except (apsw.Error, OSError, MemoryError, UnicodeDecodeError, JSONDecodeError) as error:
            failure = translated(error, self._path)
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - it goes to the caller, not into the thread
            failure = error
        try:
            future.get_loop().call_soon_threadsafe(_settle, future, result, failure)
        except RuntimeError:
            return  # the loop ended meanwhile: there is nobody left to tell


def _guarded(work: Callable[[apsw.Connection], T], holder: list[apsw.Connection], failed: list[str], path: Path) -> T:
    """Call *work*; after an I/O error nothing more is done with the connection, not even the checkpoint of its end.

    What a failed fsync did not write is not written by the next one, although that succeeds: the system forgets it.
    """
    if not holder:
        why = f": it was closed after {failed[0]}" if failed else ""
        hint = "nothing that was acknowledged is lost; check the disk, then run the same command again"
        code = "store.io" if failed else "store.closed"
        raise StoreError(f"the database {path} is not open{why}", hint=hint if failed else None, code=code)
    try:
        return work(holder[0])
    except (apsw.SQLError, apsw.ConstraintError) as error:
        # Our statements are right: then the tables are not those they were written for, or hold what was not written.
        if "meta." in str(error) or is_damaged(holder[0]):
            raise apsw.CorruptError(str(error)) from error
        raise
    except apsw.IOError as error:
        failed.append(str(error) or type(error).__name__)
        holder[0].config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        holder.pop().close(force=True)
        raise


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
    return _for_reading(path) if readonly else _opened(apsw.Connection, str(path), path, readonly=False)


def _opened(kind: type[apsw.Connection], name: str, path: Path, *, readonly: bool) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
    flags |= apsw.SQLITE_OPEN_URI if kind is _Unchanging else 0
    connection = kind(name, flags=flags | apsw.SQLITE_OPEN_NOMUTEX)
    try:
        _configure(connection, path, readonly=readonly)
    except BaseException:
        connection.close()
        raise
    return connection


def _for_reading(path: Path) -> apsw.Connection:
    """Where nothing can be written SQLite can't make its -shm: then the file is read as one that nobody changes."""
    try:
        return _opened(apsw.Connection, str(path), path, readonly=True)
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        if not path.is_file() or not os.access(path, os.R_OK):
            raise
        if _stamp(path)[-1]:
            raise StoreError(
                f"{path} can't be read here: {wal_of(path).name} holds changes that are not in it yet",
                hint="copy both files to a folder of yours, or make this one writable for a moment",
                code="store.permission",
            ) from None
        return _opened(_Unchanging, f"file:{quote(str(path.absolute()))}?immutable=1", path, readonly=True)


class _Unchanging(apsw.Connection):
    """A connection that takes no locks. *stamp* tells whether somebody changed the file all the same."""

    stamp: tuple[int, ...] = ()


def _stamp(path: Path) -> tuple[int, ...]:
    """Time and size of the database, size of its -wal."""
    found = path.stat()
    with suppress(FileNotFoundError):
        return found.st_mtime_ns, found.st_size, wal_of(path).stat().st_size
    return found.st_mtime_ns, found.st_size, 0


def read_snapshot(connection: apsw.Connection, path: Path, work: Callable[[apsw.Connection], T]) -> T:
    """Call *work* in a transaction that reads. Raises StoreBusy if the file was changed under a lock-free reader."""
    try:
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            if connection.in_transaction:  # some errors end it
                connection.execute("ROLLBACK")
    finally:
        if isinstance(connection, _Unchanging) and _stamp(path) != connection.stamp:
            raise StoreBusy(f"{path} was changed while it was read", hint="run the same command again")


def _configure(connection: apsw.Connection, path: Path, *, readonly: bool) -> None:
    connection.set_busy_timeout(int(sqlite_file.BUSY_TIMEOUT * 1000))
    if isinstance(connection, _Unchanging):
        connection.stamp = _stamp(path)
    # Whoever only reads leaves the file as it is, byte for byte; and so is left what another program made.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    refuse_foreign(connection, path)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(readonly))
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
    deadline = time.monotonic() + sqlite_file.BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:  # noqa: PERF203
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
