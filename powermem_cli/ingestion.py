"""From files to memories: the story of one batch job, told to whoever watches."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from powermem_cli.batch import Batch, Handful, Item, Limits, Tally
from powermem_cli.checkpoint import Job, LowWater
from powermem_cli.errors import PowerMemError, UsageError
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Outcome, Record, Rejected
from powermem_cli.plan import OnChange
from powermem_cli.readers import Input, Position, Reading, as_reject_line, open_input


@dataclass(frozen=True, slots=True)
class Report:
    """How a job ended. *stop_reason* is "end" only if all input was read; *error* is what ended it before."""

    tally: Tally
    stop_reason: str
    seconds: float
    error: PowerMemError | None = None
    rejects: Path | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class Ingestion:
    """One run of a job over *inputs* ("-" is *stdin*). `stop` may be called while `run` is under way.

    Raises UsageError if what is set aside would be written over what is read.
    """

    memory: AsyncMemory
    inputs: Sequence[str]
    reading: Reading
    job: Job
    limits: Limits = field(default_factory=Limits)
    on_change: OnChange = "update"
    resume: bool = True
    stdin: BinaryIO | None = None
    watch: Callable[[Ingestion, Handful], None] = lambda _ingestion, _handful: None
    """Told of each handful once it is durable, together with how far this run has come."""

    def __post_init__(self) -> None:
        if os.path.realpath(self.job.rejects_path) in map(os.path.realpath, self.inputs):
            raise UsageError(
                f"{self.job.rejects_path} is read, so it can't be where this job keeps its own rejects",
                hint="leave out --job, or name another file with --rejects",
            )
        self._low_water = LowWater()
        self._source: Input | None = None
        self._read_before = 0
        self._warnings: list[str] = []
        self._readings: dict[str, Reading] = {}
        self._resumable: set[str] = set()
        self._set_aside = 0
        self._batch = Batch(self._items(), self._add, limits=self.limits, report=self._durable)

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
        started = time.monotonic()
        error: PowerMemError | None = None
        try:
            await self._batch.run()
        except PowerMemError as caught:
            error = caught
        try:
            self.job.save(self._low_water.marks, now=True)
        except PowerMemError as caught:
            error = error or caught
        return Report(
            self.tally,
            self._batch.stop_reason,
            time.monotonic() - started,
            error,
            self.job.rejects_path if self._set_aside else None,
            (*self.job.warnings, *self._warnings),
        )

    def _items(self) -> Iterator[Item]:
        """All records and rejects of all inputs; runs on the reader's thread."""
        # All at once: whether anything is resumed decides what becomes of the rejects of earlier runs.
        marks = {name: self.job.resume_at(name) for name in self.inputs if self.resume and name != "-"}
        for name in self.inputs:
            mark = marks.get(name)
            start = None if mark is None else Position(mark.byte, mark.line)
            with open_input(name, self.reading, start=start, stdin=self.stdin) as source:
                self._source = source
                self._readings[name] = source.reading
                if source.resumable:
                    self._resumable.add(name)
                    self.job.begun(name)
                yield from source
                if source.unfinished is not None:
                    self._warnings.append(
                        f"{name}:{source.unfinished.line}: the last line is not whole yet and was left for the next run"
                    )
                self._source, self._read_before = None, self.bytes_read

    async def _add(self, records: Sequence[Record]) -> list[Outcome]:
        return await self.memory.add_records(records, job=self.job.name, on_change=self.on_change)

    def _durable(self, handful: Handful) -> None:
        rejected = [item for item in handful.items if isinstance(item, Rejected)]
        lines = [as_reject_line(item, reading=self._readings.get(item.source.file)) for item in rejected]
        lines += [as_reject_line(o.record, o.error) for o in handful.outcomes if o.status == "failed"]
        self._set_aside += len(lines)
        self.job.set_aside(lines)
        # Pipes have no place to go on at: to look back into one would take from what is still to be read.
        self._low_water.ended(handful.number, [item for item in handful.items if self._keeps_its_place(item)])
        self.job.save(self._low_water.marks)
        self.watch(self, handful)

    def _keeps_its_place(self, item: Item) -> bool:
        return item.source is not None and item.source.file in self._resumable


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
