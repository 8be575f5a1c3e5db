"""powermem add: one text, or files and pipes of records."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Optional, cast

import typer

from powermem_cli.cli.exits import Exit, die_of
from powermem_cli.cli.options import Agent, DryRun, RunId, User, parse_json
from powermem_cli.cli.session import Run, command
from powermem_cli.errors import UsageError

GRACE = 30.0  # seconds that what is in flight may take after the first Ctrl-C


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How the job is to be run, as the command line gave it."""

    concurrency: int
    handful: int
    records: int | None
    failures: float | None
    deadline: float | None
    on_change: str
    checkpoint: str | None
    job: str | None
    rejects: str | None
    resume: bool
    progress: str


@command
def add(
    run: Run,
    text: Annotated[
        Optional[str], typer.Argument(metavar="[TEXT]", help="What to remember; - reads records from stdin.")
    ] = None,
    file: Annotated[
        Optional[list[str]],
        typer.Option("-f", "--file", metavar="PATH", help="A file of records, or a quoted glob (may be repeated)."),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAME", help="auto, jsonl, json, csv, tsv, text, chatgpt, claude, mem0 or powermem."
        ),
    ] = "auto",
    user: User = None,
    agent: Agent = None,
    run_id: RunId = None,
    metadata: Annotated[
        Optional[str], typer.Option("--metadata", metavar="JSON", help="For records that lack it.")
    ] = None,
    infer: Annotated[
        Optional[bool],
        typer.Option("--infer/--no-infer", help="Keep what users said, each thing once; or every record as it is."),
    ] = None,
    mapping: Annotated[
        Optional[str],
        typer.Option("--map", metavar="FIELD=COLUMN,…", help="memory=note,user_id=customer,metadata.x=col"),
    ] = None,
    delimiter: Annotated[
        Optional[str], typer.Option("--delimiter", metavar="C", help="Of CSV; found in the header by default.")
    ] = None,
    encoding: Annotated[
        Optional[str], typer.Option("--encoding", metavar="NAME", help="Of the input; UTF-8 by default.")
    ] = None,
    on_change: Annotated[
        str, typer.Option("--on-change", metavar="HOW", help="A known key says something new: update, skip or add.")
    ] = "update",
    concurrency: Annotated[
        int, typer.Option("-c", "--concurrency", metavar="N", min=1, help="Groups of records in flight.")
    ] = 4,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, max=4096, help="Records per group.")
    ] = 512,
    max_failures: Annotated[
        str, typer.Option("--max-failures", metavar="N|P%|none", help="Stop when more than this failed.")
    ] = "20%",
    deadline: Annotated[
        Optional[str], typer.Option("--deadline", metavar="DURATION", help="Start no new record after 90s, 15m, 2h.")
    ] = None,
    limit: Annotated[
        Optional[int], typer.Option("--limit", metavar="N", min=1, help="Start no more records than this.")
    ] = None,
    checkpoint: Annotated[
        Optional[str], typer.Option("--checkpoint", metavar="PATH", help="Instead of the job's own.")
    ] = None,
    job: Annotated[Optional[str], typer.Option("--job", metavar="NAME", help="A name for this job.")] = None,
    rejects: Annotated[
        Optional[str], typer.Option("--rejects", metavar="PATH", help="Instead of the job's own.")
    ] = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Read all again; what is known is still not added twice.")
    ] = False,
    progress: Annotated[str, typer.Option("--progress", metavar="HOW", help="auto, bar, log or none.")] = "auto",
    dry_run: DryRun = False,
) -> Exit | None:
    """Remember one text, or every record of files and pipes."""
    given_metadata = parse_json(metadata, "--metadata")
    scope = {"user_id": run.user(user), "agent_id": agent, "run_id": run_id}
    inputs = _inputs(run, text, file)
    if not inputs:
        return _add_text(run, cast("str", text), scope, given_metadata, infer is not False, dry_run)
    reading = _reading(
        format=format_,
        encoding=encoding,
        delimiter=delimiter,
        mapping=_mapping(mapping),
        scope=scope,
        metadata=given_metadata or {},
        infer=infer,
    )
    options = JobOptions(
        concurrency=concurrency,
        handful=batch_size,
        records=limit,
        failures=_failures(max_failures),
        deadline=_seconds(deadline),
        on_change=_one_of("--on-change", on_change, ("update", "skip", "add")),
        checkpoint=checkpoint,
        job=job,
        rejects=rejects,
        resume=not no_resume,
        progress=_one_of("--progress", progress, ("auto", "bar", "log", "none")),
    )
    return _dry_run(run, inputs, reading) if dry_run else _ingest(run, inputs, reading, options)


def _inputs(run: Run, text: str | None, file: list[str] | None) -> list[str]:
    """Names of inputs, "-" for stdin; none if a single text was given. Raises UsageError."""
    if file:
        if text is not None:
            raise UsageError("a text and --file exclude each other", hint="give one of them")
        from powermem_cli.readers import expand  # noqa: PLC0415 - a single text does without
        from powermem_cli.readers.source import open_file  # noqa: PLC0415

        names = expand(file)
        for name in names:
            if Path(name).is_file() or Path(name).is_dir():  # a pipe must not be opened twice
                open_file(name).close()
        return names
    if text == "-" or (text is None and not run.stdin.isatty()):
        return ["-"]
    if text is None:
        raise UsageError("what shall be remembered?", hint='powermem add "Anna likes tea" --user anna, or --file PATH')
    return []


