"""The vectors of whoever is asked about again and again, held in memory while they fit.

To compare all of ten thousand with a question takes less time than to look up the few hundred that the signs of all name.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw
import numpy as np
import numpy.typing as npt

from powermem_cli.model import Vector
from powermem_cli.stores.sqlite_exact import Scored
from powermem_cli.stores.sqlite_lengths import brevities
from powermem_cli.stores.sqlite_rows import meta_number
from powermem_cli.stores.sqlite_where import listed

ASKED_OFTEN: Final = 2  # searches, from which on it is worth to read all vectors of a user
USERS_COUNTED: Final = 1024
MOST_BYTES: Final = 48 * 1024 * 1024  # of all users together: 48,000 vectors of 256 dimensions
AGREED: Final = 6  # digits of a distance
MOST_OUTDATED: Final = 500  # of all users: each is looked up; with more of them, what is held is not asked

Ids = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


class Whole(NamedTuple):
    """All vectors of a user: ids (n,) in ascending order, their values (n, dims), what the lengths of these memories do
    to their keyword scores (n,), and of how many rows they are.
    """

    ids: Ids
    values: Values
    brevities: Floats
    rows: int

    def places(self, ids: Ids) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Where they stand, and whether they do."""
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return places, self.ids[places] == ids

    def and_(self, more: Whole) -> Whole:
        if not len(self.ids):
            return more
        ids, values = np.concatenate((self.ids, more.ids)), np.concatenate((self.values, more.values))
        return Whole(ids, values, np.concatenate((self.brevities, more.brevities)), more.rows)


class Vectors:
    """Of several users, the one asked about last at the end; None stands for all users together.

    Safe to use from several threads. Vectors that were changed or deleted since all were packed for the *made*-th time
    are among them: see `outdated`.
    """

    def __init__(self, made: int) -> None:
        self._made = made
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # held by one thread that fills; the others do without meanwhile
        self._asked: dict[str | None, int] = {}
        self._held: dict[str | None, Whole] = {}

    def of(self, db: apsw.Connection, user: str | None, rows: Ids) -> Whole | None:
        """Those of the user whose memories have these ids, of which more come with time, but none go. None if it is not
        worth it, or this transaction does not see all of them.
        """
        with self._lock:
            held = self._held.pop(user, _NONE)
            if held.rows:
                self._held[user] = held  # the last one to go
            elif not self._often(user):
                return None
        if 0 < len(rows) <= held.rows:
            return held
        if not len(rows) or meta_number(db, "packings") != self._made or not self._reading.acquire(blocking=False):
            return None
        try:
            return self._filled(db, user, held, rows)
        finally:
            self._reading.release()

    def brevities(self, db: apsw.Connection, user: str | None, ids: Ids) -> Floats | None:
        """What the lengths of these memories of the user do to their scores; None if theirs are not held. Those of
        memories that are changed or new are looked up.
        """
        with self._lock:
            whole = self._held.get(user)
        if whole is None or meta_number(db, "packings") != self._made or (gone := outdated(db)) is None:
            return None
        places, there = whole.places(ids)
        if len(gone):
            there &= ~np.isin(ids, gone)
        found = whole.brevities[places]
        if not there.all():
            others = dict(brevities(db, ids[~there].tolist()))
            found[~there] = [others.get(id, 0.0) for id in ids[~there].tolist()]
        return found

    def _often(self, user: str | None) -> bool:
        if len(self._asked) >= USERS_COUNTED:
            self._asked.clear()
        self._asked[user] = self._asked.get(user, 0) + 1
        return self._asked[user] > ASKED_OFTEN

    def _filled(self, db: apsw.Connection, user: str | None, held: Whole, rows: Ids) -> Whole | None:
        if _size_of(db, len(rows)) > MOST_BYTES:
            with self._lock:
                self._held.pop(user, None)
                self._asked[user] = 0
            return None
        new = np.unique(rows[held.rows :])
        if len(held.ids) and new[0] <= held.ids[-1]:  # a memory got another vector, or came with an id of its own
            held, new = _NONE, np.unique(rows)
        more = _read(db, new)
        if more is None:
            return None
        whole = held.and_(Whole(*more, len(rows)))
        with self._lock:
            self._held.pop(user, None)
            while (
                self._held and sum(one.values.nbytes for one in self._held.values()) + whole.values.nbytes > MOST_BYTES
            ):
                del self._held[next(iter(self._held))]
            self._held[user] = whole
        return whole


