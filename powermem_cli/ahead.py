"""Lines of a large file to blocks of records in a process of its own, ahead of the one that writes them.

Half of what a record costs follows from its line alone: parsing and checking it, its identity, its terms, its vector.
One Python process does one thing at a time; a second one does this half while the first writes. The second one is a
pure function from lines to columns and nothing depends on it: what it can't make a record of, and all that is left
when it ends for any reason, is read by whoever asked.
"""

from __future__ import annotations

import gc
import logging
import marshal
import os
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, BinaryIO, Final

from powermem_cli.blocks import Block, Columns, flat
from powermem_cli.identity import digest, identify
from powermem_cli.model import Line, Record, Scope, Source, Vector
from powermem_cli.plan import said
from powermem_cli.providers import built_in_model
from powermem_cli.readers import Input, Reading
from powermem_cli.readers.lines import WHOLE
from powermem_cli.readers.record import RecordMaker
from powermem_cli.readers.strict_json import parse
from powermem_cli.rules import canonical_json
from powermem_cli.terms import distinct_terms

logger = logging.getLogger("powermem")

WORTH_IT: Final = 2 * 1024 * 1024  # bytes to read; the other process takes as long to start as a few hundred KB to read
LINES: Final = 512  # sent at a time
BYTES: Final = 256 * 1024  # or as many; a longer line is not sent
PIPE: Final = 1024 * 1024  # bytes: a list of rows and more, or each waits for the other in the middle of one
UNDER_WAY: Final = 4  # lists of lines: enough that neither process waits for the other

_HEAD: Final = struct.Struct("<I")
_NOWHERE: Final = Source("", 0, 0)
_START: Final = "import sys; sys.path[:] = sys.argv[1:]; from powermem_cli.ahead import main; main()"

Answer = tuple[list[bool] | None, list[tuple[str | None, ...]], list[list[Any]]]
"""What is made of a list of lines: which are records (None: all of them); whose they are, each scope once; and the
Columns of those records, but that places in that list stand for scopes.
"""


