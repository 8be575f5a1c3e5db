"""How adding and searching grow with the store: `python tests/benchmarks/scale.py [--records N] [--picture FILE]`.

Adds files of records one after another to one SQLite store by the program, and searches it in between: what a record
costs, and a search of the user who has 1 % of all memories, of one among a thousand others, and of all. At the end
also the share of the exact ten nearest that `nearest` finds, searches under a filter that keeps 1 of 1,000, questions
that name a day or a month, 100 callers at once, `search --file`, and searches while another process writes. A million take four minutes on two cores, and 5 GB of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import numpy as np
from corpus import sentences

from powermem_cli.memory import AsyncMemory
from powermem_cli.providers.local import LocalEmbedder
from powermem_cli.stores.base import Where
from powermem_cli.stores.sqlite import SqliteStore

USERS = 1000
QUERIES = 100
MANY = 1000  # questions,
CALLERS = 100  # asked by so many at once
SIZES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)  # of all records, where it is measured
WHOSE = {"one user with 1 %": "user0", "one user of 1,000": "user7", "all users": None}


@dataclass
class Curves:
    """What was measured at each size."""

    sizes: list[int] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)  # per record added
    p95: dict[str, list[float]] = field(default_factory=dict)  # milliseconds


def write_records(path: Path, texts: Iterator[str], start: int, end: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i in range(start, end):
            user = 0 if i % 100 == 0 else 1 + i % (USERS - 1)
            record = {"messages": [{"role": "user", "content": next(texts)}], "user_id": f"user{user}"}
            record |= {"created_at": 1_700_000_000 + i, "metadata": {"n": i % 1000}}
            file.write(json.dumps(record) + "\n")


def command(folder: Path, source: Path) -> tuple[list[str], dict[str, str]]:
    environ = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "SQLITE_PATH": str(folder / "scale.db")}
    return [sys.executable, "-m", "powermem_cli", "add", "-q", "--file", str(source)], environ


def add(folder: Path, texts: Iterator[str], start: int, end: int) -> float:
    """Seconds that the program takes for these records, its start included."""
    source = folder / "part.jsonl"
    write_records(source, texts, start, end)
    arguments, environ = command(folder, source)
    started = time.perf_counter()
    subprocess.run(arguments, env=environ, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def questions(number: int) -> list[str]:
    pick = random.Random(7)
    return [" ".join(pick.sample(text.split(), 5)) for text, _ in zip(sentences(2), range(number), strict=False)]


async def search(
    folder: Path, user: str | None, filters: dict[str, object] | None = None, when: str = ""
) -> list[float]:
    """Milliseconds of each question, in a process that has searched this store before. *when*: words behind each."""
    store = {"provider": "sqlite", "config": {"path": str(folder / "scale.db")}}
    times = []
    async with AsyncMemory({"vector_store": store}) as memory:
        await memory.search("how is it", user_id=user)
        wanted = len((await memory.get_all(user_id=user, filters=filters, limit=10))["results"])
        for question in questions(QUERIES):
            started = time.perf_counter()
            found = await memory.search(question + when, user_id=user, filters=filters, limit=10)
            times.append((time.perf_counter() - started) * 1000)
            if len(found["results"]) < wanted:
                raise SystemExit(f"{question!r} found {len(found['results'])} memories only")
    return times


async def search_at_once(folder: Path, user: str) -> tuple[list[float], float]:
    """Milliseconds of each of 1,000 questions that 100 callers ask, and the seconds that all took."""
    store = {"provider": "sqlite", "config": {"path": str(folder / "scale.db")}}
    waiting, times = iter(questions(MANY)), []

    async def caller(memory: AsyncMemory) -> None:
        for question in waiting:
            started = time.perf_counter()
            assert (await memory.search(question, user_id=user, limit=10))["results"]
            times.append((time.perf_counter() - started) * 1000)

    async with AsyncMemory({"vector_store": store}) as memory:
        await memory.search("how is it", user_id=user)
        started = time.perf_counter()
        await asyncio.gather(*(caller(memory) for _ in range(CALLERS)))
        return times, time.perf_counter() - started


def search_file(folder: Path, user: str) -> float:
    """Seconds of `search --file` with 1,000 questions, its start included."""
    asked, environ = folder / "questions.txt", command(folder, folder)[1]
    asked.write_text("\n".join(questions(MANY)) + "\n", encoding="utf-8")
    arguments = [sys.executable, "-m", "powermem_cli", "search", "--file", str(asked), "--user", user, "--jsonl"]
    started = time.perf_counter()
    done = subprocess.run(arguments, env=environ, cwd=folder, check=True, stdout=subprocess.PIPE)
    assert done.stdout.count(b"\n") == MANY
    return time.perf_counter() - started


def p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def said(what: str, times: Sequence[float]) -> None:
    print(f"{what:60s} p50 {statistics.median(times):6.1f} ms, p95 {p95(times):6.1f} ms", flush=True)


async def recall(path: Path) -> float:
    """Share of the true ten nearest of the whole store among the ten that `nearest` gives."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    ((number,),) = db.execute("SELECT count(*) FROM embeddings")
    matrix = np.empty((number, 256), "<f4")
    ids = np.empty(number, np.int64)
    for row, (id, vector) in enumerate(db.execute("SELECT id, vector FROM embeddings ORDER BY id")):
        ids[row], matrix[row] = id, np.frombuffer(vector, "<f4")
    db.close()
    store = SqliteStore(str(path))
    await store.open(None)
    vectors = await LocalEmbedder().embed(questions(QUERIES))
    found = 0
    for vector in vectors:
        near = {hit.id for hit in await store.nearest(vector, Where(), limit=10)}
        cosines = matrix @ np.frombuffer(vector, "<f4")
        tenth = np.partition(cosines, -10)[-10]
        found += len(near & {*ids[cosines >= tenth - 1e-6].tolist()})  # ties count as found
    await store.close()
    return found / (10 * len(vectors))


