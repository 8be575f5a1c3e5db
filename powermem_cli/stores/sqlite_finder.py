"""Which row of an SQLite store holds a key of the ledger, and which memories of a scope say the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import apsw

from powermem_cli.stores.base import LedgerRow
from powermem_cli.stores.sqlite_numbers import ScopeNumbers
from powermem_cli.stores.sqlite_packs import DIGESTS, LEDGER
from powermem_cli.stores.sqlite_rows import SELECT_LEDGER, in_chunks, ledger_row_of

if TYPE_CHECKING:
    from powermem_cli.stores.sqlite_hashes import Hashes


class Finder:
    """Looks up by hashes. Safe to use from several threads, each with its own connection to one store."""

    def __init__(self) -> None:
        self._hashes: Hashes | None = None

    def forget(self) -> None:
        """After a rollback: what was read in that transaction may have been its own."""
        self._hashes = None

    def ledger(self, db: apsw.Connection, keys: Sequence[bytes]) -> dict[bytes, tuple[int, LedgerRow]]:
        """Of those keys that are known the row and its number."""
        found: dict[bytes, tuple[int, LedgerRow]] = {}
        if keys:
            wanted = {*keys}
            hashes = self._held()
            for marks, some in in_chunks(hashes.find(db, LEDGER, hashes.of_keys(keys))):
                rows: Any = db.execute(f"{SELECT_LEDGER} WHERE number IN ({marks})", some)
                found.update({row[1]: (row[0], ledger_row_of(row)) for row in rows if row[1] in wanted})
        return found

    def holding(self, db: apsw.Connection, digests: Sequence[bytes], whose: Sequence[ScopeNumbers]) -> list[int]:
        """The ids of memories that may have one of these digests, each in its scope; whoever reads them has to look."""
        if not digests:
            return []
        hashes = self._held()
        return hashes.find(db, DIGESTS, hashes.of_texts(digests, whose))

    def keep_keys(self, db: apsw.Connection, keys: Sequence[bytes], numbers: Sequence[int]) -> None:
        """From the end of this transaction on, find these rows of the ledger."""
        if keys:
            hashes = self._held()
            hashes.keep_all(db, LEDGER, hashes.of_keys(keys), numbers)

    def keep_digests(
        self, db: apsw.Connection, digests: Sequence[bytes], whose: Sequence[ScopeNumbers], ids: Sequence[int]
    ) -> None:
        """From the end of this transaction on, find these memories."""
        if digests:
            hashes = self._held()
            hashes.keep_all(db, DIGESTS, hashes.of_texts(digests, whose), ids)

    def _held(self) -> Hashes:
        if self._hashes is None:
            from powermem_cli.stores.sqlite_hashes import Hashes  # noqa: PLC0415 - it loads numpy

            self._hashes = Hashes()
        return self._hashes
