"""powermem add: one text, or files and pipes of records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Optional, cast

import typer

from powermem_cli.cli.add_run import AddOptions, add_text, ingest, only_look
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import (
    CALLS,
    SCOPE,
    Agent,
    Concurrency,
    DryRun,
    Retries,
    Rpm,
    RunId,
    Tpm,
    User,
    parse_concurrency,
    parse_json,
)
from powermem_cli.cli.session import Run, command
from powermem_cli.errors import UsageError

READ: Final = "What is read"
AGAIN: Final = "What is known already"
JOB: Final = "The run"
GROUPS = 4  # groups of records that are under way at once: what waits for a provider is among them


@command
def add(
    run: Run,
    text: Annotated[
        Optional[str], typer.Argument(metavar="[TEXT]", help="What to remember; - reads records from stdin.")
    ] = None,
    file: Annotated[
        Optional[list[str]],
        typer.Option(
            "-f",
            "--file",
            metavar="PATH",
            help="A file of records, or a quoted glob (may be repeated).",
            rich_help_panel=READ,
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="auto, jsonl, json, csv, tsv, text, chatgpt, claude, mem0 or powermem.",
            rich_help_panel=READ,
        ),
    ] = "auto",
    user: User = None,
    agent: Agent = None,
    run_id: RunId = None,
    metadata: Annotated[
        Optional[str],
        typer.Option("--metadata", metavar="JSON", help="For records that lack it.", rich_help_panel=SCOPE),
    ] = None,
    infer: Annotated[
        Optional[bool],
        typer.Option(
            "--infer/--no-infer",
            help="Keep what users said, each thing once; or every record as it is.",
            rich_help_panel=SCOPE,
        ),
    ] = None,
    mapping: Annotated[
        Optional[str],
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN,...",
            help="memory=note,user_id=customer,metadata.x=col",
            rich_help_panel=READ,
        ),
    ] = None,
    delimiter: Annotated[
        Optional[str],
        typer.Option("--delimiter", metavar="C", help="Of CSV; found in the header by default.", rich_help_panel=READ),
    ] = None,
    encoding: Annotated[
        Optional[str],
        typer.Option("--encoding", metavar="NAME", help="Of the input; UTF-8 by default.", rich_help_panel=READ),
    ] = None,
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="HOW",
            help="What a record is known again by: auto (its id, else what it says), content, position (with --no-infer), "
            "or the name of a field.",
            rich_help_panel=AGAIN,
        ),
    ] = "auto",
    on_change: Annotated[
        str,
        typer.Option(
            "--on-change",
            metavar="HOW",
            help="A known key says something new: update, skip or add.",
            rich_help_panel=AGAIN,
        ),
    ] = "update",
    concurrency: Concurrency = "auto",
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            max=4096,
            help="Records that are worked on together.",
            rich_help_panel=CALLS,
        ),
    ] = 1024,
    rpm: Rpm = None,
    tpm: Tpm = None,
    retries: Retries = None,
    max_failures: Annotated[
        str,
        typer.Option(
            "--max-failures", metavar="N|P%|none", help="Stop when more than this failed.", rich_help_panel=JOB
        ),
    ] = "20%",
    deadline: Annotated[
        Optional[str],
        typer.Option(
            "--deadline", metavar="DURATION", help="Start no new record after 90s, 15m, 2h.", rich_help_panel=JOB
        ),
    ] = None,
    limit: Annotated[
        Optional[int],
        typer.Option("--limit", metavar="N", min=1, help="Start no more records than this.", rich_help_panel=JOB),
    ] = None,
    checkpoint: Annotated[
        Optional[str],
        typer.Option("--checkpoint", metavar="PATH", help="Instead of the job's own.", rich_help_panel=JOB),
    ] = None,
    job: Annotated[
        Optional[str], typer.Option("--job", metavar="NAME", help="A name for this job.", rich_help_panel=JOB)
    ] = None,
    rejects: Annotated[
        Optional[str], typer.Option("--rejects", metavar="PATH", help="Instead of the job's own.", rich_help_panel=JOB)
    ] = None,
    no_resume: Annotated[
        bool,
        typer.Option(
            "--no-resume", help="Read all again; what is known is still not added twice.", rich_help_panel=AGAIN
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Do all again, whatever is known: what was deleted comes back, what is there is renewed.",
            rich_help_panel=AGAIN,
        ),
    ] = False,
    if_locked: Annotated[
        str,
        typer.Option(
            "--if-locked",
            metavar="HOW",
            help="Another run of this job is under way: fail, wait (for it) or skip.",
            rich_help_panel=JOB,
        ),
    ] = "fail",
    progress: Annotated[
        str, typer.Option("--progress", metavar="HOW", help="auto, bar, log or none.", rich_help_panel=JOB)
    ] = "auto",
    dry_run: DryRun = False,
) -> Exit | None:
    """Remember one text, or every record of files and pipes."""
    wanted = parse_concurrency(concurrency)
    run.calling(concurrency=wanted, rpm=rpm, tpm=tpm, retries=retries)
    options = AddOptions(
        scope={"user_id": run.user(user), "agent_id": agent, "run_id": run_id},
        metadata=parse_json(metadata, "--metadata"),
        infer=infer,
        format=format_,
        encoding=encoding,
        delimiter=delimiter,
        mapping=_mapping(mapping),
        key=_key(key),
        on_change=_one_of("--on-change", on_change, ("update", "skip", "add")),
        concurrency=min(wanted or GROUPS, GROUPS),
        handful=batch_size,
        records=limit,
        failures=_failures(max_failures),
        deadline=_seconds(deadline),
        checkpoint=_path(checkpoint),
        job=job,
        rejects=_path(rejects),
        resume=not no_resume,
        force=force,
        if_locked=_one_of("--if-locked", if_locked, ("fail", "wait", "skip")),
        progress=_one_of("--progress", progress, ("auto", "bar", "log", "none")),
    )
    inputs = _inputs(run, text, file)
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


def _key(text: str) -> str:
    if not text or text != text.strip():
        raise UsageError(f"--key takes auto, content, position or the name of a field, not {text!r}")
    return text


def _path(text: str | None) -> Path | None:
    if text in {"", "-"}:
        raise UsageError("--rejects and --checkpoint take the name of a file", hint="stdout is for results")
    return None if text is None else Path(text)


def _one_of(option: str, value: str, known: Sequence[str]) -> Any:
    if value not in known:
        raise UsageError(f"{option} is one of {', '.join(known)}, not {value!r}")
    return value
