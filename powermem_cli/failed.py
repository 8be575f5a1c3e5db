"""The records of a job that failed: every run tries them again before anything else, until it has tried often enough.

They have a file of their own beside the rejects, `failed.jsonl`: what is rejected waits for a person, who may mend,
move or delete that file; what failed waits only for the next run. It is a log, one line of JSON each, and of several
lines with one identity the last counts. It is written anew when a run has ended.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from powermem_cli.files import open_private, sync_folder, unusable, write_all
from powermem_cli.identity import Identity

PARKED_AFTER: Final = 5  # runs in which a record failed

Line = Mapping[str, Any]
"""A line of rejects (file, line, code, message, record …) with `identity`, `content` and `runs`."""


class _Entry(NamedTuple):
    content: bytes
    runs: int


class Failed:
    """Call `open` first. Methods raise StoreError where the file can't be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[bytes, _Entry] = {}  # by the identity's key
        self._before: dict[bytes, _Entry] = {}
        self._size_before = 0
        self._file: FileIO | None = None
        self._lines = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def parked(self) -> int:
        return sum(entry.runs >= PARKED_AFTER for entry in self._entries.values())

    def open(self) -> str | None:
        """Take in what earlier runs left. If that is damaged it is kept under another name; returns what to say."""
        try:
            if not self.load():
                aside = self.path.with_name(f"{self.path.name}.corrupt-{int(time.time())}")
                self.path.replace(aside)
                self._entries.clear()
                self._lines = 0
                self._begin()
                return f"{self.path} is damaged; kept as {aside.name}, reading everything again"
        except OSError as error:
            raise unusable(self.path, error) from error
        self.compact()
        self._begin()
        return None

    def load(self) -> bool:
        """Take in what the file holds and leave it as it is; False if it is damaged. Raises OSError."""
        whole = all(self._take(line) for line in self._stored())
        self._begin()
        return whole

    def lines(self, *, parked: bool = False) -> Iterator[Line]:
        """What earlier runs left to be tried again, or what is *parked*; in the order it failed. Raises OSError."""
        at = 0
        for text in self._stored():
            at += len(text)
            if at > self._size_before:  # of this run
                return
            line = _parsed(text)
            if line is None or "record" not in line:
                continue
            entry = _Entry(bytes.fromhex(line["content"]), line["runs"])
            is_last = self._before.get(bytes.fromhex(line["identity"])) == entry
            if is_last and (entry.runs >= PARKED_AFTER) == parked:
                yield line

    def is_parked(self, identity: Identity) -> bool:
        entry = self._entries.get(identity.key)
        return entry is not None and entry.content == identity.content and entry.runs >= PARKED_AFTER

    def note(self, identity: Identity, line: str) -> None:
        """The record of this line failed in this run; it is told once a run, however often it failed in it."""
        before = self._before.get(identity.key)
        same = before is not None and before.content == identity.content
        entry = _Entry(identity.content, 1 + (before.runs if before is not None and same else 0))
        if self._entries.get(identity.key) == entry:
            return
        self._entries[identity.key] = entry
        own = {"identity": identity.key.hex(), "content": entry.content.hex(), "runs": entry.runs}
        self._append(f"{json.dumps(own)[:-1]}, {line[1:]}")

    def forget(self, key: bytes) -> None:
        """The record of this identity has ended in another way."""
        if self._entries.pop(key, None) is not None:
            self._append(json.dumps({"identity": key.hex(), "runs": 0}))

    def revive(self) -> int:
        """Let what is parked be tried again, as if it had never failed; returns how many."""
        revived = 0
        for line in self.lines(parked=True):
            key = bytes.fromhex(line["identity"])
            self._entries[key] = self._entries[key]._replace(runs=0)
            self._append(json.dumps({**line, "runs": 0}, ensure_ascii=False))
            revived += 1
        self.compact()
        self._begin()
        return revived

    def sync(self) -> None:
        """What was said is on disk on return."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise unusable(self.path, error) from error

    def compact(self) -> None:
        """Keep one line of each record that still fails, no file if there is none."""
        self.close()
        if self._lines == len(self._entries):
            return
        try:
            self._rewrite()
        except OSError as error:
            raise unusable(self.path, error) from error
        self._lines = len(self._entries)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._before = dict(self._entries)
        self._size_before = self.path.stat().st_size if self._entries else 0

    def _rewrite(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        last: dict[str, int] = {}
        for number, text in enumerate(self._stored()):
            if (line := _parsed(text)) is not None:
                last[line["identity"]] = number
        wanted = {last[key.hex()] for key in self._entries}
        with open_private(temporary, "w") as file:
            for number, text in enumerate(self._stored()):
                if number in wanted:
                    write_all(file, text.rstrip(b"\n") + b"\n")
            os.fsync(file.fileno())
        temporary.replace(self.path)
        if not self._entries:
            self.path.unlink()
        sync_folder(self.path.parent)

    def _stored(self) -> Iterator[bytes]:
        """The lines of the file, none if there is no file."""
        try:
            with open_private(self.path, "r") as raw, open(raw.fileno(), "rb", closefd=False) as file:
                yield from file
        except FileNotFoundError:
            return

    def _take(self, text: bytes) -> bool:
        """Whether a line is whole. One without its end was being written when the run was killed: what it is about
        is read again, for no checkpoint has passed it.
        """
        whole = text.endswith(b"\n")
        self._lines += 1 if whole else 2  # what has no end must be written anew before anything is added
        line = _parsed(text)
        if line is None:
            return not whole
        key = bytes.fromhex(line["identity"])
        self._entries.pop(key, None)
        if "record" in line:
            self._entries[key] = _Entry(bytes.fromhex(line["content"]), line["runs"])
        return True

    def _append(self, text: str) -> None:
        try:
            if self._file is None:
                self._file = open_private(self.path, "a")
            write_all(self._file, f"{text}\n".encode())
        except OSError as error:
            raise unusable(self.path, error) from error
        self._lines += 1


def _parsed(text: bytes) -> Line | None:
    """A line as it was written; None if it is not whole."""
    try:
        line = json.loads(text)
        whole = len(bytes.fromhex(line["identity"])) == 16 and type(line["runs"]) is int
        if "record" in line:
            whole = whole and len(bytes.fromhex(line["content"])) == 16 and line["runs"] >= 0
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return line if whole else None
