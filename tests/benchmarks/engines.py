"""How quick the engines are with very many memories, and whether their indexes find what is nearest.

python tests/benchmarks/engines.py [sqlite postgres oceanbase] [--memories 100000] [--users 100] [--searches 100]

With --realtime, which needs root, it searches at real-time priority, and the server with it: other programs wait then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from corpus import sentences
from engines import Postgres, Seekdb, Server, running
from places import OceanBasePlace, Place, PostgresPlace, SqlitePlace, digest, noted

from powermem_cli.model import Scope
from powermem_cli.providers import create_embedder
from powermem_cli.retrieval import CANDIDATES
from powermem_cli.stores.base import EVERYTHING, Insert, Store, Where, Write
from powermem_cli.terms import query_terms

BATCH = 1000
NEAR = 10


def place_on(engine: str, stack: ExitStack) -> tuple[Place, Server | None]:
    if engine == "sqlite":
        return SqlitePlace(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "memories.db"), None
    server = stack.enter_context(running(Postgres("1GB") if engine == "postgres" else Seekdb()))
    return (PostgresPlace if engine == "postgres" else OceanBasePlace)(server, "bench"), server


async def embedded(number: int, seed: int) -> tuple[list[str], list[bytes]]:
    words = sentences(seed)
    texts = [f"{next(words)} {i}" for i in range(number)]
    vectors = await create_embedder("local", {}).embed(texts)
    return texts, vectors


def writes(texts: list[str], vectors: list[bytes], users: int) -> Iterator[list[Write]]:
    for start in range(0, len(texts), BATCH):
        yield [
            Write(
                (Insert(Scope(f"user{i % users}"), texts[i], vectors[i], digest(texts[i]), 1_760_000_000_000_000 + i),),
                noted(str(i)),
            )
            for i in range(start, min(start + BATCH, len(texts)))
        ]


async def timed_searches(store: Store, queries: list[tuple[str, bytes]], users: int | None) -> list[float]:
    """Milliseconds of both halves of a search, asked for at once as a search does."""
    took = []
    for number, (text, vector) in enumerate(queries):
        where = EVERYTHING if users is None else Where(Scope(f"user{number % users}"))
        started = time.perf_counter()
        await asyncio.gather(
            store.nearest(vector, where, limit=CANDIDATES), store.matching(query_terms(text), where, limit=CANDIDATES)
        )
        took.append((time.perf_counter() - started) * 1000)
    return sorted(took[len(took) // 10 :])


async def recall(store: Store, ids: list[int], vectors: list[bytes], queries: list[tuple[str, bytes]]) -> float:
    matrix = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)
    found = []
    for _, vector in queries:
        best = {ids[n] for n in np.argsort(-(matrix @ np.frombuffer(vector, "<f4")))[:NEAR]}
        hits = await store.nearest(vector, EVERYTHING, limit=NEAR)
        found.append(len(best & {hit.id for hit in hits}) / NEAR)
    return statistics.mean(found)


def processes_of(server: Server) -> list[Path]:
    """Folders in /proc: that of the server and those of its children."""
    assert server._process is not None
    found, parents = [], {server._process.pid}
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):  # it has ended
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if int(folder.name) in parents or parent in parents:
                parents.add(int(folder.name))
                found.append(folder)
    return found


def memory_of(server: Server | None) -> float:
    """Megabytes: of the server and its children at this moment, of this process at its highest. What they share
    counts once.
    """
    if server is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total, shared = 0, 0
    for folder in processes_of(server):
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        total += int(status.get("RssAnon", "0").split()[0])
        shared = max(shared, int(status.get("RssShmem", "0").split()[0]))
    return (total + shared) / 1024


@contextlib.contextmanager
def at_real_time(server: Server | None) -> Iterator[None]:
    """This process and the server's, each thread, before all ordinary ones."""
    folders = [Path("/proc/self"), *(processes_of(server) if server is not None else [])]
    threads = [int(task.name) for folder in folders for task in (folder / "task").iterdir()]

    def schedule(policy: int, priority: int) -> None:
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(thread, policy, os.sched_param(priority))

    schedule(os.SCHED_RR, 10)
    try:
        yield
    finally:
        schedule(os.SCHED_OTHER, 0)


async def measure(engine: str, arguments: argparse.Namespace) -> None:
    texts, vectors = await embedded(arguments.memories, 1)
    asked = list(zip(*await embedded(arguments.searches, 2), strict=True))
    with ExitStack() as stack:
        place, server = place_on(engine, stack)
        async with place.opened("local/bench") as store:
            started, ids = time.perf_counter(), []
            for batch in writes(texts, vectors, arguments.users):
                ids += [result.events[0][1] for result in await store.apply(batch)]
            speed = len(texts) / (time.perf_counter() - started)
            started = time.perf_counter()
            built = await store.optimize()
            building = time.perf_counter() - started
            with at_real_time(server) if arguments.realtime else contextlib.nullcontext():
                own = await timed_searches(store, asked, arguments.users)
                whole = await timed_searches(store, asked, None)
            near = await recall(store, ids, vectors, asked)
            print(
                f"{engine}: {speed:,.0f} records/s · index {building:.0f} s ({built}) · one user p50 {middle(own):.1f} p95 "
                f"{late(own):.1f} ms · all p50 {middle(whole):.1f} p95 {late(whole):.1f} ms · recall@{NEAR} {near:.3f} · "
                f"{memory_of(server):,.0f} MB · {(await store.describe())['bytes'] / 1e6:,.0f} MB on disk",
                flush=True,
            )


def middle(sorted_values: list[float]) -> float:
    return sorted_values[len(sorted_values) // 2]


def late(sorted_values: list[float]) -> float:
    return sorted_values[int(len(sorted_values) * 0.95)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres", "oceanbase"])
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--realtime", action="store_true")
    arguments = parser.parse_args()
    for engine in arguments.engines:
        asyncio.run(measure(engine, arguments))


if __name__ == "__main__":
    main()
