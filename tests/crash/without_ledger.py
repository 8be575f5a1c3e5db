"""powermem with its ledger switched off: the checkpoint alone says what is done. What the harness must see through."""

from __future__ import annotations

from collections.abc import Sequence

from powermem_cli.cli import main
from powermem_cli.stores.base import Applied, Change, Insert, LedgerRow, Write
from powermem_cli.stores.sqlite import SqliteStore

apply_with_ledger = SqliteStore.apply


async def know_nothing(store: SqliteStore, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]:
    return {}


async def apply_without_ledger(store: SqliteStore, writes: Sequence[Write]) -> list[Applied]:
    return await apply_with_ledger(store, [Write(tuple(map(blind, write.changes))) for write in writes])


def blind(change: Change) -> Change:
    """Without looking whether the same text is there: that would hide what the ledger is for."""
    return change._replace(unless_known=False) if isinstance(change, Insert) else change


def switch_off() -> None:
    SqliteStore.known = know_nothing  # type: ignore[method-assign]
    SqliteStore.apply = apply_without_ledger  # type: ignore[method-assign]


if __name__ == "__main__":
    switch_off()
    main()
