"""Which memories may be near: the signs of all vectors, packed by the thousand in the file and held in memory.

A vector's signs are an eighth of a byte per dimension: those of a million memories are looked through in the time that
a few thousand whole vectors take. They only name candidates, whose vectors are then compared; so a row here that is
no longer true (its memory was deleted, or says something else now) costs time and never changes an answer.

How sure they are of it was measured on 200,000 sentences: among the 1,000 best by Hamming distance are 96 % of the
true ten nearest, among the 300 best by "signs of the memory times values of the query" 98.9 %.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, ClassVar, Final, NamedTuple, cast
from zlib import crc32

import apsw
import numpy as np
import numpy.typing as npt

from powermem_cli.errors import StoreBusy
from powermem_cli.model import Vector
from powermem_cli.stores.base import Where
from powermem_cli.stores.sqlite_exact import Scored, among, compared, cut
from powermem_cli.stores.sqlite_packs import Packs
from powermem_cli.stores.sqlite_rows import NOBODY, meta, note_bare, user_number
from powermem_cli.stores.sqlite_vectors import AGREED, Vectors, closest, outdated
from powermem_cli.stores.sqlite_where import EVER, Span, compile_where, listed, spans_of

CANDIDATES: Final = 400  # whose vectors are compared, or
CANDIDATES_FOR: Final = 2  # so many times those that are wanted
USERS_HELD: Final = 256  # whose rows are held apart
ROWS_IN_A_PACK: Final = 4096  # when all are packed anew
AT_A_TIME: Final = 1 << 16  # rows whose signs are compared in one go: they stay in the processor's cache
FINER: Final = 32  # of so many rows the nearest one by Hamming distance is looked at by value,
FEWEST_FINER: Final = 8  # but at least so many times those that are wanted

Ids = npt.NDArray[np.int64]
Signs = npt.NDArray[np.uint64]
Seconds = npt.NDArray[np.uint32]


class Rows(NamedTuple):
    """All rows at one moment: ids (n,), users' numbers (n,), seconds since 1970 (n,), signs (dims / 64 rounded up, n)."""

    ids: Ids
    users: npt.NDArray[np.uint32]
    times: Seconds
    signs: Signs

    def at(self, which: npt.NDArray[np.intp]) -> Rows:
        ids = self.ids[which]
        signs = np.empty((len(self.signs), len(ids)), "<u8")
        for word, into in zip(self.signs, signs, strict=True):  # an index over both axes takes ten times as long
            into[:] = word[which]
        return Rows(ids, self.users[which], self.times[which], signs)

    def among(self, ids: Ids) -> Rows:
        """Those of these *ids*, which are in ascending order."""
        places = np.minimum(np.searchsorted(ids, self.ids), len(ids) - 1)
        return self.at(np.flatnonzero(ids[places] == self.ids))

    def within(self, spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
        """Which of them may be of one of these times: to the second."""
        found = np.zeros(len(self.ids), np.bool_)
        earliest, latest = (self.times.min(), self.times.max()) if len(found) else (1, 0)
        for start, end in spans:
            first, last = seconds_of(np.array((start, end - 1)))
            if first <= latest and last >= earliest:  # March is that of eleven years, and few stores are so old
                found |= (self.times >= first) & (self.times <= last)
        return found

    def until(self, number: int) -> Rows:
        return Rows(self.ids[:number], self.users[:number], self.times[:number], self.signs[:, :number])

    def and_(self, more: Rows) -> Rows:
        if not len(self.ids):  # and perhaps of another width
            return more
        ids, users = np.concatenate((self.ids, more.ids)), np.concatenate((self.users, more.users))
        times = np.concatenate((self.times, more.times))
        return Rows(ids, users, times, np.concatenate((self.signs, more.signs), axis=1))


class Signatures(Packs):
    """The signs of all vectors of one store."""

    table: ClassVar[str] = "signatures"
    columns: ClassVar[Sequence[str]] = ("ids", "users", "vectors", "signs", "times")
    _model: Any  # that made the vectors

    def of(self, db: apsw.Connection) -> Rows:
        """All that this transaction sees. What others added meanwhile may be among it."""
        with self._lock:
            self._refresh(db)
            return self._until_now()

    def of_user(self, db: apsw.Connection, user: int) -> Rows:
        """Those of one user: looked for only among what was added since they were asked for last."""
        with self._lock:
            self._refresh(db)
            seen, held = self._of_users.get(user, (0, _NOTHING))
            new = np.flatnonzero(self._held.users[seen : self._number] == user)
            if len(new):
                held = held.and_(self._held.at(new + seen))
            if len(self._of_users) >= USERS_HELD:
                self._of_users.clear()
            self._of_users[user] = self._number, held
            return held

    def _refresh(self, db: apsw.Connection) -> None:
        """Raises StoreBusy if this transaction began before all vectors became those of another model."""
        made = self._made
        super()._refresh(db)
        model = meta(db, "model")
        if made != self._made or self._model is None:
            self._model, self.vectors = model, Vectors(self._made)
        elif model != self._model:
            raise StoreBusy(
                "the memories were embedded anew while they were searched", hint="run the same command again"
            )

    def _until_now(self) -> Rows:
        return self._held.until(self._number)

    def _forget(self) -> None:
        self._number, self._held = 0, _NOTHING
        self._of_users: dict[int, tuple[int, Rows]] = {}
        self._model = None
        self.vectors = Vectors(-1)

    def _take(self, db: apsw.Connection, values: Sequence[Any]) -> None:
        ids, users, vectors, signs, times = values
        self._append(_unpacked(ids, users, vectors, signs, times or _times_of(db, ids)))

    def _append(self, more: Rows) -> None:
        number = self._number + len(more.ids)
        if number > len(self._held.ids) or len(self._held.signs) != len(more.signs):
            # Somebody may be reading the old ones: they stay as they are.
            old, room = self._until_now(), max(number, len(self._held.ids) * 3 // 2)
            self._held, self._number = _room_for(room, len(more.signs)), 0
            if len(old.ids):  # nothing may have another width
                self._append(old)
        new = slice(self._number, number)
        self._held.ids[new], self._held.users[new], self._held.times[new] = more[:3]
        self._held.signs[:, new] = more.signs
        self._number = number


def _room_for(number: int, width: int) -> Rows:
    numbers = np.empty(number, np.int64), np.empty(number, np.uint32), np.empty(number, np.uint32)
    return Rows(*numbers, np.empty((width, number), "<u8"))


_NOTHING: Final = _room_for(0, 0)


def nearest(
    db: apsw.Connection, held: Signatures, vector: Vector, where: Where, limit: int, and_of: Sequence[int] = ()
) -> Scored:
    """(id, distance) of the memories nearest to *vector*, best first, ties by id; a distance that is none comes first.
    Behind the first *limit* stand those of the ids *and_of* that are not among them.

    Exact where the signs are not asked: among given ids, and where no more than CANDIDATES are left.
    """
    return cut(_near(db, held, vector, where, limit, and_of), limit, and_of)


def _near(
    db: apsw.Connection, held: Signatures, vector: Vector, where: Where, limit: int, and_of: Sequence[int]
) -> Scored:
    """All whose vectors were compared."""
    condition, values = compile_where(where)
    if where.ids is not None:
        return compared(db, vector, condition, values)
    spans = spans_of(where)
    unasked = leaves_all(db, where)
    if unasked:
        whole = _nearest_of_whole(db, held, vector, where, limit, and_of)
        if whole is not None:
            return whole
    if spans is None:
        ids = [id for (id,) in db.execute(f"SELECT m.id FROM memories m WHERE {condition}", values)]
        if len(ids) <= CANDIDATES:
            return compared(db, vector, *among(ids, condition, values))
        rows = rows_of(db, held, where).among(np.sort(np.array(ids, np.int64)))
    else:
        rows = rows_of(db, held, where)
        if spans != EVER and not np.all(within := rows.within(spans)):
            rows = rows.at(np.flatnonzero(within))
    return _nearest(db, rows, vector, where, limit, and_of, unasked=unasked)


def rows_of(db: apsw.Connection, held: Signatures, where: Where) -> Rows:
    """All, or those of the user."""
    if where.scope.user_id is None:
        return held.of(db)
    number = user_number(db, where.scope.user_id)
    return _NOTHING if number is None else held.of_user(db, number)


def leaves_all(db: apsw.Connection, where: Where) -> bool:
    """Whether all memories of the user, or of all, are meant: then the row of one that is known to be theirs need not
    be looked at.
    """
    return spans_of(where) == EVER and not any(
        db.execute("SELECT 1 FROM memories WHERE expires_at IS NOT NULL LIMIT 1")
    )


def _nearest(
    db: apsw.Connection,
    left: Rows,
    vector: Vector,
    where: Where,
    limit: int,
    and_of: Sequence[int],
    *,
    unasked: bool,
) -> Scored:
    """The nearest that *where* leaves; *left* are those that it leaves, and some more. *unasked*: it leaves all whose
    vectors are there.
    """
    waiting = [id for (id,) in db.execute("SELECT id FROM unpacked")]
    wanted = max(CANDIDATES, CANDIDATES_FOR * limit)
    while True:
        named = {*candidates(left, vector, wanted).tolist()}
        more = {*waiting, *and_of} - named
        theirs, others = (named, more) if unasked else (set(), named | more)
        found = _compared(db, vector, theirs, others, where)
        behind = len(more.difference(waiting))
        # Of those that the signs name some may be gone or no longer what they were.
        if len(found) - behind >= min(wanted, len(left.ids)) / 2 or wanted >= len(left.ids):
            return found
        wanted *= 4


def _nearest_of_whole(
    db: apsw.Connection, held: Signatures, vector: Vector, where: Where, limit: int, and_of: Sequence[int]
) -> Scored | None:
    """The same where every memory of a user, or of all, is meant and their vectors are held."""
    rows, gone = rows_of(db, held, where), outdated(db)
    whole = None if gone is None else held.vectors.of(db, where.scope.user_id, rows.ids)
    if whole is None or gone is None:
        return None
    found, others = closest(whole, vector, limit, and_of, gone)
    others.update(id for (id,) in db.execute("SELECT id FROM unpacked"))
    if not others:
        return found
    more = _compared(db, vector, (), others, where)
    if any(distance is None for _, distance in more):
        raise apsw.CorruptError("a vector is none")
    both = sorted([*found, *((id, round(distance, AGREED)) for id, distance in more)])  # ties by id
    both.sort(key=itemgetter(1))
    return both


def _compared(
    db: apsw.Connection, vector: Vector, theirs: Collection[int], others: Collection[int], where: Where
) -> Scored:
    """(id, distance) of *theirs* whose vector is there still, and of those *others* that *where* leaves; in the order
    of `compared`.
    """
    condition, values = compile_where(where)
    sql = f"""
        SELECT e.id, vec_distance_l2(e.vector, ?) AS distance
        FROM (SELECT value AS id FROM carray(?) UNION ALL
              SELECT m.id FROM carray(?) w CROSS JOIN memories m ON m.id = w.value WHERE {condition}) some
        CROSS JOIN embeddings e ON e.id = some.id ORDER BY distance, e.id"""
    return cast("Scored", db.execute(sql, (vector, listed(theirs), listed(others), *values)).fetchall())


def candidates(rows: Rows, vector: Vector, wanted: int) -> Ids:
    """The ids of those rows that are probably nearest to *vector*, *wanted* of them, in no order."""
    values = np.frombuffer(vector, "<f4")
    if len(rows.ids) <= wanted:
        return rows.ids
    finer = max(FEWEST_FINER * wanted, len(rows.ids) // FINER)
    if len(rows.ids) > finer:
        rows = rows.at(_nearest_by_signs(rows.signs, _signs_of(values[np.newaxis])[0], finer))
    worth = _products(rows.signs, values)
    return rows.ids[np.argpartition(-worth, wanted)[:wanted]]


def _nearest_by_signs(signs: Signs, own: Signs, wanted: int) -> npt.NDArray[np.intp]:
    """*wanted* rows or some more: all at the distance of the last of them."""
    distances = np.zeros(signs.shape[1], np.uint16)
    for start in range(0, len(distances), AT_A_TIME):
        some = slice(start, start + AT_A_TIME)
        for word, of_query in zip(signs, own, strict=True):
            distances[some] += np.bitwise_count(word[some] ^ of_query)
    up_to = np.searchsorted(np.cumsum(np.bincount(distances)), wanted)
    return np.flatnonzero(distances <= up_to)


def _products(signs: Signs, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """For each row the sum of those *values* whose sign is the same, but for a constant: looked up byte by byte."""
    padded = np.zeros((len(signs) * 8, 8), np.float32)
    padded.ravel()[: len(values)] = values
    sums = padded @ _BITS_OF_BYTES
    products = np.zeros(signs.shape[1], np.float32)
    for number, word in enumerate(signs):
        for place, byte in enumerate(np.ascontiguousarray(word.view(np.uint8).reshape(-1, 8).T)):
            products += sums[number * 8 + place].take(byte)
    return products


_BITS_OF_BYTES: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[np.newaxis], axis=0, bitorder="little").astype(
    np.float32
)  # (8, 256)


def _signs_of(values: npt.NDArray[np.float32]) -> Signs:
    """(n, dims) → (n, dims / 64 rounded up), a bit for each value above 0."""
    packed = np.packbits(values > 0, axis=1, bitorder="little")
    wide = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
    wide[:, : packed.shape[1]] = packed
    return wide.view("<u8")


def _unpacked(ids: bytes, users: bytes, vectors: bytes, signs: bytes, times: bytes) -> Rows:
    number = len(ids) // 8
    lengths = {len(users), len(vectors), len(times)}
    if len(ids) != 8 * number or lengths != {4 * number} or len(signs) % (8 * number or 8):
        raise apsw.CorruptError("a pack of signs is not as it was written")
    of_each = np.frombuffer(ids, "<i8"), np.frombuffer(users, "<u4"), np.frombuffer(times, "<u4")
    return Rows(*of_each, np.frombuffer(signs, "<u8").reshape(number, -1).T)


def _times_of(db: apsw.Connection, ids: bytes) -> bytes:
    """What a pack lacks that an older program wrote, which had the store open when it got its fourth schema."""
    wanted = np.frombuffer(ids, "<i8").tolist()
    sql = "SELECT id, created_at FROM memories WHERE id IN (SELECT value FROM carray(?))"
    made = dict(db.execute(sql, (listed(wanted),)))
    return seconds_of(np.array([made.get(id, 0) for id in wanted], np.int64)).tobytes()


# ── written in the transaction that writes the vectors ──


def pack(db: apsw.Connection, rows: Sequence[tuple[int, int | None, int, Vector]]) -> None:
    """Keep the signs of new (id, user's number, when it was made in microseconds, vector). Raises CorruptError."""
    ids, users, times, vectors = zip(*rows, strict=True)
    try:
        if len(set(map(len, vectors))) > 1:
            raise ValueError("not all vectors are of one length")
        values = np.frombuffer(b"".join(vectors), "<f4").reshape(len(rows), -1)
        whose = np.array([NOBODY if user is None else user for user in users], "<u4")
        checks = np.array([crc32(vector) for vector in vectors], "<u4")
        parts = (np.array(ids, "<i8"), whose, checks, _signs_of(values), seconds_of(np.array(times, np.int64)))
    except (TypeError, ValueError, OverflowError) as error:
        raise apsw.CorruptError(f"a vector, or whose it is, is not as it was written: {error}") from error
    Signatures.keep(db, *(part.tobytes() for part in parts))


def seconds_of(microseconds: npt.NDArray[np.int64]) -> Seconds:
    """Of moments before 1970 and after 2105 the first and the last there is."""
    return np.clip(microseconds // 1_000_000, 0, 0xFFFF_FFFF).astype("<u4")


def pack_waiting(db: apsw.Connection) -> None:
    """Pack the vectors that came one by one."""
    _pack_all(db, WAITING)
    db.execute("DELETE FROM unpacked")


def pack_anew(db: apsw.Connection) -> None:
    """Pack every vector there is, whatever was packed before."""
    db.execute(
        "DELETE FROM signatures; DELETE FROM unpacked; DELETE FROM outdated; DELETE FROM meta WHERE name = 'bare'"
    )
    _pack_all(db, f"{_ROWS} FROM embeddings e JOIN memories m ON m.id = e.id ORDER BY e.id")
    if next(iter(db.execute("SELECT 1 FROM memories WHERE id NOT IN (SELECT id FROM embeddings) LIMIT 1")), None):
        note_bare(db)


_ROWS: Final = "SELECT e.id, m.user, m.created_at, e.vector"
# CROSS: in this order. By itself SQLite, which knows no numbers, begins with the vectors of the whole store.
WAITING: Final = f"""{_ROWS} FROM unpacked u
    CROSS JOIN embeddings e ON e.id = u.id CROSS JOIN memories m ON m.id = e.id"""


def _pack_all(db: apsw.Connection, select: str) -> None:
    rows = db.execute(select)
    while some := list(islice(rows, ROWS_IN_A_PACK)):
        pack(db, some)


def checks_of(db: apsw.Connection) -> Iterator[tuple[int, int]]:
    """(id, CRC-32 of the vector) of all rows, in the order in which they were written."""
    for ids, checks in db.execute("SELECT ids, vectors FROM signatures ORDER BY number"):
        yield from zip(np.frombuffer(ids, "<i8").tolist(), np.frombuffer(checks, "<u4").tolist(), strict=True)
    yield from db.execute("SELECT id, vector FROM unpacked")


def signs_of(vector: Vector) -> bytes:
    """What a pack holds of *vector*."""
    return _signs_of(np.frombuffer(vector, "<f4")[np.newaxis]).tobytes()
