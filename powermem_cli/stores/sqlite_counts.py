"""How common a word is among somebody's memories: what keyword search weighs words with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from powermem_cli.stores.sqlite_rows import count, meta, quoted, user_number, user_prefix

MANY: Final = 4096
"""Memories of a user from which on they are not counted anew for each search, but only those that were added since."""
USERS_HELD: Final = 4096


class Counts:
    """Counts for one store. Of a user who has MANY memories, an import with older ids than there were is only seen when
    something was deleted since, or by the next process: one word is a little rarer than it was thought to be.
    """

    def __init__(self) -> None:
        self._held: dict[int, tuple[tuple[int, int], int, int]] = {}  # user → what was deleted until then, number, id

    def frequencies(self, db: apsw.Connection, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]:
        """In how many memories of the user (None: of all) each term stands, and how many memories there are."""
        if user_id is None:
            prefix, total = "", int(meta(db, "memories") or 0)
        else:
            number = user_number(db, user_id)
            if number is None:
                return dict.fromkeys(terms, 0), 0
            prefix, total = user_prefix(number), self._total(db, number)
        sql = "SELECT count(*) FROM words WHERE words MATCH ?"
        return {term: count(db, sql, (quoted(prefix, term),)) for term in terms}, total

    def _total(self, db: apsw.Connection, user: int) -> int:
        deleted = int(meta(db, "packings") or 0), count(db, "SELECT count(*) FROM outdated", ())
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