def measure(folder: Path, number: int) -> Curves:
    curves, texts, there = Curves(), sentences(1), 0
    for size in (round(number * share) for share in SIZES):
        seconds = add(folder, texts, there, size)
        curves.sizes.append(size)
        curves.microseconds.append(seconds / (size - there) * 1e6)
        print(
            f"{f'{size - there:,} records to a store of {there:,}':60s} {curves.microseconds[-1]:6.0f} µs each",
            flush=True,
        )
        there = size
        for whose, user in WHOSE.items():
            times = asyncio.run(search(folder, user))
            said(f"search, {size:,} memories, {whose}", times)
            curves.p95.setdefault(whose, []).append(p95(times))
    return curves


def at_the_end(folder: Path, number: int) -> None:
    for whose, user in WHOSE.items():
        if whose != "one user of 1,000":  # who has but one such memory
            said(f"search, a filter that keeps 1 of 1,000, {whose}", asyncio.run(search(folder, user, {"n": 7})))
            for when in (" on November 20", " in November 2023"):  # of the first million a twelfth, and all
                said(f"search, a question{when}, {whose}", asyncio.run(search(folder, user, when=when)))
    for whose, user in (("one user with 1 %", "user0"), ("one user of 1,000", "user7")):
        times, seconds = asyncio.run(search_at_once(folder, user))
        said(f"search, {CALLERS} callers at once, {MANY / seconds:,.0f} a second, {whose}", times)
        print(f"{f'search --file, {MANY:,} questions, {whose}':60s} {MANY / search_file(folder, user):,.0f} a second")
    print(
        f"{'recall@10 of nearest against the exact scan':60s} {asyncio.run(recall(folder / 'scale.db')):.3f}",
        flush=True,
    )
    source = folder / "more.jsonl"
    write_records(source, sentences(3), number, number + max(20_000, number // 10))
    arguments, environ = command(folder, source)
    with subprocess.Popen(arguments, env=environ, cwd=folder, stdin=subprocess.DEVNULL) as writing:
        for whose, user in WHOSE.items():
            said(f"search while another process writes, {whose}", asyncio.run(search(folder, user)))
        writing.terminate()


def drawn(curves: Curves) -> str:
    """The curves as an SVG picture: microseconds per record above, milliseconds per search below."""
    panels = [("µs per record added", {"add --file": curves.microseconds}), ("ms per search, p95", curves.p95)]
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 520" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="640" height="520" fill="white"/>')
    for number, (title, lines) in enumerate(panels):
        parts.append(_panel(title, lines, curves.sizes, top=20 + number * 250))
    return "\n".join([*parts, "</svg>\n"])


def _panel(title: str, lines: dict[str, list[float]], sizes: Sequence[int], top: int) -> str:
    left, width, height = 60, 420, 190
    highest = _round_up(max(value for values in lines.values() for value in values))
    parts = [f'<text x="{left}" y="{top}">{title}</text>']
    for share in (0, 0.5, 1):
        y = top + 10 + height * (1 - share)
        parts.append(
            f'<path d="M{left} {y}h{width}" stroke="#ccc"/><text x="{left - 50}" y="{y + 4}">{highest * share:g}</text>'
        )
        parts.append(f'<text x="{left + width * share - 20}" y="{top + height + 28}">{sizes[-1] * share:,.0f}</text>')
    for color, (name, values) in zip(("#0b6", "#06c", "#c30"), lines.items(), strict=False):
        points = [
            f"{left + width * size / sizes[-1]:.1f},{top + 10 + height * (1 - value / highest):.1f}"
            for size, value in zip(sizes, values, strict=True)
        ]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" stroke-width="2"/>')
        x, y = points[-1].split(",")
        parts.append(f'<text x="{float(x) + 8}" y="{float(y) + 4}" fill="{color}">{name}</text>')
    return "\n".join(parts)


def _round_up(value: float) -> float:
    step = 10 ** math.floor(math.log10(value))
    return math.ceil(value / step) * step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--picture", type=Path, help="write the curves there, as SVG")
    parser.add_argument("--folder", type=Path, help="where the store is made and left; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="powermem-scale-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        curves = measure(folder, options.records)
        growth = curves.microseconds[-1] / curves.microseconds[0]
        print(f"{'the last record costs, of what one of the first twentieth did':60s} {growth:.2f} ×", flush=True)
        if options.picture:
            options.picture.write_text(drawn(curves), "utf-8")
        at_the_end(folder, options.records)


if __name__ == "__main__":
    main()
