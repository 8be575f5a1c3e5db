"""What is wrong with an SQLite store: SQLite's own check, tables against each other, every row against its checks."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any, Final
from zlib import crc32

import apsw
import numpy as np

from powermem_cli.identity import digest
from powermem_cli.stores.sqlite_finder import Finder
from powermem_cli.stores.sqlite_rows import NOBODY, indexed_terms, length_of, length_told_by, meta, whose_mark
from powermem_cli.stores.sqlite_signatures import Signatures, checks_of, seconds_of, signs_of
from powermem_cli.terms import distinct_terms

HASHES_AT_ONCE: Final = 1024
NAMED: Final = 5  # of one kind; a thousand more would say nothing new
LENGTH_OFF: Final = 1e-6  # how far from 1 the rounding to float32 may take the length of a vector
STATUSES: Final = (b"done", b"no_facts", b"failed")


def problems(db: apsw.Connection) -> list[str]:
    """A sentence for each; none for a store that is as it was written. Raises apsw.Error."""
    found: list[str] = []
    for check in (_sqlite, _tables, _counted, _names, _texts, _vectors, _words, _ledger, _found_again):
        try:
            found += _few(check(db))
        except (apsw.CorruptError, UnicodeDecodeError) as error:  # noqa: PERF203 - the other checks may find more
            found.append(f"SQLite: {error}")
    return found


def _sqlite(db: apsw.Connection) -> Iterator[str]:
    yield from (f"SQLite: {said}" for (said,) in db.execute("PRAGMA integrity_check(20)") if said != "ok")


def _few(said: Iterable[str]) -> Iterator[str]:
    every = iter(said)
    yield from islice(every, NAMED)
    if more := sum(1 for _ in every):
        yield f"and {more:,} more like this"


def _tables(db: apsw.Connection) -> Iterator[str]:
    for what, sql in _BETWEEN_TABLES.items():
        yield from (f"memory {id}: {what}" for (id,) in db.execute(sql))


_BETWEEN_TABLES: Final = {
    "a vector is there without it": "SELECT id FROM embeddings WHERE id NOT IN (SELECT id FROM memories)",
    "its words are missing": "SELECT id FROM memories WHERE id NOT IN (SELECT id FROM words_docsize)",
    "words are there without it": "SELECT id FROM words_docsize WHERE id NOT IN (SELECT id FROM memories)",
    "its scope is nobody's": """
        SELECT id FROM memories WHERE (user NOT NULL AND user NOT IN (SELECT number FROM names))
            OR (agent NOT NULL AND agent NOT IN (SELECT number FROM names))
            OR (run NOT NULL AND run NOT IN (SELECT number FROM names))""",
    "its metadata is no JSON object": """
        SELECT id FROM memories WHERE metadata NOT NULL
            AND CASE WHEN json_valid(metadata, 8) THEN json_type(metadata) != 'object' ELSE 1 END""",
    "its times are no numbers": """
        SELECT id FROM memories WHERE typeof(created_at) != 'integer' OR typeof(updated_at) != 'integer'""",
}


def _counted(db: apsw.Connection) -> Iterator[str]:
    (there,) = next(db.execute("SELECT count(*) FROM memories"))
    counted = meta(db, "memories") or 0
    if counted != there:
        yield f"{counted} memories are counted, {there} are there"
    if not isinstance(meta(db, "store_id"), str):
        yield "the store has lost its name"


def _names(db: apsw.Connection) -> Iterator[str]:
    for number, name in db.execute("SELECT number, CAST(name AS BLOB) FROM names"):
        if _text(name) is None:
            yield f"scope {number}: its name is no UTF-8"


def _texts(db: apsw.Connection) -> Iterator[str]:
    rows = db.execute("SELECT id, CAST(text AS BLOB), digest, length, user, agent, run, whose FROM memories")
    for id, raw, stored, length, user, agent, run, whose in rows:
        text = _text(raw)
        if not all(isinstance(number, int | None) for number in (user, agent, run)) or (
            whose_mark(id, user, agent, run) != whose
        ):
            yield f"memory {id}: it is not whose it was"
        if text is None or digest(text) != stored:
            yield f"memory {id}: its text is not the one that was stored"
        elif length_of(distinct_terms(text)) != length:
            yield f"memory {id}: the number of its words is wrong"


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _vectors(db: apsw.Connection) -> Iterator[str]:
    dims = meta(db, "dims")
    packs, checks = Signatures().of(db), dict(checks_of(db))  # of several rows for one memory the last is true
    order = np.argsort(packs.ids, kind="stable")
    waiting = {id for (id,) in db.execute("SELECT id FROM unpacked")}
    gone = {id for (id,) in db.execute("SELECT id FROM outdated")}
    packed = packs.ids[order]
    sql = "SELECT m.id, m.user, m.created_at, e.vector FROM memories m LEFT JOIN embeddings e ON e.id = m.id"
    rows: Any = db.execute(sql)
    for id, user, created_at, vector in rows:
        own = order[np.searchsorted(packed, id) : np.searchsorted(packed, id, "right")]
        if vector is None:
            if id in waiting or (len(own) and id not in gone):
                yield f"memory {id}: its vector is missing"
            continue
        if not isinstance(vector, bytes) or not isinstance(dims, int) or len(vector) != dims * 4:
            yield f"memory {id}: its vector has not the {dims} dimensions of this store"
            continue
        with np.errstate(all="ignore"):  # damage may be a number that is none
            values = np.frombuffer(vector, "<f4").astype(np.float64)
            length = float(np.sqrt(values @ values))
        check = crc32(vector)
        if not abs(length - 1) <= LENGTH_OFF or checks.get(id, check) != check:  # true for NaN as well
            yield f"memory {id}: its vector is not the one that was stored (length {length})"
        elif id not in checks:
            yield f"memory {id}: the signs of its vector are missing"
        elif id not in waiting and not any(
            packs.users[row] == (user or NOBODY)
            and packs.times[row] == (seconds_of(np.array(created_at)) if isinstance(created_at, int) else None)
            and packs.signs[:, row].tobytes() == signs_of(vector)
            for row in own
        ):
            yield f"memory {id}: the signs of its vector are not those that were stored"


def _words(db: apsw.Connection) -> Iterator[str]:
    """Whether the full text holds for each memory exactly the words of its text."""
    db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.each_word USING fts5vocab('main', 'words', 'instance')")
    there: defaultdict[int, int] = defaultdict(int)
    for term, id in db.execute("SELECT CAST(term AS BLOB), doc FROM temp.each_word"):
        there[id] ^= _mark(term)
    sql = "SELECT m.id, CAST(m.text AS BLOB), m.user, d.sz FROM memories m LEFT JOIN words_docsize d ON d.id = m.id"
    for id, raw, user, size in db.execute(sql):
        text = _text(raw)
        terms = distinct_terms(text) if text is not None else ""
        wanted = 0
        for term in indexed_terms(terms, user).split():
            wanted ^= _mark(term.encode())
        if there.pop(id, 0) != wanted:
            yield f"memory {id}: the words it is found by are not those of its text"
        if text is not None and size is not None and length_told_by(size) != length_of(terms):
            yield f"memory {id}: the number of words it is found by is wrong"
    yield from (f"memory {id}: words lead to it, but it is not there" for id in there)


def _mark(term: bytes) -> int:
    return int.from_bytes(blake2b(term, digest_size=8).digest(), "big")


def _ledger(db: apsw.Connection) -> Iterator[str]:
    for key, content, status, ids, tries, job, at in db.execute(
        "SELECT key, content, CAST(status AS BLOB), CAST(memory_ids AS BLOB), tries, CAST(job AS BLOB), at FROM ledger"
    ):
        wrong = (
            not _is_hash(key)
            or not _is_hash(content)
            or status not in STATUSES
            or not _are_ids(ids)
            or _text(job) is None
            or not all(isinstance(number, int) for number in (tries, at))
        )
        if wrong:
            yield f"ledger row {_named(key)}: it is not as it was written"


def _found_again(db: apsw.Connection) -> Iterator[str]:
    """Whether the packed hashes lead to every row; no key stands in the ledger twice."""
    finder = Finder()
    for (key,) in db.execute("SELECT key FROM ledger GROUP BY key HAVING count(*) > 1"):
        yield f"ledger row {_named(key)}: it is there twice"
    rows: Any = db.execute("SELECT number, key FROM ledger")
    while some := [(number, key) for number, key in islice(rows, HASHES_AT_ONCE) if _is_hash(key)]:
        found = {number for number, _ in finder.ledger(db, [key for _, key in some]).values()}
        yield from (f"ledger row {_named(key)}: its hash does not lead to it" for n, key in some if n not in found)
    rows = db.execute("SELECT id, digest, user, agent, run FROM memories")
    while some := [row for row in islice(rows, HASHES_AT_ONCE) if _is_hash(row[1]) and _is_whose(row[2:])]:
        ids, digests, *whose = zip(*some, strict=True)
        held = {*finder.holding(db, digests, [*zip(*whose, strict=True)])}
        yield from (f"memory {id}: its hash does not lead to it" for id in ids if id not in held)


def _named(key: object) -> object:
    return key.hex() if isinstance(key, bytes) else key


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == 16


def _is_whose(values: Iterable[object]) -> bool:
    return all(value is None or isinstance(value, int) for value in values)


def _are_ids(raw: bytes | None) -> bool:
    try:
        ids = json.loads(raw or b"")
    except ValueError:
        return False
    return isinstance(ids, list) and all(type(id) is int and id >= 0 for id in ids)
