"""powermem jobs: past and unfinished batches, and their failed records."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.completion import complete_job
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import DryRun
from powermem_cli.cli.session import Run, counted

if TYPE_CHECKING:
    from pathlib import Path

    from powermem_cli.jobs import FoundJob

SHOWN: Final = 10  # failed records, unless all are asked for as JSON

Name = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="The name of a job, as powermem jobs list shows it.", autocompletion=complete_job
    ),
]

app = typer.Typer(
    help="Past and unfinished batches, and their failed records.", no_args_is_help=True, rich_markup_mode=None
)


@command
def list_(run: Run) -> None:
    """Show every job, how it last ended, and what still fails."""
    from powermem_cli.jobs import all_jobs  # noqa: PLC0415 - `--help` does without
    from powermem_cli.output.cells import write_cells  # noqa: PLC0415

    jobs = all_jobs(_folder(run))
    if run.form == "json":
        run.write_json({"results": [_as_json(job) for job in jobs]})
    elif run.form == "jsonl":
        for job in jobs:
            run.write_json(_as_json(job))
    else:
        header = ("job", "state", "last run (UTC)", "added", "rejected", "retry", "parked")
        write_cells(header, [_row(job) for job in jobs], run.stdout, run.environ)
        if not jobs:
            run.note("no jobs here")


@command
def show(run: Run, name: Name) -> None:
    """Show a job: its last summary, rejects, and what failed and why."""
    from powermem_cli.jobs import find_job  # noqa: PLC0415 - `--help` does without
    from powermem_cli.output.cells import write_cells  # noqa: PLC0415

    job = find_job(_folder(run), name)
    if run.form != "auto":
        run.write_json({**_as_json(job), "failing": list(job.failing())})
        return
    write_cells(("", ""), _details(job), run.stdout, run.environ)
    more = job.to_retry + job.parked - SHOWN
    if more > 0:
        run.note(f"and {more:,} more that failed; --json shows all")


@command
def retry(run: Run, name: Name, dry_run: DryRun = False) -> Exit | None:
    """Try all failed records of a job again, parked ones too.

    The store is the one it was run with.
    """
    from powermem_cli.cli.add_run import AddOptions, ingest  # noqa: PLC0415 - `--help` does without
    from powermem_cli.jobs import database_of, find_job  # noqa: PLC0415

    job = find_job(_folder(run), name)
    number = job.to_retry + job.parked
    if not number or dry_run:
        run.note("nothing failed: there is nothing to try again" if not number else f"{number:,} would be tried again")
        if run.form != "auto":
            run.write_json({"job": name, "dry_run": dry_run, "to_retry": number})
        return None
    if run.options["db"] is None and (database := database_of(job)) is not None:
        run = replace(run, options={**run.options, "db": database})
    return ingest(run, [], AddOptions(job=name, failures=None, revive=True))


@command
def forget(run: Run, name: Name, dry_run: DryRun = False) -> Exit | None:
    """Remove what is kept about a job; what it added stays.

    That is its checkpoint, its rejects and its failed records.
    """
    from powermem_cli.jobs import find_job, forget as forget_job, kept_to_ourselves  # noqa: PLC0415

    job = find_job(_folder(run), name)
    with kept_to_ourselves(job, only_look=dry_run):
        lost = job.to_retry + job.parked
        details = [str(job.folder)]
        if lost:
            details.append(f"{counted(lost, 'record', 'records')} that failed, and will not be tried again")
        agreed = dry_run or run.confirm(f"forget the job {name}", details)
        if agreed and not dry_run:
            forget_job(job)
    if run.form != "auto":
        run.write_json({"job": name, "dry_run": dry_run, "forgotten": agreed and not dry_run})
    else:
        run.note("it would be forgotten (dry run)" if dry_run else "forgotten" if agreed else "nothing was forgotten")
    return None if agreed else Exit.NEGATIVE


app.command("list")(list_)
app.command("show")(show)
app.command("retry")(retry)
app.command("forget")(forget)


def _folder(run: Run) -> Path:
    from powermem_cli.paths import state_folder  # noqa: PLC0415 - `--help` does without

    return state_folder(run.environ) / "jobs"


def _state(job: FoundJob) -> str:
    if job.holder is not None:
        return "running"
    return str(job.summary.get("stop_reason", "never ended"))


def _state_in_words(job: FoundJob) -> str:
    state = _state(job)
    return "done" if state == "end" else state.replace("_", " ")


def _row(job: FoundJob) -> tuple[Any, ...]:
    last = job.summary
    ended = str(last.get("ended_at", ""))[:16].replace("T", " ")
    return job.name, _state_in_words(job), ended, last.get("added"), last.get("rejected"), job.to_retry, job.parked


def _as_json(job: FoundJob) -> dict[str, Any]:
    return {
        "job": job.name,
        "state": _state(job),
        "holder": job.holder,
        "folder": str(job.folder),
        "about": {name: value for name, value in job.about.items() if name not in {"schema", "job"}},
        "to_retry": job.to_retry,
        "parked": job.parked,
        "rejects": None if job.rejects is None else str(job.rejects),
        "summary": job.summary or None,
    }


def _details(job: FoundJob) -> list[tuple[str, str]]:
    from powermem_cli.batch import STATUSES  # noqa: PLC0415 - `--help` does without

    last = job.summary
    ended = ", ".join([f"{last[status]:,} {status.replace('_', ' ')}" for status in STATUSES if last.get(status)])
    rows = [("job", job.name), ("state", _state_in_words(job) if job.holder is None else f"running: {job.holder}")]
    rows += [("reads", str(name)) for name in job.about.get("inputs", [])]
    rows += [("store", str(job.about.get("database") or job.about.get("provider") or "not known"))]
    if last:
        rows += [
            ("last run", f"{last.get('ended_at', '')}, {last.get('seconds')} s, exit code {last.get('exit_code')}")
        ]
        rows += [("ended", ended or "nothing new")]
    if job.rejects is not None:
        rows += [("rejects", str(job.rejects))]
    if not job.is_whole:
        rows += [("damaged", "the list of failed records; the next run reads everything again")]
    if job.to_retry:
        rows += [("to retry", f"{job.to_retry:,}, by the next run")]
    if job.parked:
        rows += [("parked", f"{job.parked:,}; powermem jobs retry {job.name}")]
    for line in islice(job.failing(), SHOWN):
        rows += [
            ("failed", f"{line['file']}:{line['line']}: {line['message']} ({counted(line['runs'], 'run', 'runs')})")
        ]
    return rows