def _add_text(
    run: Run, text: str, scope: dict[str, Any], metadata: dict[str, Any] | None, infer: bool, dry_run: bool
) -> Exit | None:
    from powermem_cli.rules import check_metadata, check_scope, check_text  # noqa: PLC0415 - `--help` does without

    check_text(text, "the text")
    check_metadata(metadata)
    check_scope(**scope)
    if dry_run:
        run.note("dry run: this would be remembered, unless it is known")
        run.show_done([], {"dry_run": True, "results": []})
        return None

    async def work(memory: Any) -> list[dict[str, Any]]:
        added: list[dict[str, Any]] = (await memory.add(text, **scope, metadata=metadata, infer=infer))["results"]
        return added

    added = run.with_memory(work)
    run.show_done(added)
    if not added:
        run.note("known already: nothing was added")
    return None


def _ingest(run: Run, inputs: Sequence[str], reading: Any, options: JobOptions) -> Exit:
    from powermem_cli.batch import Limits  # noqa: PLC0415 - `--help` does without
    from powermem_cli.checkpoint import Job, check_job_name, job_name  # noqa: PLC0415
    from powermem_cli.cli.add_report import Reporter, exit_of_report  # noqa: PLC0415
    from powermem_cli.ingestion import Ingestion, total_bytes, until_stopped  # noqa: PLC0415
    from powermem_cli.paths import state_folder  # noqa: PLC0415

    total = total_bytes(inputs)
    reporter = Reporter(run, total, cast("Any", options.progress))

    async def work(memory: Any) -> Exit:
        store_id = await memory.store_identity()
        name = check_job_name(options.job) if options.job else job_name(inputs, store_id)
        folder = state_folder(run.environ) / "jobs" / name
        with Job(
            folder,
            name,
            store_id,
            repr(reading),
            checkpoint=Path(options.checkpoint) if options.checkpoint else None,
            rejects=Path(options.rejects) if options.rejects else None,
            keeps_rejects=total is None,
        ) as opened:
            ingestion = Ingestion(
                memory,
                inputs,
                reading,
                opened,
                limits=Limits(
                    concurrency=options.concurrency,
                    handful=options.handful,
                    records=options.records,
                    failures=options.failures,
                ),
                on_change=cast("Any", options.on_change),
                resume=options.resume,
                stdin=_binary(run.stdin),
                watch=reporter.watch,
            )

            def stop(reason: str) -> None:
                ingestion.stop(reason)
                reporter.stopping()

            with _Signals(stop) as signals, reporter:
                report = await until_stopped(ingestion, options.deadline)
        if isinstance(report.error, UsageError) and not report.tally.read:
            raise report.error
        code = exit_of_report(report, signalled=signals.caught is not None)
        reporter.summary(report, name, code, says_no_llm=memory.keeps_what_is_said and reading.infer is not False)
        if signals.caught is not None:
            await memory.close()
            die_of(signals.caught)
        return code

    return run.with_memory(work)


def _dry_run(run: Run, inputs: Sequence[str], reading: Any) -> Exit:
    """Read everything, call nothing."""
    from powermem_cli.model import Record  # noqa: PLC0415
    from powermem_cli.readers import open_input  # noqa: PLC0415

    read = rejected = 0
    for name in inputs:
        with open_input(name, reading, stdin=_binary(run.stdin)) as source:
            for item in source:
                read += 1
                if not isinstance(item, Record):
                    rejected += 1
                    run.note(f"{item.source.file}:{item.source.line}: {item.message}")
    if run.form == "auto":
        run.note(f"dry run: {read:,} read, {rejected:,} would be rejected; nothing was added")
    else:
        run.write_json(
            {"type": "summary", "dry_run": True, "read": read, "rejected": rejected, "not_started": read - rejected}
        )
    return Exit.PARTIAL if rejected else Exit.DONE


class _Signals:
    """While open: the first SIGINT, SIGTERM or SIGHUP asks the run to stop, the second ends it at once.

    A signal that was ignored when we started stays ignored: nohup and a shell's background jobs mean it.
    """

    def __init__(self, stop: Callable[[str], None]) -> None:
        self.caught: int | None = None
        self._stop = stop
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        import asyncio  # noqa: PLC0415 - `--help` does without

        self._loop = asyncio.get_running_loop()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                # Not the loop's own handlers: they wait for the loop, which waits where nobody reads our output.
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.caught is not None:
            self._end()
        self.caught = number
        self._loop.call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        self._stop("signal")
        self._loop.call_later(GRACE, self._end)

    def _end(self) -> None:
        # What is in flight is given up: the ledger says what of it was kept, the next run does the rest.
        number = self.caught or signal.SIGINT
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _reading(*, scope: dict[str, Any], **options: Any) -> Any:
    from powermem_cli.readers import Reading  # noqa: PLC0415 - `--help` does without
    from powermem_cli.rules import check_scope  # noqa: PLC0415

    return Reading(scope=check_scope(**scope), **options)


def _binary(stdin: Any) -> BinaryIO:
    return cast("BinaryIO", stdin.buffer)


def _mapping(text: str | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in (text or "").split(",") if text else []:
        field, equals, column = pair.partition("=")
        if not equals or not field or not column:
            raise UsageError(
                f"--map takes FIELD=COLUMN, not {pair!r}", hint="for example --map memory=note,user_id=customer"
            )
        pairs[field.strip()] = column.strip()
    return pairs


def _failures(text: str) -> float | None:
    if text == "none":
        return None
    found = re.fullmatch(r"(\d+)(%?)", text)
    if found is None or (found[2] and not 0 < int(found[1]) < 100):
        raise UsageError(
            f"--max-failures takes a number, a share or none, not {text!r}", hint="for example 100, 20% or none"
        )
    return int(found[1]) / 100 if found[2] else float(found[1])


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text)
    if found is None:
        raise UsageError(f"{text!r} is no duration", hint="for example 90s, 15m or 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageError(f"{option} is one of {', '.join(known)}, not {value!r}")
    return value
