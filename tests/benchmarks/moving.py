"""How quick a store is moved by `export` and `import`, and whether all of it arrives: vectors, ledger and history too.

python tests/benchmarks/moving.py [sqlite oceanbase postgres ...] [--memories 100000]

From each engine named to the next; the default is from SQLite to SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from engines import Postgres, Seekdb, running
from places import OceanBasePlace, Place, PostgresPlace, SqlitePlace, insert, noted
from program import PROGRAM

from powermem_cli.providers.local import LocalEmbedder
from powermem_cli.stores.base import Update, Write

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
BATCH = 1000
DIMS = 256


def writes(number: int) -> Iterator[list[Write]]:
    random = np.random.default_rng(1)
    for start in range(0, number, BATCH):
        vectors = random.standard_normal((BATCH, DIMS)).astype("<f4")
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield [
            Write((memory(start + i, vectors[i].tobytes()),), noted(str(start + i)))
            for i in range(min(BATCH, number - start))
        ]


def memory(i: int, vector: bytes) -> Any:
    text = f"Number {i} likes the {i % 97}th café behind the {i % 89} old houses of street {i % 1009}"
    return insert(text, f"user {i % 500}", vector=vector, metadata={"n": i}, created_at=1_700_000_000_000_000 + i)


async def fill(place: Place, number: int) -> None:
    """Memories with ledger rows; each hundredth has a history, too."""
    async with place.opened(LocalEmbedder().model) as store:
        for batch in writes(number):
            applied = await store.apply(batch)
            changed = [(result.events[0][1], one.changes[0]) for result, one in zip(applied, batch, strict=True)][::100]
            updates = [Update(id, 1_800_000_000_000_000, text=changed_text(made)) for id, made in changed]
            await store.apply([Write((update,)) for update in updates])


def changed_text(made: Any) -> str:
    return f"now {made.metadata['n']} \N{SNOWMAN}"


def timed(*arguments: str) -> tuple[float, int]:
    """Seconds, and MB of memory at most."""
    began = time.monotonic()
    with subprocess.Popen([*PROGRAM, *arguments]) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return time.monotonic() - began, used.ru_maxrss // 1024


def round_trip(folder: Path, number: int, places: Sequence[Place] = ()) -> dict[str, tuple[float, int]]:
    """What each step took, from place to place. Raises AssertionError if anything is not the same afterwards."""
    places = places or [SqlitePlace(folder / "first.db"), SqlitePlace(folder / "second.db")]
    asyncio.run(fill(places[0], number))
    first, figures = folder / "0.jsonl", {}
    figures["export"] = exported(places[0], first)
    for step, (source, target) in enumerate(itertools.pairwise(places), 1):
        copy, way = folder / f"{step}.jsonl", f"{source.engine} to {target.engine}" if len(places) > 2 else "import"
        figures[way] = timed("import", str(folder / f"{step - 1}.jsonl"), *at(target, folder), "-q")
        exported(target, copy)
        with first.open("rb") as before, copy.open("rb") as after:
            assert rows(before) == rows(after), way
        assert as_moved(copy) == as_made(number), way
    return figures


Fact = tuple[int, str, str, int, bytes]


def as_made(number: int) -> set[Fact]:
    """What was put in: number, text, user, when, vector."""
    made = [one.changes[0] for batch in writes(number) for one in batch]
    texts = [changed_text(one) if n % 100 == 0 else one.text for n, one in enumerate(made)]
    return {
        (one.metadata["n"], text, one.scope.user_id, one.created_at, one.vector)
        for one, text in zip(made, texts, strict=True)
    }


def as_moved(path: Path) -> set[Fact]:
    """The same as the lines of an export say it, read without any code of the program."""
    found = set()
    with path.open("rb") as lines:
        for line in map(json.loads, lines):
            if line["type"] == "memory":
                when = datetime.fromisoformat(line["created_at"].replace("Z", "+00:00")) - EPOCH
                vector = base64.b64decode(line["vector"])
                n = line["metadata"]["n"]
                found.add((n, line["memory"], line["user_id"], when // timedelta(microseconds=1), vector))
    return found


def exported(place: Place, path: Path) -> tuple[float, int]:
    return timed("export", "--vectors", "-o", str(path), *at(place, path.parent), "-q")


def at(place: Place, folder: Path) -> tuple[str, str]:
    """The option that names the place, by a file for it."""
    path = folder / f"{place.engine}.json"
    path.write_text(json.dumps({"vector_store": {"provider": place.engine, "config": place.options()}}), "utf-8")
    return "--config", str(path)


def rows(lines: Any) -> set[int]:
    """A mark for each line but the first, which says when it was made."""
    next(lines)
    return {hash(line) for line in lines}


def place_on(engine: str, stack: ExitStack) -> Place:
    if engine == "sqlite":
        return SqlitePlace(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "memories.db")
    server = stack.enter_context(running(Postgres() if engine == "postgres" else Seekdb()))
    return (PostgresPlace if engine == "postgres" else OceanBasePlace)(server, "moved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "sqlite"])
    parser.add_argument("--memories", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        places = [place_on(engine, stack) for engine in arguments.engines]
        for step, (seconds, megabytes) in round_trip(Path(folder), arguments.memories, places).items():
            speed = round(arguments.memories / seconds)
            print(json.dumps({"step": step, "memories": arguments.memories, "per_second": speed, "MB": megabytes}))


if __name__ == "__main__":
    main()
