"""The folders of jobs, for whoever asks: which there are, how each last ended, what of it still fails, who runs it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powermem_cli import lock
from powermem_cli.checkpoint import ABOUT, LOCK, SUMMARY, check_job_name, read_json
from powermem_cli.errors import Locked, NotFound, UsageError, did_you_mean
from powermem_cli.failed import Failed
from powermem_cli.files import unusable


@dataclass(frozen=True)
class FoundJob:
    """What lies in a job's folder; *holder* is what the run says of itself that is under way, None if none is."""

    name: str
    folder: Path
    about: dict[str, Any]
    summary: dict[str, Any]
    holder: str | None
    to_retry: int
    parked: int
    is_whole: bool
    """False: its failed records can't be read; the next run reads everything again."""

    @property
    def rejects(self) -> Path | None:
        """Where the last run set records aside, if it did and they are there still."""
        named = self.summary.get("rejects")
        path = Path(named) if isinstance(named, str) else self.folder / "rejects.jsonl"
        return path if path.is_file() else None

    def failing(self) -> Iterator[dict[str, Any]]:
        """Where each failed record stood, and why and in how many runs it failed; those that are parked last."""
        failed = Failed(self.folder / "failed.jsonl")
        failed.load()
        for parked in (False, True):
            for line in failed.lines(parked=parked):
                shown = {name: line.get(name) for name in ("file", "line", "code", "message", "runs")}
                yield {**shown, "parked": parked, "record": line["record"]}


def all_jobs(folder: Path) -> list[FoundJob]:
    """Sorted by name. Raises StoreError."""
    return [_found(folder / name) for name in _names(folder)]


def find_job(folder: Path, name: str) -> FoundJob:
    """Raises UsageError for what can't be a name, NotFound, StoreError."""
    names = _names(folder)
    if check_job_name(name) not in names:
        hint = did_you_mean(name, names) if names else "there are no jobs here: powermem add -f makes one"
        raise NotFound(f"there is no job {name}", hint=hint, code="job.unknown")
    return _found(folder / name)


@contextmanager
def kept_to_ourselves(job: FoundJob, *, only_look: bool = False) -> Iterator[None]:
    """Inside, nobody else runs the job; with *only_look* nobody did a moment ago. Raises Locked."""
    path = job.folder / LOCK
    try:
        file = None if only_look else lock.acquire(path)
        holder = lock.holder(path) if file is None else None
    except OSError as error:
        raise unusable(path, error) from error
    if file is None and (holder or not only_look):
        raise Locked(
            f"the job {job.name} is under way ({holder or 'it has just ended'})",
            hint="nothing was done; try again when it has ended",
        )
    with file or nullcontext():
        yield


def forget(job: FoundJob) -> None:
    """Remove its folder, and nothing else: what it added stays, what lies elsewhere (--rejects) too. Raises StoreError."""
    try:
        shutil.rmtree(job.folder)
    except OSError as error:
        raise unusable(job.folder, error) from error


def database_of(job: FoundJob) -> str | None:
    """The file its memories went to; None if they went to a server. Raises UsageError if it is not there."""
    database = job.about.get("database")
    if not isinstance(database, str):
        return None
    if not os.path.exists(database):  # noqa: PTH110
        raise UsageError(f"the store of the job {job.name} is gone: {database}", hint="name it with --db")
    return database


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unusable(folder, error) from error


def _found(folder: Path) -> FoundJob:
    failed = Failed(folder / "failed.jsonl")
    try:
        is_whole = failed.load()
        about, summary = read_json(folder / ABOUT), read_json(folder / SUMMARY)
        holder = lock.holder(folder / LOCK)
    except OSError as error:
        raise unusable(folder, error) from error
    waiting, parked = len(failed) - failed.parked, failed.parked
    return FoundJob(folder.name, folder, about, summary, holder, waiting, parked, is_whole)
