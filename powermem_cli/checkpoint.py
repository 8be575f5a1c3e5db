"""What a job has read and what it set aside, in a folder of its own; and the lock that one run of it holds.

Only the ledger decides whether a record is done: everything here saves reading time, or is for a person to look at.
Whatever is found damaged is set aside and read from the start again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final

from powermem_cli import lock
from powermem_cli.errors import Locked, UsageError
from powermem_cli.failed import Failed
from powermem_cli.files import Piece, digest_of, make_folder, open_private, unusable, write_all, write_atomically
from powermem_cli.model import Record, Rejected
from powermem_cli.rules import canonical_json

SCHEMA: Final = 1
EDGE: Final = 1024  # bytes of the head, and before the offset, that tell one file from another
SAVE_EVERY: Final = 1.0  # seconds

LOCK: Final = "lock"
ABOUT: Final = "job.json"
SUMMARY: Final = "summary.json"

Pieces = deque[Piece]

_JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Mark:
    """Everything of an input before *byte* (where *line* begins) is done, rejected, or failed and noted."""

    byte: int
    line: int


def job_name(inputs: Sequence[str], store_id: str) -> str:
    """The same inputs into the same store are the same job: `chats-7f3a01`."""
    paths = [name if name == "-" else os.path.realpath(name) for name in inputs]
    digest = blake2b(canonical_json([store_id, paths]).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(inputs[0]).name.split(".")[0])[:40].strip("-.")
    return f"{stem or 'stdin'}-{digest}"


def check_job_name(name: str) -> str:
    """Raises UsageError for a name that can't be a folder's."""
    if not _JOB_NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be the name of a job", hint="up to 64 letters, digits, dots, _ and -")
    return name


class LowWater:
    """How far a run has come when handfuls end in any order: marks move over what has ended without a gap."""

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}
        self._next = 0
        self._ended: dict[int, dict[str, Mark]] = {}

    def ended(self, number: int, items: Iterable[Record | Rejected]) -> None:
        """All *items*, neighbours in the input and the handful of this number, are durable."""
        last = {item.source.file: (item.source, item.size) for item in items if item.source is not None}
        self._ended[number] = {
            file: Mark(source.byte + size, source.line + source.lines) for file, (source, size) in last.items()
        }
        while self._next in self._ended:
            self.marks.update(self._ended.pop(self._next))
            self._next += 1


class Job:
    """The folder of one job. `with Job(...) as job:` makes it and holds its lock. Raises Locked, StoreError, UsageError.
    What ends by a UsageError was never started: no folder is left of it that was not there before.

    *keeps_rejects*: some input is a pipe, so that what an earlier run set aside will not be read again. *command* and
    *about* are for whoever looks at the folder: who holds the lock, and what the job reads into which database.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        store_id: str,
        reading: str,
        *,
        checkpoint: Path | None = None,
        rejects: Path | None = None,
        keeps_rejects: bool = False,
        command: str = "",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.rejects_path = rejects or folder / "rejects.jsonl"
        self.failed = Failed(folder / "failed.jsonl")
        self.warnings: list[str] = []
        self._checkpoint_path = checkpoint or folder / "checkpoint.json"
        self._store_id = store_id
        self._reading = blake2b(reading.encode(), digest_size=8).hexdigest()
        self._command = command
        self._about = about
        self._is_new = False
        self._lock: FileIO | None = None
        self._rejects: FileIO | None = None
        self._saved_at = 0.0
        self._keeps_rejects = keeps_rejects
        self._known: dict[str, Any] = {}
        self._entries: dict[str, tuple[Mark, dict[str, Any] | None]] = {}
        self._files: dict[str, tuple[tuple[int, int] | None, Pieces]] = {}

    def __enter__(self) -> Job:
        with ExitStack() as undo:
            undo.push(self.__exit__)
            try:
                self._is_new = not self.folder.exists()
                make_folder(self.folder)
                if self.folder.is_symlink():
                    raise OSError(errno.ELOOP, "is a link, and no folder of a job")
                self._take_lock()
                self._check_store()
                self._known = self._load()
                if (damage := self.failed.open()) is not None:
                    self.warnings.append(damage)
                    self._known = {}
            except OSError as error:
                raise unusable(Path(error.filename or self.folder), error) from error
            undo.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.failed.close()
        if self._is_new and isinstance(exc_info[1], UsageError):
            shutil.rmtree(self.folder, ignore_errors=True)
        for file in (self._rejects, self._lock):
            if file is not None:
                file.close()

    def resume_at(self, path: str) -> Mark | None:
        """Where to go on in an input that only grew since; None to read it from its start."""
        known = self._known.get(os.path.realpath(path))
        if known is None:
            return None
        mark = Mark(known["byte"], known["line"])
        if _edges(path, mark.byte) == {"head": known["head"], "tail": known["tail"]}:
            self._keeps_rejects = True
            return mark
        self.warnings.append(f"{path} is not the file it was: reading it from the start (known records are skipped)")
        return None

    @property
    def bytes_read(self) -> int:
        """By earlier runs, of the files as they were then."""
        return sum(known["byte"] for known in self._known.values())

    def begun(self, path: str, pieces: Pieces | None = None) -> None:
        """The file of this name is being read now. If another takes its place, marks say nothing about that one.

        *pieces* fills with what was read (byte, size, digest): only where the file still holds that, it has a mark.
        """
        self._files[path] = _file_number(path), deque() if pieces is None else pieces

    def set_aside(self, lines: Iterable[str]) -> None:
        """Append to the rejects; on disk before the next checkpoint is."""
        text = "".join(f"{line}\n" for line in lines)
        if not text:
            return
        try:
            if self._rejects is None:
                # What is read again is rejected again; what is not, keeps its place.
                self._rejects = open_private(self.rejects_path, "a" if self._keeps_rejects else "w")
            write_all(self._rejects, text.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise unusable(self.rejects_path, error) from error

    def save(self, marks: Mapping[str, Mark], *, now: bool = False) -> None:
        """Write the checkpoint, at most once a second unless *now*. What it says must be durable already."""
        if not now and time.monotonic() - self._saved_at < SAVE_EVERY:
            return
        self.failed.sync()
        try:
            if self._rejects is not None:
                os.fsync(self._rejects.fileno())
            if marks:
                write_atomically(self._checkpoint_path, self._content(marks))
        except OSError as error:
            raise unusable(self._checkpoint_path, error) from error
        self._saved_at = time.monotonic()

    def keep_summary(self, summary: Mapping[str, Any]) -> None:
        """What `jobs show` shows of the last run."""
        self._keep(SUMMARY, summary)

    def _keep(self, name: str, content: Mapping[str, Any]) -> None:
        path = self.folder / name
        try:
            write_atomically(path, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise unusable(path, error) from error

    def _take_lock(self) -> None:
        path = self.folder / LOCK
        self._lock = lock.acquire(path, self._command)
        if self._lock is None:
            raise Locked(
                f"another run of the job {self.name} is under way ({lock.holder(path) or 'it has just ended'})",
                hint="nothing was started; --if-locked wait waits for it, --job gives this run a name of its own",
            )

    def _check_store(self) -> None:
        """What failed belongs to the store it failed in. Raises UsageError."""
        known = read_json(self.folder / ABOUT)
        if known.get("store", self._store_id) != self._store_id:
            raise UsageError(
                f"the job {self.name} belongs to the store {known['store']}, this one is {self._store_id}",
                hint="name the store it was made with (--db), or another --job",
            )
        if self._about is not None:
            about = {"schema": SCHEMA, "job": self.name, "store": self._store_id, **self._about}
            if about != known:
                self._keep(ABOUT, about)

    def _content(self, marks: Mapping[str, Mark]) -> bytes:
        inputs = dict(self._known)
        for path, mark in marks.items():
            inputs.pop(os.path.realpath(path), None)
            if (entry := self._entry(path, mark)) is not None:
                inputs[os.path.realpath(path)] = entry
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "job": self.name,
            "store": self._store_id,
            "reading": self._reading,
            "inputs": inputs,
        }
        content["checksum"] = _checksum(content)
        return json.dumps(content, indent=1).encode()

    def _entry(self, path: str, mark: Mark) -> dict[str, Any] | None:
        """What the checkpoint says of an input; None if its file is no longer what was read. Looked at once a mark: a
        job of a thousand files does not open them all every second.
        """
        marked, entry = self._entries.get(path, (None, None))
        if marked != mark:
            number, pieces = self._files.get(path, (None, None))
            edges = _edges(path, mark.byte, pieces) if _file_number(path) == number else None
            entry = None if edges is None else {**asdict(mark), **edges}
            self._entries[path] = mark, entry
        return entry

    def _load(self) -> dict[str, Any]:
        """The inputs of the checkpoint, or none: a damaged one is kept under another name. Raises UsageError."""
        path = self._checkpoint_path
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return {}
        problem = ""
        try:
            content = json.loads(text)
            claimed = content.pop("checksum")
            if content["schema"] != SCHEMA:
                problem = f"is of schema {content['schema']}, this program writes {SCHEMA}"
            elif claimed != _checksum(content):
                problem = "is damaged"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            problem = "is damaged"
        if problem:
            aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
            path.replace(aside)
            self.warnings.append(f"the checkpoint {path} {problem}; kept as {aside.name}, reading from the start")
            return {}
        if content["store"] != self._store_id:
            raise UsageError(
                f"the checkpoint {path} belongs to the store {content['store']}, this one is {self._store_id}",
                hint="name the store it was made with (--db), or another --checkpoint",
            )
        # Read in another way, the same bytes hold other records: what was skipped then may be wanted now.
        return dict(content["inputs"]) if content["reading"] == self._reading else {}


def _file_number(path: str) -> tuple[int, int] | None:
    """What tells one file from another that has its name."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _checksum(content: Mapping[str, Any]) -> str:
    return blake2b(canonical_json(content).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _edges(path: str, byte: int, pieces: Pieces | None = None) -> dict[str, str] | None:
    """Digests of the head of a file and of what lies before *byte*; None if it is no file, shorter, unreadable, or
    no longer what the *pieces* say was read: a log that was copied and cut (copytruncate) may have grown beyond *byte*.
    """
    size = min(EDGE, byte)
    try:
        if not Path(path).is_file():  # opening a pipe would wait, or take from what is still to be read
            return None
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(size)
            if pieces and not _still_holds(file, pieces, byte - size, byte):
                return None
            file.seek(byte - size)
            tail = file.read(size)
    except OSError:
        return None
    if len(tail) < size:
        return None
    return {"head": digest_of(head).hex(), "tail": digest_of(tail).hex()}


def _still_holds(file: BinaryIO, pieces: Pieces, start: int, end: int) -> bool:
    """Whether the first piece, and what was read from *start* to *end*, are there still. What lies between is not asked
    for: a file that was cut and filled again has another beginning, however much of it has been read by then.
    """
    while len(pieces) > 1 and pieces[1].byte + pieces[1].size <= start:
        del pieces[1]
    first = pieces[0]
    return all(_holds(file, piece) for piece in list(pieces) if piece is first or piece.byte < end)


def _holds(file: BinaryIO, piece: Piece) -> bool:
    file.seek(piece.byte)
    return digest_of(file.read(piece.size)) == piece.digest


def read_json(path: Path) -> dict[str, Any]:
    """What was kept for whoever looks; {} if there is none, or none that can be read. Raises OSError."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
