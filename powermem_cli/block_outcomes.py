"""How the records of a block ended: counted at once, and told of each when somebody asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple, overload

from powermem_cli.blocks import Block
from powermem_cli.model import Cost, Effect, Event, Outcome, Record, Status
from powermem_cli.stores.base import Applied, LedgerRow


class Sums(NamedTuple):
    """What became of many records: how many ended how, how many memories they left, how many of them had no time, and
    those that failed.
    """

    by_status: Mapping[Status, int]
    memories: int
    undated: int
    failed: Sequence[Record]


class BlockOutcomes(Sequence[Outcome]):
    """One Outcome per record, in order. *statuses* has None where it is one of *rest*, which come in order."""

    def __init__(
        self,
        block: Block,
        statuses: Sequence[Status | None],
        events: Sequence[tuple[Event, int]],
        at: int,
        begun: float,
    ) -> None:
        self._block = block
        self._statuses = statuses
        self._events = events
        """Of all records one behind another: one for each text of those that are "added" or "duplicate"."""
        self._at = at
        self._cost = Cost(round((time.monotonic() - begun) * 1000))
        self._rest: Sequence[Outcome] = ()
        self._whole: list[Outcome] | None = None

    @classmethod
    def of(cls, block: Block, applied: Applied, at: int, begun: float) -> BlockOutcomes:
        """Of a block that was written in this way."""
        if not applied.each:
            statuses: Sequence[Status | None] = ["added" if texts else "no_facts" for texts in block.columns.texts]
            return cls(block, statuses, applied.events, at, begun)
        pairs = zip(applied.each, block.columns.contents, strict=True)
        statuses = [_status_of(one, content) for one, content in pairs]
        return cls(block, statuses, [*chain.from_iterable([one.events for one in applied.each])], at, begun)

    @classmethod
    def of_known(cls, block: Block, known: Mapping[bytes, LedgerRow], begun: float) -> BlockOutcomes:
        """Of a block of which the ledger knows so much."""
        rows = [known.get(key) for key in block.columns.keys]
        pairs = zip(rows, block.columns.contents, strict=True)
        return cls(block, [_known_status(row, content) for row, content in pairs], (), 0, begun)

    @property
    def open(self) -> list[int]:
        """The places of those records that have not ended yet: something else is known of them."""
        return [place for place, status in enumerate(self._statuses) if status is None]

    def with_rest(self, rest: Sequence[Outcome]) -> BlockOutcomes:
        """Together with those of the `open` ones."""
        self._rest = rest
        return self

    @property
    def sums(self) -> Sums:
        of_rest = sums_of(self._rest)
        by_status = Counter(status for status in self._statuses if status is not None)
        by_status.update(of_rest.by_status)
        memories = sum([event == "ADD" for event, _ in self._events]) + of_rest.memories
        return Sums(by_status, memories, self._block.columns.created_at.count(None), of_rest.failed)

    def __len__(self) -> int:
        return len(self._block)

    @overload
    def __getitem__(self, place: int) -> Outcome: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Outcome]: ...
    def __getitem__(self, place: int | slice) -> Outcome | Sequence[Outcome]:
        if self._whole is None:
            self._whole = self._made()
        return self._whole[place]

    def _made(self) -> list[Outcome]:
        events, rest = iter(self._events), iter(self._rest)
        made = []
        for record, status in zip(self._block, self._statuses, strict=True):
            if status is None:
                made.append(next(rest))
                continue
            effects: tuple[Effect, ...] = ()
            if record.worked_out is not None and status != "unchanged":
                texts = record.worked_out.texts
                pairs = zip(islice(events, len(texts)), texts, strict=True)
                effects = tuple([Effect(event, id, text) for (event, id), text in pairs if event != "NONE"])
            made.append(Outcome(record, status, effects, None, self._at, (), self._cost))
        return made


def sums_of(outcomes: Sequence[Outcome]) -> Sums:
    if isinstance(outcomes, BlockOutcomes):
        return outcomes.sums
    return Sums(
        Counter([outcome.status for outcome in outcomes]),
        sum([effect.event == "ADD" for outcome in outcomes for effect in outcome.effects]),
        sum([outcome.record.created_at is None for outcome in outcomes]),
        [outcome.record for outcome in outcomes if outcome.status == "failed"],
    )


def _status_of(applied: Applied, content: bytes) -> Status | None:
    """None if another run, or an earlier record, left something else under that key."""
    if applied.known is not None:
        return _known_status(applied.known, content)
    if not applied.events:
        return "no_facts"
    return "added" if any(event == "ADD" for event, _ in applied.events) else "duplicate"


def _known_status(row: LedgerRow | None, content: bytes) -> Status | None:
    return "unchanged" if row is not None and row.status != "failed" and row.content == content else None