_NONE: Final = Whole(np.empty(0, np.int64), np.empty((0, 0), np.float32), np.empty(0), 0)


def _size_of(db: apsw.Connection, number: int) -> int:
    sizes: Any = db.execute("SELECT length(vector) FROM embeddings LIMIT 1").fetchall()
    return number * sum(int(size) for (size,) in sizes)


def _read(db: apsw.Connection, ids: Ids) -> tuple[Ids, Values, Floats] | None:
    """Those of *ids*, which ascend, that have a vector. None if others are there, but not in this transaction."""
    sql = "SELECT e.id, e.vector FROM carray(?) w CROSS JOIN embeddings e ON e.id = w.value"
    found: Any = db.execute(sql, (listed(ids.tolist()),)).fetchall()
    if not found:
        return None
    if len(found) < len(ids):
        missing = {*ids.tolist()}.difference(id for id, _ in found)
        sql = "SELECT count(*) FROM outdated WHERE id IN (SELECT value FROM carray(?))"
        if next(db.execute(sql, (listed(missing),))) != (len(missing),):
            return None
    try:
        values = np.frombuffer(b"".join(vector for _, vector in found), "<f4").reshape(len(found), -1)
    except (TypeError, ValueError) as error:
        raise apsw.CorruptError(f"a vector is not as it was written: {error}") from error
    there = np.array([id for id, _ in found], np.int64)
    lengths = dict(brevities(db, there.tolist()))
    return there, values, np.array([lengths.get(id, 0.0) for id in there.tolist()])


def outdated(db: apsw.Connection) -> Ids | None:
    """The memories that were deleted or got another vector since all were packed; None if they are too many."""
    ids = [id for (id,) in db.execute(f"SELECT id FROM outdated LIMIT {MOST_OUTDATED + 1}")]
    return np.array(ids, np.int64) if len(ids) <= MOST_OUTDATED else None


def closest(whole: Whole, vector: Vector, limit: int, and_of: Sequence[int], old: Ids) -> tuple[Scored, set[int]]:
    """(id, distance) of the nearest *limit* to *vector* and of those *and_of* that are held: best first, ties by id. And
    the ids that are to be compared as well: of the *old* vectors, and those *and_of* that are not held. Raises
    CorruptError.
    """
    # Row by row, on one core: a product of matrices takes both, and waits for the one that is busy.
    products = np.vecdot(whole.values, np.frombuffer(vector, "<f4"))
    if not np.isfinite(products).all():
        raise apsw.CorruptError("a vector is none")
    others: set[int] = set()
    if len(old):
        places, there = whole.places(old)
        products[places[there]] = -np.inf
        others.update(whole.ids[places[there]].tolist())
    wanted, first = np.zeros(len(products), np.bool_), len(products) - limit
    wanted[np.argpartition(products, first)[first:] if first > 0 else slice(None)] = True
    if and_of:
        places, there = whole.places(np.array(and_of, np.int64))
        wanted[places[there]] = True
        if not there.all():
            others.update(np.array(and_of)[~there].tolist())
    some = np.flatnonzero(wanted & (products > -np.inf) if len(old) else wanted)
    # Of vectors of length 1; as far as this and SQL agree, so that ties are ties.
    distances = np.sqrt(np.maximum(0, 2 - 2 * products[some].astype(np.float64))).round(AGREED)
    order = np.argsort(distances, kind="stable")  # they are in the order of their ids
    return list(zip(whole.ids[some[order]].tolist(), distances[order].tolist(), strict=True)), others
