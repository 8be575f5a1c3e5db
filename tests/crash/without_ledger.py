"""powermem with its ledger switched off: the checkpoint alone says what is done. What the harness must see through."""

from __future__ import annotations

from collections.abc import Sequence

from powermem_cli.cli import main
from powermem_cli.stores.base import Applied, BlockWrite, Change, Insert, LedgerRow, Write, as_asked, one_by_one
from powermem_cli.stores.sqlite import SqliteStore

apply_with_ledger = SqliteStore.apply


async def know_nothing(store: SqliteStore, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]:
    return {}


async def apply_without_ledger(store: SqliteStore, writes: Sequence[Write | BlockWrite]) -> list[Applied]:
    alone = [Write(tuple(map(blind, write.changes))) for write in one_by_one(writes)]
    return as_asked(writes, await apply_with_ledger(store, alone))


def blind(change: Change) -> Change:
    """Without looking whether the same text is there: that would hide what the ledger is for."""
    return change._replace(unless_known=False) if isinstance(change, Insert) else change


def switch_off() -> None:
    SqliteStore.known = know_nothing  # type: ignore[method-assign]
    SqliteStore.apply = apply_without_ledger  # type: ignore[method-assign]


if __name__ == "__main__":
    switch_off()
    main()
