"""Searches by SQL alone, which look at every memory.

Right for few, and for the first questions of a process: numpy takes longer to load than ten thousand memories to look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import apsw

from powermem_cli.model import Vector
from powermem_cli.stores.base import TYPICAL_LENGTH, Where, rarity
from powermem_cli.stores.sqlite_counts import Counts, prefix_of
from powermem_cli.stores.sqlite_rows import quoted
from powermem_cli.stores.sqlite_where import compile_where, listed

BREVITY: Final = f"min(1.0, 2.2 / (1 + 1.2 * (0.25 + 0.75 * m.length / {TYPICAL_LENGTH})))"
Scored = list[tuple[int, float]]
"""(id, distance or score)"""


def nearest(db: apsw.Connection, vector: Vector, where: Where, limit: int, and_of: Sequence[int]) -> Scored:
    """(id, distance) as `nearest` of the signatures."""
    return cut(compared(db, vector, *compile_where(where)), limit, and_of)


def matching(db: apsw.Connection, counts: Counts, terms: Sequence[str], where: Where, limit: int) -> Scored:
    """(id, score) of the best memories that hold any of *terms*, best first, ties by id."""
    user = where.scope.user_id
    prefix = prefix_of(db, user)
    holding = {term: number for term, number in counts.holding(db, terms, prefix).items() if number}
    return holding_any(db, holding, prefix, counts.total(db, user), where, limit) if holding else []


def compared(db: apsw.Connection, vector: Vector, condition: str, values: Sequence[Any]) -> Scored:
    """(id, distance) of all that the condition leaves, best first, ties by id; a distance that is none comes first."""
    sql = f"""SELECT e.id, vec_distance_l2(e.vector, ?) AS distance FROM memories m CROSS JOIN embeddings e ON e.id = m.id
        WHERE {condition} ORDER BY distance, e.id"""
    return cast("Scored", db.execute(sql, (vector, *values)).fetchall())


def cut(found: Scored, limit: int, and_of: Sequence[int]) -> Scored:
    """The first *limit*, and behind them those of the ids *and_of* that are not among them."""
    more = set(and_of)
    return found[:limit] + [pair for pair in found[limit:] if pair[0] in more]


def among(ids: Sequence[int], condition: str, values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """The condition, and to be one of these."""
    return f"{condition} AND m.id IN (SELECT value FROM carray(?))", (*values, listed(ids))


def holding_any(
    db: apsw.Connection, holding: Mapping[str, int], prefix: str, total: int, where: Where, limit: int
) -> Scored:
    """(id, score) by all words, each with the number of memories that hold it, of *total*."""
    condition, values = compile_where(where)
    each = " UNION ALL ".join(["SELECT rowid AS id, ? AS worth FROM words WHERE words MATCH ?"] * len(holding))
    sql = f"""
        SELECT m.id, t.worth * {BREVITY} AS score
        FROM (SELECT id, sum(worth) AS worth FROM ({each}) GROUP BY id) t CROSS JOIN memories m ON m.id = t.id
        WHERE {condition} ORDER BY score DESC, m.id LIMIT ?"""
    postings = [part for term, n in holding.items() for part in (rarity(n, total), quoted(prefix, term))]
    return cast("Scored", db.execute(sql, (*postings, *values, limit)).fetchall())
