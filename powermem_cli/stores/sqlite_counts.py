"""How common a word is among somebody's memories: what keyword search weighs words with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from powermem_cli.stores.sqlite_rows import count, meta_number, quoted, user_number, user_prefix

MANY: Final = 4096
"""Memories of a user from which on they are not counted anew for each search, but only those that were added since."""
USERS_HELD: Final = 4096
EVERY: Final = -1
Between = tuple[int, int]
EVERYWHERE: Final[Between] = (-(2**63), 2**63 - 1)

OF_NOBODY_KNOWN: Final = "x·"  # else it is a number that stands there


def prefix_of(db: apsw.Connection, user_id: str | None) -> str:
    """What stands before the terms of that user's memories; of a user who is not known, before none."""
    if user_id is None:
        return ""
    number = user_number(db, user_id)
    return OF_NOBODY_KNOWN if number is None else user_prefix(number)


class Counts:
    """Counts for one store. Of a user who has MANY memories, an import with older ids than there were is only seen when
    something was deleted since, or by the next process: one word is a little rarer than it was thought to be.
    """

    def __init__(self) -> None:
        self._held: dict[int, tuple[int, int, int]] = {}  # user → deletions until then, number, id

    def total(self, db: apsw.Connection, user_id: str | None) -> int:
        """How many memories the user has, None: all together."""
        if user_id is None:
            return meta_number(db, "memories")
        number = user_number(db, user_id)
        return 0 if number is None else self._total(db, number)

    @staticmethod
    def holding(
        db: apsw.Connection, terms: Sequence[str], prefix: str, most: int = EVERY, between: Between = EVERYWHERE
    ) -> dict[str, int]:
        """In how many memories of these ids each term stands behind that user's *prefix*; *most* if there are as many
        or more.
        """
        sql = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? LIMIT ?)"
        return {term: count(db, sql, (quoted(prefix, term), *between, most)) for term in terms}

    def _total(self, db: apsw.Connection, user: int) -> int:
        deleted = meta_number(db, "deletions")
        then, number, highest = self._held.get(user, (deleted, 0, -1))
        if then != deleted:
            number, highest = 0, -1
        sql = "SELECT count(*), max(id) FROM memories WHERE user = ? AND id > ?"
        more, last = next(iter(db.execute(sql, (user, highest))))
        number, highest = number + int(more), highest if last is None else int(last)
        if number >= MANY:
            if len(self._held) >= USERS_HELD:
                self._held.clear()
            self._held[user] = deleted, number, highest
        return number
