"""What the length of a memory does to its keyword score, by the sizes that FTS5 keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import apsw

from powermem_cli.stores.base import brevity
from powermem_cli.stores.sqlite_rows import length_told_by
from powermem_cli.stores.sqlite_where import listed


def brevities(db: apsw.Connection, ids: Collection[int]) -> Iterable[tuple[int, float]]:
    """(id, brevity) of those that are there. A page has a thousand sizes, where there are twenty memories."""
    source = "FROM carray(?) w CROSS JOIN words_docsize d ON d.id = w.value"
    # As one row: for each row the lock of all threads is let go of and waited for.
    sql = f"SELECT CAST(group_concat(d.sz, '') AS BLOB), count(*) {source}"
    sizes, number = next(db.execute(sql, (listed(ids),)))
    if isinstance(sizes, bytes) and len(sizes) == number == len(ids):
        return zip(ids, map(_BREVITIES.__getitem__, sizes), strict=True)
    each: Any = db.execute(f"SELECT d.id, d.sz {source}", (listed(ids),)).fetchall()
    return [(id, brevity(length_told_by(size))) for id, size in each]


_BREVITIES: Final = [brevity(length_told_by(bytes((size,)))) for size in range(256)]
