"""powermem add: one text, or files and pipes of records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Optional, cast

import typer

from powermem_cli.cli.add_options import Calls, Course, Input, Known, Whose, one_of, path
from powermem_cli.cli.add_run import AddOptions, add_text, ingest, only_look
from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import DryRun, Pace, parse_concurrency, parse_json
from powermem_cli.cli.session import Run
from powermem_cli.errors import UsageError

GROUPS: Final = 4  # groups of records that are under way at once: what waits for a provider is among them


@command
def add(
    run: Run,
    text: Annotated[
        Optional[str], typer.Argument(metavar="[TEXT]", help="What to remember; - reads records from stdin.")
    ] = None,
    *,
    source: Input,
    whose: Whose,
    known: Known,
    calls: Calls,
    pace: Pace,
    course: Course,
    dry_run: DryRun = False,
) -> Exit | None:
    """Remember one text, or every record of files and pipes."""
    wanted = parse_concurrency(calls.concurrency)
    run.calling(concurrency=wanted, **pace.limits())
    options = AddOptions(
        scope={"user_id": run.user(whose.user), "agent_id": whose.agent, "run_id": whose.run_id},
        metadata=parse_json(whose.metadata, "--metadata"),
        infer=whose.infer,
        format=source.format,
        encoding=source.encoding,
        delimiter=source.delimiter,
        mapping=source.mapping(),
        key=known.identity(),
        on_change=one_of("--on-change", known.on_change, ("update", "skip", "add")),
        concurrency=min(wanted or GROUPS, GROUPS),
        handful=calls.batch_size,
        records=course.limit,
        failures=course.failures(),
        deadline=course.seconds(),
        checkpoint=path(course.checkpoint),
        job=course.job,
        rejects=path(course.rejects),
        resume=not known.no_resume,
        force=known.force,
        if_locked=one_of("--if-locked", course.if_locked, ("fail", "wait", "skip")),
        progress=one_of("--progress", course.progress, ("auto", "bar", "log", "none")),
    )
    inputs = _inputs(run, text, source.file)
    if not inputs:
        return add_text(run, cast("str", text), options, dry_run=dry_run)
    return only_look(run, inputs, options) if dry_run else ingest(run, inputs, options)


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
