"""What a deletion of many took: exports in a folder, out of which it all comes back; old ones go by themselves.

A deletion first writes what it will take, as it is at one moment, and then deletes exactly that: what was added or
changed meanwhile is in no file of the trash, and stays.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from powermem_cli import times
from powermem_cli.errors import InvalidInput, StoreBusy, StoreError, UsageError, did_you_mean
from powermem_cli.exchange import READERS, Amounts, Line, amounts_of, decoded, encoded, end_line
from powermem_cli.files import make_folder, sync_folder
from powermem_cli.filters import parse_filter
from powermem_cli.model import Scope
from powermem_cli.moving import Import, Taken, export, ledger_pages, past_pages
from powermem_cli.providers.base import Embedder
from powermem_cli.stores.base import Ledger, LedgerRow, Store, Update, Where, Write
from powermem_cli.whole_file import claimed, whole_file

KEPT: Final = 30 * 86_400  # seconds
AT_ONCE: Final = 10_000  # memories deleted in one transaction
LONGEST_END: Final = 4096  # bytes of the last line of a file, more than enough
FORGOTTEN: Final = bytes(16)  # in the ledger, instead of the digest of what was said


class Piece(NamedTuple):
    """What was deleted at once: its name in the trash, when, of whom, how many memories."""

    name: str
    at: str
    scope: Line
    memories: int
    bytes: int


class Deleted(NamedTuple):
    """*name* is that in the trash, None if there was nothing; *left* were changed meanwhile, and are there still."""

    name: str | None
    number: int
    left: int


class Trash:
    """The files in *folder*, which is made when it is needed, that hold what was deleted from *store*."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store

    async def delete(self, where: Where) -> Deleted:
        """Delete those memories, after they are in the trash and on the disk. Raises StoreError."""
        of = await self._of()
        seconds, microseconds = divmod(times.now(), 1_000_000)
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{of}-{microseconds:06}"
        try:
            make_folder(self._folder)
            self._drop_old()
            batches = await self._write(self._path(name), where)
        except OSError as error:
            raise self._unusable(error) from error
        if not batches:
            self._remove(name)
            return Deleted(None, 0, 0)
        number = 0
        for batch in batches:
            number += await self._store.delete(batch)
        return Deleted(name, number, sum(len(batch.ids or ()) for batch in batches) - number)

    async def restore(self, name: str, embedder: Embedder) -> Taken:
        """Bring back all that was deleted then, and drop it from the trash if all of it is there.

        Raises UsageError if there is nothing of that name, StoreError, ProviderError.
        """
        path = self._path(await self._known(name))
        try:
            with path.open("rb") as lines:
                taken = await Import(self._store, embedder, anew=True).run(lines)
        except OSError as error:
            raise self._unusable(error) from error
        if taken.whole and not taken.rejected and not taken.conflicting:
            self._remove(name)
        return taken

    async def pieces(self) -> list[Piece]:
        """What was deleted from this store, the last one first."""
        of = await self._of()
        found = [self._piece(name) for name in sorted(self._names(), reverse=True) if name.split("-")[2] == of]
        return [piece for piece in found if piece is not None]

    async def drop(self, names: list[str]) -> None:
        """Remove those pieces for good. Raises UsageError if there is nothing of such a name."""
        for name in [await self._known(name) for name in names]:
            self._remove(name)

    async def purge(self, scope: Scope) -> int:
        """Delete all of that scope for good: memories, history, what is in the trash, and of what the ledger knows
        all but the key, so that a file that is added again does not bring them back. Returns how many memories.
        """
        gone = await self._ids_of(scope)
        self._drop_halves()
        number = await self._store.delete(Where(scope))
        for piece in await self.pieces():
            gone.update(self._without(piece.name, scope))
        await self._forget(gone)
        return number

    async def _write(self, path: Path, where: Where) -> list[Where]:
        """All of it into that file; what to delete, in batches."""
        more = {"store": await self._store.identity(), "deleted": where.scope._asdict()}
        batches: list[Where] = []
        ids, newest = array("q"), 0
        with whole_file(path) as file:
            async for page in export(self._store, where, vectors=True, history=True, more=more):
                file.write(b"".join(map(encoded, page)))
                for line in page:
                    if line["type"] == "memory":
                        ids.append(int(line["id"]))
                        newest = max(newest, times.parse_time(line["updated_at"]))
                if len(ids) >= AT_ONCE or (ids and page[0]["type"] != "memory"):
                    batches.append(_unchanged(ids, newest))
                    ids, newest = array("q"), 0
        return batches

    async def _of(self) -> str:
        return (await self._store.identity())[:8]

    async def _known(self, name: str) -> str:
        names = [piece.name for piece in await self.pieces()]
        if name not in names:
            hint = did_you_mean(name, names) if names else "the trash of this store is empty"
            raise UsageError(f"there is no {name!r} in the trash", hint=hint)
        return name

    def _names(self) -> list[str]:
        try:
            return [path.stem for path in self._folder.glob("*-*-*-*.jsonl")]
        except OSError as error:
            raise self._unusable(error) from error

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"

    def _piece(self, name: str) -> Piece | None:
        """None for a file that is gone, or not one of ours."""
        try:
            with self._path(name).open("rb") as file:
                head = decoded(file.readline())
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LONGEST_END))
                end = decoded(file.read().splitlines()[-1])
            return Piece(name, str(head.get("made_at")), head.get("deleted") or {}, amounts_of(end).memory, size)
        except (OSError, InvalidInput, IndexError):
            return None

    def _drop_old(self) -> None:
        self._drop_halves()
        for name in self._names():
            path = self._path(name)
            if path.stat().st_mtime < time.time() - KEPT:
                path.unlink(missing_ok=True)

    def _drop_halves(self) -> None:
        """Remove what runs that were killed have left: nothing had been deleted yet."""
        for path in self._folder.glob("*.partial"):
            with suppress(StoreBusy), claimed(path.with_suffix("")):
                pass

    def _remove(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{error.filename or self._folder}: {error.strerror or error}",
            hint="what is deleted is kept there for 30 days: make room, or delete for good with --no-trash",
            code="store.full" if error.errno in {28, 122} else "store.permission",
        )

    async def _ids_of(self, scope: Scope) -> set[int]:
        """Of all memories that there were in that scope, as far as anything is known of them."""
        gone: set[int] = set()
        async with self._store.snapshot() as snapshot:
            after = None
            while rows := await snapshot.memories(Where(scope), limit=1000, after=after):
                after = rows[-1].id
                gone.update(row.id for row in rows)
            async for past in past_pages(snapshot):
                gone.update(row.memory_id for row in past if _within(scope, row.scope))
        return gone

    async def _forget(self, gone: set[int]) -> None:
        async with self._store.snapshot() as snapshot:
            async for page in ledger_pages(snapshot):
                if rows := [row for row in page if not gone.isdisjoint(row.memory_ids)]:
                    await self._store.apply([_without_content(row) for row in rows])

    def _without(self, name: str, scope: Scope) -> set[int]:
        """Take out of a piece what is of that scope; the ids of those memories."""
        path, gone, kept = self._path(name), set(), dict.fromkeys(Amounts._fields, 0)
        try:
            with path.open("rb") as old, whole_file(path) as new:
                for line in _lines(old):
                    if line["type"] in {"memory", "history"} and _within(scope, Scope(*map(line.get, Scope._fields))):
                        gone.add(int(line["id" if line["type"] == "memory" else "memory_id"]))
                    elif line["type"] in READERS:
                        kept[line["type"]] += 1
                        new.write(encoded(line))
                    else:
                        new.write(encoded(end_line(Amounts(**kept)) if line["type"] == "end" else line))
            if not kept["memory"]:
                path.unlink()
        except OSError as error:
            raise self._unusable(error) from error
        return gone


def _unchanged(ids: array[int], newest: int) -> Where:
    """Those memories, but for whose text or metadata was changed after that moment."""
    only = parse_filter({"updated_at": {"lte": times.format_time(newest)}})
    return Where(filter=only, ids=tuple(ids))


def _within(scope: Scope, other: Scope) -> bool:
    return all(wanted is None or wanted == name for wanted, name in zip(scope, other, strict=True))


def _without_content(row: LedgerRow) -> Write:
    """The ids stay: what would be written to one of them again finds it deleted."""
    now = times.now()
    changes = tuple(Update(id, now) for id in row.memory_ids)
    return Write(changes, Ledger(row.key, FORGOTTEN, row.job, now, seen=row.content, status=row.status))


def _lines(file: Any) -> Iterator[Line]:
    return map(decoded, file)
