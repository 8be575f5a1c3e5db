"""What `powermem add` does with its options: remember one text, run a job over many records, or only look."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, cast

from powermem_cli.cli.exits import Exit, die_of
from powermem_cli.cli.session import Run
from powermem_cli.errors import Locked, StoreError, UsageError

if TYPE_CHECKING:
    from powermem_cli.checkpoint import Job
    from powermem_cli.estimates import Estimate
    from powermem_cli.ingestion import Report
    from powermem_cli.output.progress import Mode
    from powermem_cli.plan import OnChange
    from powermem_cli.readers import Reading

POLL: Final = 0.1  # seconds between two looks at a lock that is waited for
MOST_PIPES: Final = 64  # at once into one store

IfLocked = Literal["fail", "wait", "skip"]


@dataclass(frozen=True, kw_only=True)
class AddOptions:
    """What the command line said about a job, checked."""

    scope: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] | None = None
    infer: bool | None = None
    format: str = "auto"
    encoding: str | None = None
    delimiter: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    key: str = "auto"
    on_change: OnChange = "update"
    force: bool = False
    concurrency: int = 4
    handful: int = 512
    records: int | None = None
    failures: float | None = 0.2
    deadline: float | None = None
    checkpoint: Path | None = None
    job: str | None = None
    rejects: Path | None = None
    resume: bool = True
    if_locked: IfLocked = "fail"
    revive: bool = False
    progress: Mode = "auto"

    @property
    def reading(self) -> Reading:
        from powermem_cli.readers import Reading  # noqa: PLC0415 - `--help` does without
        from powermem_cli.rules import check_scope  # noqa: PLC0415

        return Reading(
            format=self.format,
            encoding=self.encoding,
            delimiter=self.delimiter,
            mapping=self.mapping,
            scope=check_scope(**self.scope),
            metadata=self.metadata or {},
            infer=self.infer,
            key=self.key,
        )


def add_text(run: Run, text: str, options: AddOptions, *, dry_run: bool) -> Exit | None:
    from powermem_cli.rules import check_metadata, check_scope, check_text  # noqa: PLC0415 - `--help` does without

    check_text(text, "the text")
    check_metadata(options.metadata)
    check_scope(**options.scope)
    if dry_run:
        run.note("dry run: this would be remembered, unless it is known")
        run.show_done([], {"dry_run": True, "results": []})
        return None

    async def work(memory: Any) -> list[dict[str, Any]]:
        answer = await memory.add(text, **options.scope, metadata=options.metadata, infer=options.infer is not False)
        added: list[dict[str, Any]] = answer["results"]
        return added

    added = run.with_memory(work)
    run.show_done(added)
    if not added:
        run.note("known already: nothing was added")
    return None


def only_look(run: Run, inputs: Sequence[str], options: AddOptions) -> Exit:
    """Read everything, call nothing."""
    from powermem_cli.accounts import as_json  # noqa: PLC0415
    from powermem_cli.estimates import Estimate  # noqa: PLC0415
    from powermem_cli.model import Record  # noqa: PLC0415 - `--help` does without
    from powermem_cli.readers import open_input  # noqa: PLC0415

    estimate = Estimate(run.settings.config)
    read = rejected = 0
    for name in inputs:
        with open_input(name, options.reading, stdin=_binary(run.stdin)) as source:
            for item in source:
                read += 1
                if isinstance(item, Record):
                    estimate.add(item)
                else:
                    rejected += 1
                    run.note(f"{item.source.file}:{item.source.line}: {item.message}")
    code = Exit.PARTIAL if rejected else Exit.DONE
    if run.form == "auto":
        run.note(f"dry run: {read:,} read, {rejected:,} would be rejected; nothing was added{_guessed(estimate)}")
    else:
        summary = {"type": "summary", "dry_run": True, "read": read, "rejected": rejected}
        summary |= {"not_started": read - rejected, **as_json(estimate.spent), "seconds": estimate.seconds}
        run.write_json({**summary, "stop_reason": "end", "exit_code": int(code)})
    return code


def _guessed(estimate: Estimate) -> str:
    from powermem_cli.accounts import in_words  # noqa: PLC0415

    if not estimate.spent:
        return ""
    pace = "" if estimate.seconds is None else f", {estimate.seconds:,.0f} s at the calls a minute that are allowed"
    return f"\n  it would take about {in_words(estimate.spent)}{pace}"


def ingest(run: Run, inputs: Sequence[str], options: AddOptions) -> Exit:
    """Run a job over *inputs*, to its end or to what ends it before. Raises Locked, UsageError."""
    from powermem_cli.cli.places import check_places  # noqa: PLC0415 - `--help` does without

    check_places(inputs, options.checkpoint, options.rejects)
    try:
        return run.with_memory(lambda memory: _Ingesting(run, inputs, options, memory).job())
    except Locked as error:
        if options.if_locked != "skip":
            raise
        run.note(f"skipped: {error.message}")
        if run.form != "auto":
            run.write_json({"type": "summary", "read": 0, "stop_reason": "locked", "exit_code": int(Exit.DONE)})
        return Exit.DONE


class _Ingesting:
    """One run of a job with an opened memory."""

    def __init__(self, run: Run, inputs: Sequence[str], options: AddOptions, memory: Any) -> None:
        from powermem_cli.cli.add_report import Reporter  # noqa: PLC0415 - `--help` does without
        from powermem_cli.ingestion import total_bytes  # noqa: PLC0415

        self._run = run
        self._inputs = inputs
        self._options = options
        self._memory = memory
        self._reading = options.reading
        self._total = total_bytes(inputs)
        self._reporter = Reporter(run, self._total, options.progress)
        self._give_up_at = math.inf if options.deadline is None else time.monotonic() + options.deadline

    async def job(self) -> Exit:
        store_id = await self._memory.store_identity()
        with ExitStack() as stack:
            job = await self._entered(stack, store_id)
            if self._options.revive:
                job.failed.revive()
            if not self._memory.needs_nobody and job.bytes_read != self._total:
                await self._memory.initialize()  # all of it: there is something to do
            report, caught = await self._ingest_in(job)
            if isinstance(report.error, UsageError) and not report.tally.read:
                raise report.error
            report, summary = _kept(job, report, caught)
        says_no_llm = self._memory.keeps_what_is_said and self._reading.infer is not False
        self._reporter.summary(report, summary, says_no_llm=says_no_llm)
        if caught is not None:
            await self._run.keep_account(self._memory)
            await self._memory.close()
            die_of(caught)
        return Exit(summary["exit_code"])

    async def _entered(self, stack: ExitStack, store_id: str) -> Job:
        """The job's folder, once it is ours. Raises Locked."""
        import asyncio  # noqa: PLC0415

        names = self._names(store_id)
        name, is_first = next(names), True
        while True:
            try:
                return stack.enter_context(self._job_of(name, store_id))
            except Locked as error:
                further = next(names, None)
                if further is None and (self._options.if_locked != "wait" or time.monotonic() >= self._give_up_at):
                    raise
                if further is None and is_first:
                    self._run.note(f"waiting: {error.message}")
                    is_first = False
            if further is None:
                await asyncio.sleep(POLL)
            else:
                name = further

    def _names(self, store_id: str) -> Iterator[str]:
        """The name of the job. What comes from pipes is no job that could be resumed, so of several at once each takes
        a folder of its own; unless the lock is what is asked for.
        """
        from powermem_cli.checkpoint import check_job_name, job_name  # noqa: PLC0415

        job = self._options.job
        name = job_name(self._inputs, store_id) if job is None else check_job_name(job)
        yield name
        if job is None and list(self._inputs) == ["-"] and self._options.if_locked == "fail":
            yield from (f"{name}-{number}" for number in range(2, MOST_PIPES + 1))

    def _job_of(self, name: str, store_id: str) -> Job:
        from powermem_cli.checkpoint import Job  # noqa: PLC0415
        from powermem_cli.paths import state_folder  # noqa: PLC0415

        options = self._options
        return Job(
            state_folder(self._run.environ) / "jobs" / name,
            name,
            store_id,
            repr(self._reading),
            checkpoint=options.checkpoint,
            rejects=options.rejects,
            keeps_rejects=self._total is None or options.revive,
            command=shlex.join(["powermem", *sys.argv[1:]]),
            about=None if options.revive else self._about(),
        )

    def _about(self) -> dict[str, Any]:
        """What `jobs` has to know: where the memories went (a server's address may hold a password), and from where."""
        store = self._run.settings.config.vector_store
        database = os.path.realpath(store.options["path"]) if store.provider == "sqlite" else None
        inputs = [name if name == "-" else os.path.realpath(name) for name in self._inputs]
        return {"provider": store.provider, "database": database, "inputs": inputs}

    async def _ingest_in(self, job: Job) -> tuple[Report, int | None]:
        """The report, and the signal that was caught meanwhile."""
        from powermem_cli.batch import Limits  # noqa: PLC0415
        from powermem_cli.cli.signals import Signals  # noqa: PLC0415
        from powermem_cli.ingestion import Ingestion, until_stopped  # noqa: PLC0415

        options = self._options
        ingestion = Ingestion(
            self._memory,
            self._inputs,
            self._reading,
            job,
            limits=Limits(
                concurrency=options.concurrency,
                handful=options.handful,
                records=options.records,
                failures=options.failures,
            ),
            on_change=options.on_change,
            force=options.force,
            resume=options.resume,
            stdin=_binary(self._run.stdin),
            watch=self._reporter.watch,
        )

        def stop(reason: str) -> None:
            ingestion.stop(reason)
            self._reporter.stopping()

        left = None if options.deadline is None else max(0.0, self._give_up_at - time.monotonic())
        with Signals(stop) as signals, self._reporter:
            report = await until_stopped(ingestion, left)
        return report, signals.caught


def _kept(job: Job, report: Report, caught: int | None) -> tuple[Report, dict[str, Any]]:
    """The summary, left in the job's folder too; that this fails is part of the report."""
    from powermem_cli import times  # noqa: PLC0415 - `--help` does without
    from powermem_cli.cli.add_report import summary_of  # noqa: PLC0415

    summary = summary_of(report, job.name, signalled=caught)
    try:
        job.keep_summary({**summary, "ended_at": times.format_time(times.now())})
    except StoreError as error:
        report = replace(report, errors=(*report.errors, error))
    return report, summary_of(report, job.name, signalled=caught)


def _binary(stdin: Any) -> BinaryIO:
    return cast("BinaryIO", stdin.buffer)
