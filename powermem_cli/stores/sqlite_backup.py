"""A copy of an SQLite store as it is at one moment, made while others read and write it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import apsw

from powermem_cli.errors import StoreBusy, StoreCorrupt, UsageError
from powermem_cli.stores.sqlite_file import translated, wal_of
from powermem_cli.whole_file import claimed, partial_of, place

if TYPE_CHECKING:
    from powermem_cli.stores.sqlite import SqliteStore

PAGES_AT_ONCE: Final = 4096


async def back_up(store: SqliteStore, path: Path, *, replace: bool) -> int:
    """Copy *store*, look through the copy, and give it the name *path*; returns its bytes.

    Until it is whole, found sound and on the disk it is *path*.partial. *replace*: whatever has that name may go.
    Raises UsageError for a place where no backup may be made, StoreCorrupt if the copy is damaged, StoreError.
    """
    _check_place(store.path, path, replace=replace)
    try:
        with claimed(path) as partial:
            await store.copy_to(partial)
            await _look_through(type(store)(str(partial), access="read"))
            size = partial.stat().st_size
            _check_place(store.path, path, replace=replace)
            place(partial, path)
    except (OSError, apsw.Error) as error:
        raise translated(error, path) from error
    return size


def copy_pages(db: apsw.Connection, partial: Path) -> None:
    """Every page as this transaction sees it. The file *partial* is there, and empty. Raises apsw.Error, StoreFull."""
    db.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # the moment is that of the first look
    copy = apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        # A copy that was cut short is thrown away: it needs no journal, and is written to the disk at the end.
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            copy.execute(f"PRAGMA {pragma}")
        with copy.backup("main", db, "main") as backup:
            while not backup.done:
                backup.step(PAGES_AT_ONCE)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, that can be read from a read-only disk
    except apsw.FullError as error:
        raise translated(error, partial) from error  # the disk of the copy, which may be another one
    finally:
        copy.close()


async def _look_through(copy: SqliteStore) -> None:
    await copy.open(None)
    try:
        problems = await copy.verify()
    finally:
        await copy.close()
    if problems:
        raise StoreCorrupt(
            f"the copy is not sound, so there is no backup: {problems[0]}",
            hint="the store is probably damaged as well: powermem db verify",
        )


def _check_place(store: Path, path: Path, *, replace: bool) -> None:
    if not path.name or path.is_dir():
        raise UsageError(f"{str(path)!r} is no name of a file", hint="name the file that the copy shall be")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder", hint="name a file in a folder that is there")
    if os.path.realpath(path) == os.path.realpath(store) or os.path.realpath(partial_of(path)) == os.path.realpath(
        store
    ):
        raise UsageError(f"{path} is the store itself", hint="name another file")
    if path.exists() and not replace:
        raise UsageError(f"{path} is there already", hint="name another file, or write over it with --force")
    if wal_of(path).exists() and wal_of(path).stat().st_size:
        # SQLite would take them for changes to the copy.
        raise StoreBusy(
            f"{wal_of(path)} is there: somebody uses {path}, or has not put away its changes",
            hint="name another file for the backup",
        )
