"""Which memories hold the words of a question, and what they are worth: base.py says why each part of a score is there.

What a word leads to is read from the full text as numbers, added up here, and only the best are looked at as rows:
a row of a large store costs more than a hundred postings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import apsw
import numpy as np
import numpy.typing as npt

from powermem_cli.stores.base import Where, rarity
from powermem_cli.stores.sqlite_counts import EVERYWHERE, Between, Counts, prefix_of
from powermem_cli.stores.sqlite_exact import BREVITY, Scored, holding_any
from powermem_cli.stores.sqlite_lengths import brevities
from powermem_cli.stores.sqlite_rows import meta, quoted
from powermem_cli.stores.sqlite_signatures import Ids, Signatures, leaves_all, rows_of
from powermem_cli.stores.sqlite_where import EVER, Span, compile_where, listed, spans_of

MOST_POSTINGS: Final = 10_000  # that are added up, or one for this
READ_UNCOUNTED: Final = 20_000  # memories of a user: to count postings takes half as long as to read them
POSTINGS_OF: Final = 40  # many memories; what so many hold says little about any of them
ENOUGH: Final = 50  # hits; with fewer, what nearly all hold is asked for too
MOST_RANKED: Final = 600  # memories whose length is looked up, or
RANKED_FOR: Final = 3  # so many times those that are wanted


def matching(
    db: apsw.Connection, counts: Counts, held: Signatures, terms: Sequence[str], where: Where, limit: int
) -> Scored:
    """(id, score) of the best memories that hold any of *terms*, best first, ties by id.

    Exact where *where* asks for more than a time. Else by the rarest words only, and of what those lead to only those
    memories are ranked whose words are worth most, the newest of equals: if that finds enough.
    """
    user = where.scope.user_id
    total, prefix = counts.total(db, user), prefix_of(db, user)
    spans = spans_of(where)
    if spans is not None:
        period = None if spans == EVER else _period(db, held, where, spans)
        found = _quickly(db, counts, held, _Asked(terms, prefix, total, where, limit), period)
        if found is not None:
            return found
    holding = {term: number for term, number in counts.holding(db, terms, prefix).items() if number}
    return holding_any(db, holding, prefix, total, where, limit) if holding else []


class _Asked(NamedTuple):
    terms: Sequence[str]
    prefix: str
    total: int
    where: Where
    limit: int


class _Period(NamedTuple):
    """The memories of a time: between which ids they all are, and which of those whose time is known it is."""

    between: Between
    ids: Ids  # ascending
    within: npt.NDArray[np.bool_]
    waiting: Ids

    def may_hold(self, ids: Ids) -> npt.NDArray[np.bool_]:
        if not len(self.ids):
            return np.ones(len(ids), np.bool_)
        places = np.searchsorted(self.ids, ids, "right") - 1  # the last of several rows for one memory is true
        known = self.ids[places] == ids  # one before the first is the last
        may: npt.NDArray[np.bool_] = ~known | self.within[places] | np.isin(ids, self.waiting)
        return may


def _period(db: apsw.Connection, held: Signatures, where: Where, spans: Sequence[Span]) -> _Period:
    rows = rows_of(db, held, where)
    within = rows.within(spans)
    condition, values = compile_where(where)
    sql = f"SELECT u.id FROM unpacked u CROSS JOIN memories m ON m.id = u.id WHERE {condition}"
    waiting = np.array([id for (id,) in db.execute(sql, values)], np.int64)
    some = np.concatenate((rows.ids[within], waiting))
    between = EVERYWHERE if meta(db, "bare") else (int(some.min()), int(some.max())) if len(some) else (0, 0)
    ids = rows.ids
    if not np.all(ids[1:] > ids[:-1]):
        order = np.argsort(ids, kind="stable")
        ids, within = ids[order], within[order]
    return _Period(between, ids, within, waiting)


def _quickly(
    db: apsw.Connection, counts: Counts, held: Signatures, asked: _Asked, period: _Period | None
) -> Scored | None:
    """None if there may be more than was looked at, and too few were found."""
    terms, prefix, total, where, limit = asked
    most, ranked = max(MOST_POSTINGS, total // POSTINGS_OF), max(MOST_RANKED, RANKED_FOR * limit)
    between = EVERYWHERE if period is None else period.between
    lists = None
    if total <= READ_UNCOUNTED:
        lists = {term: _postings(db, quoted(prefix, term), between) for term in terms}
    there = counts.holding(db, terms, prefix, most + 1, between) if lists is None else _lengths(lists)
    read = _rarest(there, most)
    if lists is None:
        lists = {term: _postings(db, quoted(prefix, term), between) for term in read}
    everywhere = read if period is None else counts.holding(db, list(read), prefix)
    ids, worth = _added_up([lists[term] for term in read], [rarity(everywhere[term], total) for term in read])
    if period is not None:
        may = period.may_hold(ids)
        ids, worth = ids[may], worth[may]
    best = _best(worth, ranked)
    found = _ranked(db, held, ids[best], worth[best], where, limit)
    complete = len(read) == sum(map(bool, there.values())) and len(ids) <= ranked
    # Where the rank ended, those behind it may be what is left: others may have expired.
    return found if complete or len(found) >= min(limit, ENOUGH) else None


def _rarest(holding: Mapping[str, int], most: int) -> dict[str, int]:
    """Of terms and the numbers of memories that hold them those that are worth most, up to *most* together."""
    some: set[str] = set()
    postings = 0
    for term, number in sorted(holding.items(), key=lambda pair: pair[1]):
        postings += number
        if postings > most:
            break
        some.add(term)
    return {term: number for term, number in holding.items() if term in some and number}


def _lengths(lists: Mapping[str, Ids]) -> dict[str, int]:
    return {term: len(ids) for term, ids in lists.items()}


def _added_up(lists: Sequence[Ids], weights: Sequence[float]) -> tuple[Ids, npt.NDArray[np.float64]]:
    """The memories in any of these lists, in ascending order, and what the lists they are in are worth together."""
    if not sum(map(len, lists)):
        return np.empty(0, np.int64), np.empty(0)
    ids, worth = np.concatenate(lists), np.repeat(weights, [*map(len, lists)])
    order = np.argsort(ids, kind="stable")  # merges what is in order already
    ids = ids[order]
    first = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    return ids[first], np.add.reduceat(worth[order], first)


def _postings(db: apsw.Connection, term: str, between: Between) -> Ids:
    sql = "SELECT group_concat(rowid) FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?"
    numbers: Any = next(db.execute(sql, (term, *between)))[0]
    return np.fromstring(numbers, np.int64, sep=",") if numbers else np.empty(0, np.int64)


def _best(worth: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.intp]:
    """The places of the *most* that are worth most, these first, of equals the last first."""
    least = np.partition(worth, -most)[-most] if len(worth) > most else -1.0
    some = np.flatnonzero(worth >= least)
    return some[np.argsort(worth[some], kind="stable")[::-1][:most]]


def _ranked(
    db: apsw.Connection, held: Signatures, ids: Ids, worth: npt.NDArray[np.float64], where: Where, limit: int
) -> Scored:
    """The best of memories that are in the order of what their words are worth. No score is above that: so when enough
    are found those behind are not looked at.
    """
    at_once, unasked = limit + limit // 4, leaves_all(db, where)
    shorter = held.vectors.brevities(db, where.scope.user_id, ids) if unasked else None
    scores = None if shorter is None else worth * shorter
    found: Scored = []
    for start in range(0, len(ids), at_once):
        if len(found) >= limit and found[limit - 1][1] >= worth[start]:
            break
        end = start + at_once
        if scores is not None:
            best = np.lexsort((ids[:end], -scores[:end]))[:limit]
            found = list(zip(ids[best].tolist(), scores[best].tolist(), strict=True))
            continue
        some_worth = dict(zip(ids[start:end].tolist(), worth[start:end].tolist(), strict=True))
        found += _by_size(db, some_worth) if unasked else _by_row(db, some_worth, where)
        found.sort()  # ties by id
        found.sort(key=itemgetter(1), reverse=True)
    return found[:limit]


def _by_size(db: apsw.Connection, worth: Mapping[int, float]) -> Scored:
    return [(id, worth[id] * shorter) for id, shorter in brevities(db, worth)]


def _by_row(db: apsw.Connection, worth: Mapping[int, float], where: Where) -> Scored:
    condition, values = compile_where(where)
    sql = f"SELECT m.id, {BREVITY} FROM carray(?) w CROSS JOIN memories m ON m.id = w.value WHERE {condition}"
    rows: Any = db.execute(sql, (listed(worth), *values)).fetchall()
    try:
        return [(id, worth[id] * shorter) for id, shorter in rows]
    except TypeError as error:
        raise apsw.CorruptError("the length of a memory is none") from error