def is_worth_it(opened: Input) -> bool:
    """Whether there is so much left to read that another process pays, lines to give it, and a core to run it on."""
    left = (opened.size or 0) - (0 if opened.start is None else opened.start.byte)
    return left >= WORTH_IT and opened.growing and opened.in_lines and _cores() > 1 and _is_python()


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_python() -> bool:
    """Not so in a program that was frozen into one file, or that has Python inside."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class Ahead:
    """The other process, for one input. `close` ends it; so does the end of this process, however it comes."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: SimpleQueue[Answer | None] = SimpleQueue()
        self.is_up = threading.Event()
        """Set while the other process is at work; until then lines come back as they are."""
        self.thorough = True
        """Whether to work out what only a record needs that is new. Mostly it is: that the ledger knows a record is
        found out only when it is made."""
        self._has_ended = False

    def start(self) -> None:
        """Where there is no other process or thread to be had, everything is read here."""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                # The path as it is here: by itself, Python would begin with the working directory, where anything may lie.
                [sys.executable, "-c", _START, *filter(_is_text, sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us
            )
            for pipe in (self._process.stdin, self._process.stdout):
                _widen(pipe)  # type: ignore[arg-type]
            threading.Thread(target=self._receive, name="powermem-ahead", daemon=True).start()
        except (OSError, RuntimeError) as error:
            logger.debug("reading in this process alone: %s", error)
            self.close()
            return
        self._send(_as_values(self._reading))

    def close(self) -> None:
        """Safe to repeat, from any thread."""
        self._has_ended = True
        if (process := self._process) is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what could not be sent any more
                pipe.close()  # type: ignore[union-attr]

    def blocks(self, name: str, lines: Iterable[Line], make: Callable[[Line], Record]) -> Iterator[Line | Block]:
        """Blocks of the records that lines are; a line as it is where whoever asks has to see what it is. In order."""
        sent: deque[list[Line]] = deque()
        waiting: list[Line] = []
        size = 0
        for line in lines:
            if not self.is_up.is_set() or line[-1] != WHOLE or len(line[0]) > BYTES:
                # In its turn; and before another is read, as what is no whole line is judged by where reading stands.
                yield from self._received(name, sent, make)
                yield from waiting
                waiting, size = [], 0
                yield line
                continue
            waiting.append(line)
            size += len(line[0])
            if len(waiting) >= LINES or size >= BYTES:
                self._send((self.thorough, [one[0] for one in waiting]))
                sent.append(waiting)
                waiting, size = [], 0
                yield from self._received(name, sent, make, but=UNDER_WAY)
        yield from self._received(name, sent, make)
        yield from waiting

    def _received(
        self, name: str, sent: deque[list[Line]], make: Callable[[Line], Record], *, but: int = 0
    ) -> Iterator[Line | Block]:
        """What has been made of the lines that were *sent*, the oldest first, until *but* so many lists are under way."""
        while len(sent) > but:
            lines = sent.popleft()
            answer = None if self._has_ended else self._answers.get()
            if answer is None:
                self._has_ended = True
                self.is_up.clear()
                yield from lines
            else:
                yield from _in_order(name, lines, answer, make)

    def _send(self, what: Any) -> None:
        """An error is none of ours: there will be no answer, which is seen then."""
        assert self._process is not None
        with suppress(OSError, ValueError):
            _write(self._process.stdin, what)  # type: ignore[arg-type]

    def _receive(self) -> None:
        """The answers, on a thread of their own: neither process must wait for the other to read."""
        assert self._process is not None
        try:
            answers = _read_all(self._process.stdout)  # type: ignore[arg-type]
            if next(answers, None) is not None:  # the first says only that it has begun
                self.is_up.set()
            for answer in answers:
                self._answers.put(answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, there are no more answers
            logger.debug("the process that reads ahead: %r", error)
        self._answers.put(None)


def main() -> None:
    """The other process: lists of lines on stdin, lists of rows on stdout, until stdin ends or nobody takes them."""
    gc.set_threshold(50_000, 20, 20)  # thousands of rows come and go, and none of them is part of a cycle
    out = os.fdopen(os.dup(1), "wb", 0)
    asked: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_take, args=(sys.stdin.buffer, asked), daemon=True).start()
    make = RecordMaker(_reading_of(asked.get())).make
    embed = built_in_model()
    with suppress(OSError):
        _write(out, [])
        while (wanted := asked.get()) is not None:
            thorough, lines = wanted
            _write(out, _answer(lines, make, embed if thorough else None))
    os._exit(0)  # the thread may sit in a read()


def _take(source: BinaryIO, asked: SimpleQueue[Any]) -> None:
    for lines in _read_all(source):
        asked.put(lines)
    asked.put(None)


def _answer(
    lines: Sequence[bytes],
    make: Callable[[Any, Source, int], Record],
    embed: Callable[[Sequence[str]], Sequence[Vector]] | None,
) -> Answer:
    """What was made of the lines. Without *embed*, no more than who they are."""
    records = _each_key_once([_made(line, make) for line in lines])
    there = [record for record in records if record is not None]
    identities = [*map(identify, there)]
    places: dict[Scope, int] = {}
    of_each: list[list[Any]] = [
        [identity.key for identity in identities],
        [identity.content for identity in identities],
        [record.key for record in there],
        [places.setdefault(record.scope, len(places)) for record in there],
        [record.created_at for record in there],
    ]
    if embed is not None:
        of_each += _follows(there, embed)
    is_there = None if len(there) == len(lines) else [record is not None for record in records]
    return is_there, [tuple(scope) for scope in places], of_each


def _made(line: bytes, make: Callable[[Any, Source, int], Record]) -> Record | None:
    try:
        return make(parse(line.decode()), _NOWHERE, 0)
    except Exception:  # noqa: BLE001 - whoever reads it again says what is wrong
        return None


def _each_key_once(records: Sequence[Record | None]) -> Sequence[Record | None]:
    """Without those whose key an earlier one has: the later must see the earlier, so they are no neighbours."""
    keys = [record.key for record in records if record is not None and record.key is not None]
    if len({*keys}) == len(keys):
        return records
    seen: set[str | None] = set()
    once: list[Record | None] = []
    for record in records:
        is_first = record is not None and (record.key is None or record.key not in seen)
        once.append(record if is_first else None)
        seen.add(None if record is None else record.key)
    return once


def _follows(records: Sequence[Record], embed: Callable[[Sequence[str]], Sequence[Vector]]) -> list[list[Any]]:
    """All further columns."""
    facts = [*map(said, records)]
    texts = [one.texts for one in facts]
    vectors = iter(embed(flat(texts)))
    return [
        [canonical_json(record.metadata) if record.metadata else None for record in records],
        [record.expires_at for record in records],
        [one.unless_known for one in facts],
        [one.role for one in facts],
        texts,
        [tuple(map(digest, some)) for some in texts],
        [tuple(map(distinct_terms, some)) for some in texts],
        [tuple([next(vectors) for _ in some]) for some in texts],
    ]


def _in_order(
    name: str, lines: Sequence[Line], answer: Answer, make: Callable[[Line], Record]
) -> Iterator[Line | Block]:
    """The *lines* of an answer, in blocks where they are records."""
    is_there, scopes, (keys, contents, own_keys, whose, *further) = answer
    owners = [Scope(*scope) for scope in scopes]
    columns = Columns(keys, contents, own_keys, [owners[one] for one in whose], *further)
    if is_there is None:
        yield Block(name, lines, columns, make)
        return
    whole = Block(name, [line for line, there in zip(lines, is_there, strict=True) if there], columns, make)
    start = number = 0
    for line, there in zip(lines, is_there, strict=True):
        if there:
            number += 1
            continue
        if number > start:
            yield whole[start:number]
        start = number
        yield line
    if number > start:
        yield whole[start:number]


def _as_values(reading: Reading) -> tuple[Any, ...]:
    of = reading
    values = (of.format, of.encoding, of.delimiter, dict(of.mapping), tuple(of.scope), dict(of.metadata))
    return (*values, of.infer, of.key)


def _reading_of(values: tuple[Any, ...]) -> Reading:
    format_name, encoding, delimiter, mapping, scope, metadata, infer, key = values
    return Reading(format_name, encoding, delimiter, mapping, Scope(*scope), metadata, infer, key)


def _is_text(entry: object) -> bool:
    return isinstance(entry, str)


def _widen(pipe: BinaryIO) -> None:
    """Where the system can, and lets us."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE)


def _write(pipe: BinaryIO, what: Any) -> None:
    """Raises OSError if nobody takes it."""
    content = marshal.dumps(what)
    pipe.write(_HEAD.pack(len(content)) + content)
    pipe.flush()


def _read_all(pipe: BinaryIO) -> Iterator[Any]:
    """What was written to *pipe*, until it ends."""
    while len(head := pipe.read(_HEAD.size)) == _HEAD.size:
        (size,) = _HEAD.unpack(head)
        content = pipe.read(size)
        if len(content) < size:
            return
        yield marshal.loads(content)  # noqa: S302 - written by this very program, a moment ago
