"""One record on its way into the store: what is known of it, what it holds, what it will write, how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from powermem_cli.errors import PowerMemError
from powermem_cli.filters import Filter
from powermem_cli.identity import Identity, digest, turns_heard
from powermem_cli.model import Cost, Decision, Effect, Event, Origin, Outcome, Record, Status, Vector
from powermem_cli.stores.base import Applied, Change, Delete, Insert, Ledger, LedgerRow, LedgerStatus, Update, Write
from powermem_cli.terms import distinct_terms

OnChange = Literal["update", "skip", "add"]


class Facts(NamedTuple):
    """What one record gives to remember."""

    texts: tuple[str, ...]
    unless_known: bool
    role: str | None = None
    """Who said them, where it was one of them."""


NOTHING: Final = Facts((), unless_known=False)


def said(record: Record) -> Facts:
    """What to remember of a record, when no LLM is there to say it in its own words."""
    if record.worked_out is not None:
        _, _, texts, unless_known, role, *_ = record.worked_out
        return Facts(texts, unless_known, role)
    if record.memory is not None:
        return Facts((record.memory,), unless_known=record.infer is not False)
    if record.infer is False:
        turns = [message.content for message in record.messages if message.role != "system"]
        return Facts(("\n".join(turns),) if turns else (), unless_known=False)
    turns = [message.content for message in record.messages if message.role == "user"]
    return Facts(tuple(dict.fromkeys(turns)), unless_known=True, role="user")


_FREE: Final = Cost()
_NOBODY_LOOKED: Final[Mapping[int, str]] = {}


class Plan:
    """One record on its way: what is known of it, what it holds, what it will do to the store, how it ended."""

    __slots__ = (
        "_at",
        "_begun",
        "_error",
        "_force",
        "_old",
        "_on_change",
        "_there",
        "among",
        "asked",
        "decided",
        "facts",
        "identity",
        "notes",
        "outcome",
        "record",
        "vectors",
    )

    def __init__(
        self,
        record: Record,
        identity: Identity | None = None,
        on_change: OnChange = "update",
        force: bool = False,
        among: Filter | None = None,
    ) -> None:
        self.record = record
        self.identity = identity
        self.among = among
        """What is known already is looked for only among these."""
        self.facts = NOTHING
        self.vectors: Sequence[Vector] = ()
        self.decided: Sequence[Decision] | None = None
        """What an LLM made of the facts; None if it was not asked."""
        self.notes: tuple[str, ...] = ()
        self.asked = _FREE
        """What an LLM was asked for it."""
        self.outcome: Outcome | None = None
        self._on_change = on_change
        self._force = force
        self._there: Mapping[int, str] = _NOBODY_LOOKED
        self._old: LedgerRow | None = None
        self._error: PowerMemError | None = None
        self._at = 0
        self._begun = time.monotonic()

    def compare(self, known: Mapping[bytes, LedgerRow]) -> None:
        """With what the ledger says of this record: nothing new, something else, or the first time."""
        if self.identity is None:
            return
        row = known.get(self.identity.key)
        self._old = row if row is not None and row.status != "failed" else None
        if self._old is None:
            return
        if self._old.content == self.identity.content:
            if not self._force:
                self._end("unchanged")
        elif self._on_change == "skip":
            self._end("unchanged")
        elif self._on_change == "add":
            # The changed record is one of its own from now on: known by its key together with what it says.
            self.identity = Identity(
                digest(self.identity.key.hex() + self.identity.content.hex()), self.identity.content
            )
            self._old = None

    @property
    def kept(self) -> tuple[int, ...]:
        """The memories that an earlier version of this record left, 0 for one that was known from elsewhere."""
        return () if self._old is None or self.outcome is not None else self._old.memory_ids

    @property
    def turns_heard(self) -> int:
        """How many turns of this conversation were there already when it was last added."""
        return 0 if self._old is None or self._force else turns_heard(self.record, self._old.content)

    def look_at(self, there: Mapping[int, str]) -> None:
        """*there*: the texts of those memories that nobody has deleted since."""
        self._there = there

    def fail(self, error: PowerMemError) -> None:
        self._error = error
        self._end("failed")

    def write(self, job: str, now: int) -> Write:
        """What this record does to the store; a failure leaves only its row in the ledger.

        Not even that where an earlier version was kept: its row says which memories a later one has to replace.
        """
        self._at = now
        failed = self._error is not None
        ledger = None
        if self.identity is not None and not (failed and self._old is not None):
            seen = None if self._old is None else self._old.content
            ledger = Ledger(self.identity.key, self.identity.content, job, now, seen, self._ledger_status())
        return Write(() if failed else tuple(self._changes(job, now)), ledger)

    def _ledger_status(self) -> LedgerStatus | None:
        if self._error is not None:
            return "failed"
        return "done" if self.decided is not None and self.facts.texts else None  # though nothing may have changed

    def _changes(self, job: str, now: int) -> Sequence[Change]:
        if self.decided is not None:
            return [self._decided_change(decision, job, now) for decision in self.decided]
        record, texts = self.record, self.facts.texts
        scope, metadata, worked_out = record.scope, record.metadata, record.worked_out
        if worked_out is None:
            digests, terms = tuple(map(digest, texts)), tuple(map(distinct_terms, texts))
        else:
            digests, terms = worked_out.digests, worked_out.terms
        created_at = now if record.created_at is None else record.created_at
        unless_known, origin, expires_at = self.facts.unless_known, self._origin(job), record.expires_at
        new = [
            Insert(
                scope,
                text,
                vector,
                its,
                created_at,
                metadata,
                unless_known,
                self.among,
                None,
                origin,
                expires_at,
                None,
                found,
            )
            for text, vector, its, found in zip(texts, self.vectors, digests, terms, strict=True)
        ]
        if not self.kept:
            return new
        changes: list[Change] = []
        places, left = self._places(texts)
        for place, insert in zip(places, new, strict=True):
            if place:
                only_new = unless_known and self._there.get(place) != insert.text
                about = (insert.digest, metadata, only_new, origin, expires_at)
                changes.append(Update(place, now, scope, insert.text, insert.vector, *about))
            else:
                changes.append(insert)
        changes += [Delete(id, record.scope) for id in left]
        return changes

    def _decided_change(self, decision: Decision, job: str, now: int) -> Change:
        record, text = self.record, decision.text
        if decision.event == "DELETE":
            return Delete(decision.id, record.scope)
        about = (decision.vector, digest(text))
        origin = self._origin(job)
        if decision.event == "UPDATE":
            return Update(
                decision.id, now, record.scope, text, *about, record.metadata, True, origin, record.expires_at
            )
        return Insert(
            record.scope,
            text,
            *about,
            now if record.created_at is None else record.created_at,
            record.metadata,
            unless_known=True,
            among=self.among,
            origin=origin,
            expires_at=record.expires_at,
            terms=distinct_terms(text),
        )

    def _origin(self, job: str) -> Origin | None:
        source = self.record.source
        if source is None:
            return Origin(job, role=self.facts.role) if job else None
        return Origin(job, as_text(source.file), source.line, self.facts.role)

    def _places(self, texts: Sequence[str]) -> tuple[list[int], list[int]]:
        """For each text the memory to write it to, 0 for a new one; and the memories that nothing is written to.

        What a memory says already stays in it. Another text takes the memory that had its place: if somebody deleted
        that one it stays deleted, but for *force*.
        """
        kept = self.kept
        if self._force:
            kept = tuple([id if id in self._there else 0 for id in kept])
        said = {self._there[id]: id for id in reversed(kept) if id in self._there}
        places = [said.pop(text, 0) for text in texts]
        used = {*places}
        for i, (place, id) in enumerate(zip(places, kept, strict=False)):
            if not place and id not in used:
                places[i] = id
                used.add(id)
        return places, [id for id in kept if id and id not in used]

    def settle(self, applied: Applied) -> None:
        """Take in what the store did."""
        if self.outcome is not None:
            return
        if applied.known is not None:  # another run was first
            self.compare({applied.known.key: applied.known})
            return
        if self.decided is not None:
            self._settle_decided(self.decided, applied)
            return
        events, texts = applied.events, self.facts.texts
        # Deletions come last, and have no text.
        texts += ("",) * (len(events) - len(texts))
        effects = tuple(
            [
                Effect(event, id, "" if event == "DELETE" else text)
                for (event, id), text in zip(events, texts, strict=True)
                if event != "NONE"
            ]
        )
        if effects:
            comes_back = self._force and all(effect.event == "ADD" for effect in effects)
            self._end("added" if self._old is None or comes_back else "updated", effects)
        else:
            self._end("duplicate" if applied.events else "no_facts")

    def _settle_decided(self, decided: Sequence[Decision], applied: Applied) -> None:
        done = zip(applied.events, decided, strict=True)
        effects = tuple([_effect(event, id, decision) for (event, id), decision in done if event != "NONE"])
        if effects:
            self._end("added" if any(effect.event == "ADD" for effect in effects) else "updated", effects)
        else:
            self._end("duplicate" if self.facts.texts else "no_facts")

    def ended(self) -> Outcome:
        assert self.outcome is not None
        return self.outcome

    def _end(self, status: Status, effects: tuple[Effect, ...] = ()) -> None:
        cost = Cost(round((time.monotonic() - self._begun) * 1000), *self.asked[1:])
        self.outcome = Outcome(self.record, status, effects, self._error, self._at, self.notes, cost)


@lru_cache(maxsize=64)
def as_text(file: str) -> str:
    """A name that is no UTF-8 can't be kept as it is."""
    return file.encode("utf-8", "backslashreplace").decode()


def _effect(event: Event, id: int, decision: Decision) -> Effect:
    """An update to what another memory says already has become a deletion."""
    if event == "DELETE":
        return Effect(event, id, decision.previous or "")
    return Effect(event, id, decision.text, decision.previous)
