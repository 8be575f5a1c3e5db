"""From files to memories: the story of one batch job, told to whoever watches."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

from powermem_cli.accounts import Spent, since
from powermem_cli.ahead import Ahead, is_worth_it
from powermem_cli.batch import Batch, Handful, Item, Limits, Tally, Turn
from powermem_cli.blocks import Block
from powermem_cli.checkpoint import Job, LowWater
from powermem_cli.errors import PowerMemError, UsageError
from powermem_cli.failed import PARKED_AFTER
from powermem_cli.identity import Identity, identify
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Outcome, Record, Rejected, Retried
from powermem_cli.plan import OnChange
from powermem_cli.readers import Input, Position, Reading, as_reject_line, open_input
from powermem_cli.readers.keys import POSITION, at_position, head_of
from powermem_cli.readers.retried import as_retried

MOST_HANDFULS: Final = 32  # in flight
TO_WRITE: Final = 16  # where nobody is asked: the more are written together, the fewer pages of indexes each costs
MOST_JUDGED: Final = 64  # records in flight whose facts an LLM finds: twice the calls that any provider gets at once


@dataclass(frozen=True, slots=True)
class Report:
    """How a job ended. *stop_reason* is "end" only if all input was read; *errors* are what ended it before, and what
    went wrong after that.

    *to_retry* records will be tried again by the next run; *parked* ones have failed too often for that.
    """

    tally: Tally
    stop_reason: str
    seconds: float
    errors: tuple[PowerMemError, ...] = ()
    rejects: Path | None = None
    warnings: tuple[str, ...] = ()
    to_retry: int = 0
    parked: int = 0
    spent: Spent = field(default_factory=dict)

    @property
    def error(self) -> PowerMemError | None:
        """What ended it."""
        return self.errors[0] if self.errors else None


@dataclass
class Ingestion:
    """One run of a job over *inputs* ("-" is *stdin*), after what failed in earlier runs of it. `stop` may be called
    while `run` is under way.

    Raises UsageError if what is set aside would be written over what is read, or if what is read has no positions
    that could be keys.
    """

    memory: AsyncMemory
    inputs: Sequence[str]
    reading: Reading
    job: Job
    limits: Limits = field(default_factory=Limits)
    on_change: OnChange = "update"
    force: bool = False
    resume: bool = True
    stdin: BinaryIO | None = None
    watch: Callable[[Ingestion, Handful], None] = lambda _ingestion, _handful: None
    """Told of each handful once it is durable, together with how far this run has come."""

    def __post_init__(self) -> None:
        self._check_inputs()
        self._low_water = LowWater()
        self._source: Input | None = None
        self._read_before = 0
        self._warnings: list[str] = []
        self._readings: dict[str, Reading] = {}
        self._resumable: set[str] = set()
        self._set_aside = 0
        self._failed_now: dict[Identity, PowerMemError] = {}
        self._damaged: dict[int, bytes] = {}
        self._ahead: Ahead | None = None
        self._batch = Batch(self._items(), self._add, limits=self._limits(), report=self._durable)

    @property
    def bytes_read(self) -> int:
        """Of the files as they lie on disk: compressed bytes of a gzip."""
        return self._read_before + (0 if self._source is None else self._source.consumed)

    @property
    def tally(self) -> Tally:
        return self._batch.tally

    def stop(self, reason: str) -> None:
        """Read no more; what is in flight is finished and kept."""
        self._batch.stop(reason)

    async def run(self) -> Report:
        """Errors that end the run are part of the report; what was done until then is kept."""
        started, before = time.monotonic(), self.memory.usage
        errors: list[PowerMemError] = []
        try:
            await self._batch.run()
        except PowerMemError as caught:
            errors.append(caught)
        finally:
            self._end_ahead()
        try:
            self.job.save(self._low_water.marks, now=True)
            self.job.failed.compact()
        except PowerMemError as caught:
            errors.append(caught)
        parked = self.job.failed.parked
        return Report(
            self.tally,
            self._batch.stop_reason,
            time.monotonic() - started,
            tuple(errors),
            self.job.rejects_path if self._set_aside else None,
            (*self.job.warnings, *self._warnings),
            len(self.job.failed) - parked,
            parked,
            since(before, self.memory.usage),
        )

    def _limits(self) -> Limits:
        """What an LLM judges takes seconds: one by one it ends, is kept and reported, and is soon finished on a stop.
        Where texts are embedded by requests, there are records for all that may be under way, and some to be written.
        """
        limits = self.limits
        if self.memory.keeps_what_is_said or self.reading.infer is False:
            under_way = self.memory.texts_at_once
            wanted = min(under_way // limits.handful + 2, MOST_HANDFULS) if under_way else 0
            wanted = TO_WRITE if self.memory.needs_nobody else wanted
            return replace(limits, concurrency=max(limits.concurrency, wanted))
        return replace(limits, handful=1, concurrency=min(limits.concurrency * limits.handful, MOST_JUDGED))

    def _check_inputs(self) -> None:
        if os.path.realpath(self.job.rejects_path) in map(os.path.realpath, self.inputs):
            raise UsageError(
                f"{self.job.rejects_path} is read, so it can't be where this job keeps its own rejects",
                hint="leave out --job, or name another file with --rejects",
            )
        if self.reading.key == POSITION and (pipes := [name for name in self.inputs if not Path(name).is_file()]):
            raise UsageError(
                f"{'the standard input' if pipes[0] == '-' else pipes[0]} is no file: what comes out of a pipe stands "
                "nowhere, so --key position would not know it again",
                hint="write it to a file first, or name a field with --key",
            )

    def _items(self) -> Iterator[Item | Block]:
        """All records and rejects of all inputs; runs on the reader's thread."""
        yield from self._once_more()
        # All at once: whether anything is resumed decides what becomes of the rejects of earlier runs.
        marks = {name: self.job.resume_at(name) for name in self.inputs if self._resumes and name != "-"}
        for name in self.inputs:
            mark = marks.get(name)
            start = None if mark is None else Position(mark.byte, mark.line)
            with open_input(name, self.reading, start=start, stdin=self.stdin) as source:
                self._source = source
                self._readings[name] = source.reading
                if source.resumable:
                    self._resumable.add(name)
                    self.job.begun(name, source.pieces)
                yield from self._read(source)
                if source.unfinished is not None:
                    self._warnings.append(
                        f"{name}:{source.unfinished.line}: the last line is not whole yet and was left for the next run"
                    )
                self._source, self._read_before = None, self.bytes_read

    def _read(self, source: Input) -> Iterator[Item | Block]:
        """Where records need nobody but us, a process of its own may make them."""
        if self.reading.key == POSITION:
            yield from _at_positions(source)
        elif self.memory.needs_nobody and is_worth_it(source):
            self._ahead = Ahead(source.reading)
            self._ahead.start()
            yield from source.read_ahead(self._ahead.blocks)
            self._end_ahead()
        else:
            yield from source

    def _end_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.close()

    @property
    def _resumes(self) -> bool:
        return self.resume and not self.force

    def _once_more(self) -> Iterator[Item]:
        """What failed in earlier runs. A line that is no longer what it was is set aside for a person to look at."""
        for line in self.job.failed.lines():
            item = as_retried(line, str(self.job.failed.path))
            if isinstance(item, Rejected):
                self._damaged[id(item)] = bytes.fromhex(line["identity"])
            yield item

    async def _add(self, records: Sequence[Record], turn: Turn) -> Sequence[Outcome]:
        if self.job.failed:
            records = [*records]  # each has to be looked at
        outcomes = {id(record): self._given_up(record) for record in records} if self.job.failed else {}
        wanted = [record for record in records if outcomes.get(id(record)) is None] if outcomes else records
        done = await self.memory.add_records(
            wanted, job=self.job.name, on_change=self.on_change, force=self.force, turn=turn
        )
        if len(wanted) == len(records):
            return done
        rest = iter(done)
        return [outcomes[id(record)] or next(rest) for record in records]

    def _given_up(self, record: Record) -> Outcome | None:
        """How a record ends that was tried again in this run already and failed, or failed too often in earlier ones."""
        identity = identify(record)
        error = self._failed_now.get(identity)
        if error is None and self.job.failed.is_parked(identity):
            error = PowerMemError(
                f"this record failed in {PARKED_AFTER} runs and is not tried any more",
                hint=f"powermem jobs retry {self.job.name} tries it again",
                code="job.parked",
            )
        return None if error is None else Outcome(record, "failed", error=error)

    def _durable(self, handful: Handful) -> None:
        by_status, items = handful.by_status, handful.items
        rejected = [item for item in items if isinstance(item, Rejected)] if by_status.get("rejected") else []
        lines = [as_reject_line(item, reading=self._readings.get(item.source.file)) for item in rejected]
        if self.job.failed or by_status.get("failed"):
            lines += [line for outcome in handful.outcomes if (line := self._note(outcome)) is not None]
        self.job.set_aside(lines)
        self._set_aside += len(lines)
        for item in rejected:
            if (key := self._damaged.pop(id(item), None)) is not None:
                self.job.failed.forget(key)
        # Pipes have no place to go on at: to look back into one would take from what is still to be read.
        ends = items[-1:] if isinstance(items, Block) else items
        self._low_water.ended(handful.number, [item for item in ends if self._keeps_its_place(item)])
        self.job.save(self._low_water.marks)
        if self._ahead is not None and handful.outcomes:
            self._ahead.thorough = 2 * by_status.get("unchanged", 0) < len(handful.outcomes)
        self.watch(self, handful)

    def _note(self, outcome: Outcome) -> str | None:
        """Keep in mind what failed, and what does so no longer; returns what is to be set aside."""
        failed, record = self.job.failed, outcome.record
        if outcome.status != "failed":
            if failed:
                failed.forget(identify(record).key)
            return None
        assert outcome.error is not None
        identity = identify(record)
        line = as_reject_line(record, outcome.error)
        if outcome.error.code != "job.parked":
            failed.note(identity, line)
        if not isinstance(record, Retried):
            return line
        self._failed_now[identity] = outcome.error  # the input may hold it too
        return None

    def _keeps_its_place(self, item: Item) -> bool:
        return item.source is not None and item.source.file in self._resumable and not isinstance(item, Retried)


def _at_positions(source: Input) -> Iterator[Item]:
    head = head_of(source.name)
    for item in source:
        yield at_position(item, head) if isinstance(item, Record) else item


def total_bytes(inputs: Sequence[str]) -> int | None:
    """Size of all inputs on disk, None if one of them has no size (a pipe)."""
    sizes = [Path(name).stat().st_size if name != "-" and Path(name).is_file() else None for name in inputs]
    return None if None in sizes else sum(size for size in sizes if size is not None)


async def until_stopped(ingestion: Ingestion, seconds: float | None) -> Report:
    """`run`, but with no new record after *seconds*."""
    if seconds is None:
        return await ingestion.run()
    deadline = asyncio.get_running_loop().call_later(seconds, ingestion.stop, "deadline")
    try:
        return await ingestion.run()
    finally:
        deadline.cancel()
