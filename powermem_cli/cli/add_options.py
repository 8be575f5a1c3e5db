"""The options of `powermem add`, in the groups that its help shows, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Optional

import typer

from powermem_cli.cli.options import CALLS, SCOPE, Agent, Concurrency, RunId, User
from powermem_cli.errors import UsageError


def _option(panel: str) -> Any:
    return lambda *names, **more: typer.Option(*names, rich_help_panel=panel, **more)


_read: Final = _option("What is read")
_scope: Final = _option(SCOPE)
_known: Final = _option("What is known already")
_calls: Final = _option(CALLS)
_run: Final = _option("The run")


@dataclass(frozen=True)
class Input:
    """What is read, and how."""

    file: Annotated[
        Optional[list[str]],
        _read("-f", "--file", metavar="PATH", help="A file of records, or a quoted glob (may be repeated)."),
    ] = None
    format: Annotated[
        str,
        _read("--format", metavar="NAME", help="auto, jsonl, json, csv, tsv, text, chatgpt, claude, mem0 or powermem."),
    ] = "auto"
    map: Annotated[
        Optional[str], _read("--map", metavar="FIELD=COLUMN,...", help="memory=note,user_id=customer,metadata.x=col")
    ] = None
    delimiter: Annotated[
        Optional[str], _read("--delimiter", metavar="C", help="Of CSV; found in the header by default.")
    ] = None
    encoding: Annotated[Optional[str], _read("--encoding", metavar="NAME", help="Of the input; UTF-8 by default.")] = (
        None
    )

    def mapping(self) -> dict[str, str]:
        """Raises UsageError."""
        pairs: dict[str, str] = {}
        for pair in self.map.split(",") if self.map else ():
            field, equals, column = pair.partition("=")
            if not equals or not field or not column:
                raise UsageError(
                    f"--map takes FIELD=COLUMN, not {pair!r}", hint="for example --map memory=note,user_id=customer"
                )
            pairs[field.strip()] = column.strip()
        return pairs


@dataclass(frozen=True)
class Whose:
    """What holds for records that do not say it themselves."""

    user: User = None
    agent: Agent = None
    run_id: RunId = None
    metadata: Annotated[Optional[str], _scope("--metadata", metavar="JSON", help="For records that lack it.")] = None
    infer: Annotated[
        Optional[bool],
        _scope("--infer/--no-infer", help="Keep what users said, each thing once; or every record as it is."),
    ] = None


@dataclass(frozen=True)
class Known:
    """What is known already, and what becomes of it."""

    key: Annotated[
        str,
        _known(
            "--key",
            metavar="HOW",
            help="What a record is known again by: auto (its id, else what it says), content, position (with --no-infer), "
            "or the name of a field.",
        ),
    ] = "auto"
    on_change: Annotated[
        str, _known("--on-change", metavar="HOW", help="A known key says something new: update, skip or add.")
    ] = "update"
    no_resume: Annotated[
        bool, _known("--no-resume", help="Read all again; what is known is still not added twice.")
    ] = False
    force: Annotated[
        bool,
        _known(
            "--force", help="Do all again, whatever is known: what was deleted comes back, what is there is renewed."
        ),
    ] = False

    def identity(self) -> str:
        """Raises UsageError."""
        if not self.key or self.key != self.key.strip():
            raise UsageError(f"--key takes auto, content, position or the name of a field, not {self.key!r}")
        return self.key


@dataclass(frozen=True)
class Calls:
    """How many calls there are at once; how often is in Pace."""

    concurrency: Concurrency = "auto"
    batch_size: Annotated[
        int, _calls("--batch-size", metavar="N", min=1, max=4096, help="Records that are worked on together.")
    ] = 1024


@dataclass(frozen=True)
class Course:
    """The run: when it ends, where it keeps what it needs, what is seen of it."""

    max_failures: Annotated[
        str, _run("--max-failures", metavar="N|P%|none", help="Stop when more than this failed.")
    ] = "20%"
    deadline: Annotated[
        Optional[str], _run("--deadline", metavar="DURATION", help="Start no new record after 90s, 15m, 2h.")
    ] = None
    limit: Annotated[Optional[int], _run("--limit", metavar="N", min=1, help="Start no more records than this.")] = None
    checkpoint: Annotated[Optional[str], _run("--checkpoint", metavar="PATH", help="Instead of the job's own.")] = None
    job: Annotated[Optional[str], _run("--job", metavar="NAME", help="A name for this job.")] = None
    rejects: Annotated[Optional[str], _run("--rejects", metavar="PATH", help="Instead of the job's own.")] = None
    if_locked: Annotated[
        str,
        _run("--if-locked", metavar="HOW", help="Another run of this job is under way: fail, wait (for it) or skip."),
    ] = "fail"
    progress: Annotated[str, _run("--progress", metavar="HOW", help="auto, bar, log or none.")] = "auto"

    def failures(self) -> float | None:
        """How many are too many, or from 0 to 1 which share; None for any. Raises UsageError."""
        if self.max_failures == "none":
            return None
        found = re.fullmatch(r"(\d+)(%?)", self.max_failures)
        if found is None or (found[2] and not 0 < int(found[1]) < 100):
            raise UsageError(
                f"--max-failures takes a number, a share or none, not {self.max_failures!r}",
                hint="for example 100, 20% or none",
            )
        return int(found[1]) / 100 if found[2] else float(found[1])

    def seconds(self) -> float | None:
        """Until no new record is started. Raises UsageError."""
        if self.deadline is None:
            return None
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", self.deadline)
        if found is None:
            raise UsageError(f"--deadline takes a duration, not {self.deadline!r}", hint="for example 90s, 15m or 2h")
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def path(text: str | None) -> Path | None:
    """Raises UsageError."""
    if text in {"", "-"}:
        raise UsageError("--rejects and --checkpoint take the name of a file", hint="stdout is for results")
    return None if text is None else Path(text)


def one_of(option: str, value: str, known: Sequence[str]) -> Any:
    """Raises UsageError."""
    if value not in known:
        raise UsageError(f"{option} is one of {', '.join(known)}, not {value!r}")
    return value
