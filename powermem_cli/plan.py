"""One record on its way into the store: what is known of it, what it holds, what it will write, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from powermem_cli.errors import PowerMemError
from powermem_cli.filters import Filter
from powermem_cli.identity import Identity, digest
from powermem_cli.model import Effect, Outcome, Record, Status, Vector
from powermem_cli.stores.base import Applied, Change, Delete, Insert, Ledger, LedgerRow, Update, Write

OnChange = Literal["update", "skip", "add"]


class Facts(NamedTuple):
    """What one record gives to remember."""

    texts: tuple[str, ...]
    unless_known: bool


class Plan:
    """One record on its way: what is known of it, what it holds, what it will do to the store, how it ended."""

    def __init__(self, record: Record, identity: Identity | None, on_change: OnChange) -> None:
        self.record = record
        self.identity = identity
        self.facts = Facts((), unless_known=False)
        self.vectors: Sequence[Vector] = ()
        self.outcome: Outcome | None = None
        self._on_change = on_change
        self._old: LedgerRow | None = None
        self._error: PowerMemError | None = None
        self._at = 0

    def compare(self, known: Mapping[bytes, LedgerRow]) -> None:
        """With what the ledger says of this record: nothing new, something else, or the first time."""
        row = None if self.identity is None else known.get(self.identity.key)
        self._old = row if row is not None and row.status != "failed" else None
        if self._old is None or self.identity is None:
            return
        if self._old.content == self.identity.content or self._on_change == "skip":
            self._end("unchanged")
        elif self._on_change == "add":
            # The changed record is one of its own from now on: known by its key together with what it says.
            self.identity = Identity(
                digest(self.identity.key.hex() + self.identity.content.hex()), self.identity.content
            )
            self._old = None

    def fail(self, error: PowerMemError) -> None:
        self._error = error
        self._end("failed")

    def write(self, job: str, among: Filter | None, now: int) -> Write:
        """What this record does to the store; a failure leaves only its row in the ledger.

        Not even that where an earlier version was kept: its row says which memories a later one has to replace.
        """
        self._at = now
        failed = self._error is not None
        ledger = None
        if self.identity is not None and not (failed and self._old is not None):
            seen = None if self._old is None else self._old.content
            ledger = Ledger(self.identity.key, self.identity.content, job, now, seen, "failed" if failed else None)
        return Write(() if failed else tuple(self._changes(among, now)), ledger)

    def _changes(self, among: Filter | None, now: int) -> list[Change]:
        record, old = self.record, self._old
        kept = () if old is None else old.memory_ids
        texts = self.facts.texts
        changes: list[Change] = []
        for i, (text, vector) in enumerate(zip(texts, self.vectors, strict=True)):
            if i < len(kept) and kept[i]:
                changes.append(Update(kept[i], now, record.scope, text, vector, digest(text), record.metadata))
                continue
            created_at = now if record.created_at is None else record.created_at
            changes.append(
                Insert(
                    record.scope,
                    text,
                    vector,
                    digest(text),
                    created_at,
                    record.metadata,
                    self.facts.unless_known,
                    among,
                )
            )
        changes += [Delete(id, record.scope) for id in kept[len(texts) :] if id]
        return changes

    def settle(self, applied: Applied) -> None:
        """Take in what the store did."""
        if self.outcome is not None:
            return
        if applied.known is not None:  # another run was first
            self.compare({applied.known.key: applied.known})
            return
        # Deletions come last, and have no text.
        texts = self.facts.texts + ("",) * (len(applied.events) - len(self.facts.texts))
        done = zip(applied.events, texts, strict=True)
        effects = tuple([Effect(event, id, text) for (event, id), text in done if event != "NONE"])
        if effects:
            self._end("updated" if self._old is not None else "added", effects)
        else:
            self._end("duplicate" if applied.events else "no_facts")

    def ended(self) -> Outcome:
        assert self.outcome is not None
        return self.outcome

    def _end(self, status: Status, effects: tuple[Effect, ...] = ()) -> None:
        self.outcome = Outcome(self.record, status, effects, self._error, self._at)
