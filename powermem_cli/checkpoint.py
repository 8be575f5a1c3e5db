"""What a job has read and what it set aside, in a folder of its own; and the lock that one run of it holds.

Only the ledger decides whether a record is done: everything here saves reading time, or is for a person to look at.
Whatever is found damaged is set aside and read from the start again.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any, Final

from powermem_cli.errors import Locked, StoreError, UsageError
from powermem_cli.model import Record, Rejected
from powermem_cli.rules import canonical_json

SCHEMA: Final = 1
EDGE: Final = 1024  # bytes of the head, and before the offset, that tell one file from another
SAVE_EVERY: Final = 1.0  # seconds

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
        self._ended[number] = {
            item.source.file: Mark(item.source.byte + item.size, item.source.line + item.source.lines)
            for item in items
            if item.source is not None
        }
        while self._next in self._ended:
            self.marks.update(self._ended.pop(self._next))
            self._next += 1


class Job:
    """The folder of one job. `with Job(...) as job:` makes it and holds its lock. Raises Locked, StoreError.

    *keeps_rejects*: some input is a pipe, so that what an earlier run set aside will not be read again.
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
    ) -> None:
        self.name = name
        self.folder = folder
        self.rejects_path = rejects or folder / "rejects.jsonl"
        self.warnings: list[str] = []
        self._checkpoint_path = checkpoint or folder / "checkpoint.json"
        self._store_id = store_id
        self._reading = blake2b(reading.encode(), digest_size=8).hexdigest()
        self._lock: FileIO | None = None
        self._rejects: FileIO | None = None
        self._saved_at = 0.0
        self._keeps_rejects = keeps_rejects
        self._known: dict[str, Any] = {}
        self._files: dict[str, tuple[int, int] | None] = {}

    def __enter__(self) -> Job:
        with ExitStack() as undo:
            undo.callback(self.__exit__)
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock = _locked(self.folder / "lock", self.name)
                self._known = self._load()
            except OSError as error:
                raise _unusable(self.folder, error) from error
            undo.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
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

    def begun(self, path: str) -> None:
        """The file of this name is being read now. If another takes its place, marks say nothing about that one."""
        self._files[path] = _file_number(path)

    def set_aside(self, lines: Iterable[str]) -> None:
        """Append to the rejects; on disk before the next checkpoint is."""
        text = "".join(f"{line}\n" for line in lines)
        if not text:
            return
        try:
            if self._rejects is None:
                # What is read again is rejected again; what is not, keeps its place.
                self._rejects = _private(self.rejects_path, "a" if self._keeps_rejects else "w")
            _write(self._rejects, text.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise _unusable(self.rejects_path, error) from error

    def save(self, marks: Mapping[str, Mark], *, now: bool = False) -> None:
        """Write the checkpoint, at most once a second unless *now*. What it says must be durable already."""
        if not now and time.monotonic() - self._saved_at < SAVE_EVERY:
            return
        inputs = dict(self._known)
        for path, mark in marks.items():
            inputs.pop(os.path.realpath(path), None)
            if _file_number(path) == self._files.get(path) and (edges := _edges(path, mark.byte)):
                inputs[os.path.realpath(path)] = {**asdict(mark), **edges}
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "job": self.name,
            "store": self._store_id,
            "reading": self._reading,
            "inputs": inputs,
        }
        content["checksum"] = _checksum(content)
        try:
            if self._rejects is not None:
                os.fsync(self._rejects.fileno())
            write_atomically(self._checkpoint_path, json.dumps(content, ensure_ascii=False, indent=1).encode())
        except OSError as error:
            raise _unusable(self._checkpoint_path, error) from error
        self._saved_at = time.monotonic()

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


def write_atomically(path: Path, content: bytes) -> None:
    """The old content or the new, never a part: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _private(temporary, "w") as file:
        _write(file, content)
        os.fsync(file.fileno())
    temporary.replace(path)
    with suppress(OSError):  # Windows has no way to sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _private(path: Path, mode: str) -> FileIO:
    """Opened for nobody else, and never through a link that somebody put there; without a buffer that could fail late."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)

    return FileIO(path, mode, opener=opener)


def _write(file: FileIO, content: bytes) -> None:
    """All of it: a file without a buffer may take less at a time."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _file_number(path: str) -> tuple[int, int] | None:
    """What tells one file from another that has its name."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _checksum(content: Mapping[str, Any]) -> str:
    return blake2b(canonical_json(content).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _edges(path: str, byte: int) -> dict[str, str] | None:
    """Digests of the head of a file and of what lies before *byte*; None if it is no file, shorter, or unreadable."""
    size = min(EDGE, byte)
    try:
        if not Path(path).is_file():  # opening a pipe would wait, or take from what is still to be read
            return None
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(size)
            file.seek(byte - size)
            tail = file.read(size)
    except OSError:
        return None
    if len(tail) < size:
        return None
    return {"head": blake2b(head, digest_size=8).hexdigest(), "tail": blake2b(tail, digest_size=8).hexdigest()}


def _unusable(path: Path, error: OSError) -> StoreError:
    code = (
        "store.full" if error.errno in {28, 122} else "store.permission" if error.errno in {1, 13, 30} else "store.io"
    )
    return StoreError(
        f"{path}: {error.strerror or error}",
        hint="the state of jobs is kept in $XDG_STATE_HOME/powermem; set it to a place that can be written",
        code=code,
    )


def _locked(path: Path, name: str) -> FileIO:
    """The lock file, held until it is closed: also by kill -9, so that none is ever stale. Raises Locked."""
    file = _private(path, "a+")
    try:
        if os.name == "nt":
            import msvcrt  # noqa: PLC0415

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read(200).decode("utf-8", "replace").strip()
        file.close()
        raise Locked(
            f"another run of the job {name} is under way ({holder or 'its process is not known'})",
            hint="nothing was started; wait for it, or give this run a name of its own if it reads something else: --job",
        ) from None
    file.truncate(0)
    _write(file, f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
    return file
