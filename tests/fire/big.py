"""Inputs far larger than memory through the real program: what it holds stays small, everything but one line is read.

    python tests/fire/big.py [--megabytes 1024] [--only NAME] [--way WAY] [--folder PLACE] [--bound 200]

Each shape is given as a file, through a FIFO, on stdin, and with gzip; a line, cell or element of half the size stands
between good records. Nothing large is kept but the one file that is being read, and that only in its turn: all else is
written while it is read. The good records repeat themselves, so that the store stays small.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).parents[1]))

from checker import conserved
from peak import LAUNCHER, peak_in
from program import PROGRAM, Powermem

MIB = 1024 * 1024
DIFFERENT = 20_000  # records, over and over
DIFFERENT_LARGE = 4
GOOD = 100  # records before what is too long, and as many after it
BLOCK = MIB  # bytes that are made at once


@dataclass
class Shape:
    """*pieces* of an input of so many bytes, one of *rejects* and good records; *format* says what it is."""

    name: str
    format: str
    pieces: Callable[[int], Iterator[bytes]]
    rejects: int = 1


TEXT = "about tea, trains, a house by the river and whoever lived in it before all of the others came, " * 8


def record(number: int) -> bytes:
    return json.dumps({"memory": f"note {number} {TEXT}", "user_id": f"user {number % 50}"}).encode()


def many(size: int) -> Iterator[bytes]:
    """Good records, block by block, until there are *size* bytes."""
    block = [b"".join(record(start + i) + b"\n" for i in range(1000)) for start in range(0, DIFFERENT, 1000)]
    for one in itertools.cycle(block):
        yield one
        size -= len(one)
        if size <= 0:
            return


def large(size: int) -> Iterator[bytes]:
    """Good records of 1 MiB each."""
    filling = b"".join(filler(MIB - 64))
    lines = [b'{"memory": "note %d %b"}\n' % (number, filling) for number in range(DIFFERENT_LARGE)]
    return itertools.islice(itertools.cycle(lines), max(1, size // MIB))


def some(first: int) -> bytes:
    return b"".join(record(number) + b"\n" for number in range(first, first + GOOD))


def long_line(size: int) -> Iterator[bytes]:
    yield some(0) + b'{"memory": "'
    yield from filler(size // 2)
    yield b'"}\n' + some(GOOD)


def no_newline(size: int) -> Iterator[bytes]:
    yield b'{"memory": "'
    yield from filler(size)


def plain_text(size: int) -> Iterator[bytes]:
    yield b"".join(b"note %d of many\n" % number for number in range(GOOD))
    yield from filler(size // 2)
    yield b"\n" + b"".join(b"note %d of many\n" % number for number in range(GOOD, 2 * GOOD))


def rows(first: int, number: int = GOOD) -> bytes:
    return b"".join(b'user %d,"note %d, %b"\n' % (n % 50, n, TEXT.encode()) for n in range(first, first + number))


def cell(size: int) -> Iterator[bytes]:
    yield b"user_id,memory\n" + rows(0) + b'ana,"'
    yield from filler(size // 2)
    yield b'"\n' + rows(GOOD)


def runaway_quote(size: int) -> Iterator[bytes]:
    """All rows after the quote have quotes of their own."""
    block = rows(0, DIFFERENT)
    yield b"user_id,memory\n" + b'ana,"never closed\n'
    for _ in range(max(1, size // len(block))):
        yield block


def array(size: int) -> Iterator[bytes]:
    good = b",\n".join(map(record, range(GOOD)))
    yield b"[" + good + b',\n{"memory": "'
    yield from filler(size // 2)
    yield b'"},\n' + b",\n".join(map(record, range(GOOD, 2 * GOOD))) + b"]\n"


def filler(size: int) -> Iterator[bytes]:
    block = (b"all work and no play makes a very long line " * (BLOCK // 44 + 1))[:BLOCK]
    for start in range(0, size, BLOCK):
        yield block[: min(BLOCK, size - start)]


SHAPES = (
    Shape("many records", "jsonl", many, rejects=0),
    Shape("large records", "jsonl", large, rejects=0),
    Shape("a long line", "jsonl", long_line),
    Shape("no newline", "jsonl", no_newline),
    Shape("plain text", "text", plain_text),
    Shape("a long cell", "csv", cell),
    Shape("a quote that is never closed", "csv", runaway_quote),
    Shape("a long element", "json", array),
)

GOOD_OF = {"no newline": 0}


WAYS = tuple(f"{way}{packing}" for way in ("file", "FIFO", "stdin") for packing in ("", ", gzip"))


def packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def write(stream: BinaryIO, pieces: Iterable[bytes]) -> None:
    with suppress(BrokenPipeError), stream:
        stream.writelines(pieces)


@dataclass(frozen=True)
class Seen:
    """One run: how it ended, and the most memory it held, in MiB."""

    code: int
    summary: dict[str, object]
    peak: float
    seconds: float
    err: str


def run(powermem: Powermem, shape: Shape, way: str, pieces: Iterable[bytes]) -> Seen:
    """*way* is one of WAYS."""
    way, _, packing = way.partition(", ")
    pieces = packed(pieces) if packing else pieces
    place, arguments = powermem.folder / "input", ["-"]
    if way != "stdin":
        arguments = ["-f", str(place)]
        os.mkfifo(place) if way == "FIFO" else write(place.open("wb"), pieces)
    peak = powermem.folder / "peak"
    command = [
        *LAUNCHER,
        str(peak),
        *PROGRAM,
        "add",
        *arguments,
        "--format",
        shape.format,
        "--no-infer",
        "--json",
    ]
    started = time.monotonic()
    with (powermem.folder / "out").open("wb") as out, (powermem.folder / "err").open("wb") as err:
        process = subprocess.Popen(
            command,
            env=powermem.environ,
            cwd=powermem.folder,
            stdin=subprocess.PIPE if way == "stdin" else subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        if way != "file":
            stream = process.stdin if process.stdin is not None else None
            writer = threading.Thread(target=lambda: write(stream or place.open("wb"), pieces))
            writer.start()
            writer.join()
        process.wait()
    place.unlink(missing_ok=True)
    said = (powermem.folder / "out").read_text(encoding="utf-8")
    return Seen(
        process.returncode,
        json.loads(said) if said.startswith("{") else {},
        peak_in(peak),
        time.monotonic() - started,
        (powermem.folder / "err").read_text(encoding="utf-8"),
    )


def faults(shape: Shape, seen: Seen, records: int, bound: float) -> Iterator[str]:
    said = seen.summary
    if seen.code != (3 if shape.rejects and records else 1 if shape.rejects else 0) or not said:
        yield f"ended with {seen.code}: {said} {seen.err[-500:]}"
        return
    kept = sum(int(str(said[name])) for name in ("added", "unchanged", "duplicate"))
    if not conserved(said) or kept != records or said["rejected"] != shape.rejects:
        yield f"{records} records and {shape.rejects} rejects came in, it said {said}"
    if seen.peak > bound:
        yield f"it held {seen.peak:.0f} MiB"
    if "Traceback" in seen.err:
        yield seen.err[-500:]


def records_of(shape: Shape, size: int) -> int:
    """Good records in it."""
    if not shape.rejects:
        return sum(piece.count(b"\n") for piece in shape.pieces(size))
    if shape.name == "a quote that is never closed":
        return DIFFERENT * (sum(1 for _ in runaway_quote(size)) - 1)
    return GOOD_OF.get(shape.name, 2 * GOOD)


def try_all(megabytes: int, bound: float, only: str, folder: Path | None, ways: Sequence[str] = WAYS) -> list[str]:
    size, wrong, runs = megabytes * MIB, [], 0
    worst = 0.0
    for shape in SHAPES:
        if only and only not in shape.name:
            continue
        records = records_of(shape, size)
        for way in ways:
            with tempfile.TemporaryDirectory(prefix="powermem-big-", dir=folder) as name:
                pieces = shape.pieces(size)
                seen = run(Powermem(Path(name)), shape, way, pieces)
            found = [f"{shape.name}, {way}: {fault}" for fault in faults(shape, seen, records, bound)]
            print(f"{shape.name:30} {way:12} {seen.peak:6.0f} MiB {seen.seconds:7.1f} s", *found, flush=True)
            wrong, runs, worst = wrong + found, runs + 1, max(worst, seen.peak)
    print(
        f"{runs} inputs of {megabytes} MiB and half of it in one piece: at most {worst:.0f} MiB held, {len(wrong)} wrong"
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--bound", type=float, default=200, help="MiB that the program may hold")
    parser.add_argument("--only", default="", help="shapes with this in their names")
    parser.add_argument("--way", choices=WAYS, help="in this one alone; only as a file it takes room on the disk")
    parser.add_argument("--folder", type=Path, help="where to write the largest file; /tmp by default")
    options = parser.parse_args()
    free = shutil.disk_usage(options.folder or tempfile.gettempdir()).free // MIB
    ways = (options.way,) if options.way else WAYS
    if free < 2 * options.megabytes and any(way.startswith("file") for way in ways):
        print(f"{free} MiB free, {2 * options.megabytes} are needed: name another place with --folder", file=sys.stderr)
        return 2
    return 1 if try_all(options.megabytes, options.bound, options.only, options.folder, ways) else 0


if __name__ == "__main__":
    sys.exit(main())
