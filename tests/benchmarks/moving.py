"""How quick a store is moved by `export` and `import`, and whether all of it arrives: SQLite to SQLite, with vectors.

python tests/benchmarks/moving.py [--memories 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from places import SqlitePlace, insert, noted
from program import PROGRAM

from powermem_cli.providers.local import LocalEmbedder
from powermem_cli.stores.base import Write

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


async def fill(path: Path, number: int) -> None:
    async with SqlitePlace(path).opened(LocalEmbedder().model) as store:
        for batch in writes(number):
            await store.apply(batch)


def timed(*arguments: str) -> tuple[float, int]:
    """Seconds, and MB of memory at most."""
    began = time.monotonic()
    with subprocess.Popen([*PROGRAM, *arguments]) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return time.monotonic() - began, used.ru_maxrss // 1024


def round_trip(folder: Path, number: int) -> dict[str, tuple[float, int]]:
    """What each step took. Raises AssertionError if anything is not the same afterwards."""
    first, second = str(folder / "first.db"), str(folder / "second.db")
    one, two = folder / "one.jsonl", folder / "two.jsonl"
    asyncio.run(fill(Path(first), number))
    figures = {
        "export": timed("export", "--vectors", "-o", str(one), "--db", first, "-q"),
        "import": timed("import", str(one), "--db", second, "-q"),
    }
    timed("export", "--vectors", "-o", str(two), "--db", second, "-q")
    with one.open("rb") as before, two.open("rb") as after:
        assert rows(before) == rows(after)
    return figures


def rows(lines: Any) -> set[int]:
    """A mark for each line but the first, which says when it was made."""
    next(lines)
    return {hash(line) for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memories", type=int, default=100_000)
    number = parser.parse_args().memories
    with tempfile.TemporaryDirectory() as folder:
        for step, (seconds, megabytes) in round_trip(Path(folder), number).items():
            print(
                json.dumps({"step": step, "memories": number, "per_second": round(number / seconds), "MB": megabytes})
            )


if __name__ == "__main__":
    main()
