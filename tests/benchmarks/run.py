"""The figures of the README: `python tests/benchmarks/run.py` prints them as one table; --full takes a million records.

Machines are noisy and differ: read the figures as ratios within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

sys.path.insert(0, str(Path(__file__).parents[1]))

import apsw
import numpy as np
from corpus import records, sentences, write_jsonl
from peak import LAUNCHER, peak_in

from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record, Scope
from powermem_cli.providers.local import LocalEmbedder
from powermem_cli.rules import check_messages
from powermem_cli.stores.base import Where
from powermem_cli.stores.sqlite import SqliteStore
from powermem_cli.stores.sqlite_connection import _connect
from powermem_cli.stores.sqlite_file import make_private
from powermem_cli.stores.sqlite_hashes import Hashes
from powermem_cli.stores.sqlite_packs import DIGESTS, LEDGER
from powermem_cli.stores.sqlite_schema import prepare
from powermem_cli.stores.sqlite_signatures import Signatures, signs_of
from powermem_cli.terms import terms_of

Row = tuple[str, str]
PROJECT = Path(__file__).parents[2]


def powermem(folder: Path, *arguments: str, **settings: str) -> tuple[float, float]:
    """Runs the program with everything it keeps in *folder*: (seconds, peak MiB of memory)."""
    places = {"XDG_DATA_HOME": str(folder / "data"), "XDG_STATE_HOME": str(folder / "state")}
    environ = {**os.environ, **places, **settings}
    peak = folder / "peak"
    started = time.perf_counter()
    process = subprocess.run(
        [*LAUNCHER, str(peak), sys.executable, "-m", "powermem_cli", *arguments],
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"powermem {arguments} ended with {process.returncode}: {process.stderr}")
    return seconds, peak_in(peak)


def ingestion(folder: Path, numbers: list[int]) -> Iterator[Row]:
    for number in numbers:
        source = write_jsonl(folder / f"{number}.jsonl", number)
        place = folder / f"add{number}"
        place.mkdir()
        seconds, memory = powermem(place, "add", "--file", str(source))
        rate = number / seconds
        yield f"add --file, {number:,} records, built-in embedder", f"{rate:,.0f} records/s, peak {memory:.0f} MB"
        again, _ = powermem(place, "add", "--file", str(source))
        yield f"the same command again, {number:,} records, nothing new", f"{again:.2f} s"
        reread, _ = powermem(place, "add", "--file", str(source), "--no-resume")
        yield f"the same, reading all again (--no-resume), {number:,} records", f"{number / reread:,.0f} records/s"
        if number == min(numbers[-1], 100_000):
            limit = tight_loop(folder, number)
            yield "the limit: the same rows, precomputed, in a tight executemany loop", f"{limit:,.0f} rows/s"
            yield "add as a share of the limit", f"{100 * rate / limit:.0f} %"


def tight_loop(folder: Path, number: int) -> float:
    """Rows per second that SQLite takes: the same tables and settings, 1,000 rows per transaction, nothing to work out."""
    texts = [str(record["messages"][0]["content"]) for record in records(number)]  # type: ignore[index]
    vectors = asyncio.run(LocalEmbedder().embed(texts))
    digests = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
    terms = [dict.fromkeys(terms_of(text)) for text in texts]
    users = [i % 100 + 1 for i in range(number)]
    words = [f"{' '.join(t)} {' '.join(f'{u}·{one}' for one in t)}" for t, u in zip(terms, users, strict=True)]
    rows = range(number)
    thousands = [rows[start : start + 1000] for start in range(0, number, 1000)]
    packs = [_packed(part, users, vectors) for part in thousands]
    hashes = [(b"".join(digests[i][:8] for i in part), (np.array(part, "<i8") + 1).tobytes()) for part in thousands]
    path = folder / "limit.db"
    make_private(path)
    db = _connect(path, readonly=False)
    prepare(db, path)
    started = time.perf_counter()
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO names VALUES (?, ?)", [(i + 1, f"user{i}") for i in range(100)])
    db.execute("COMMIT")
    for start in range(0, number, 1000):
        part = rows[start : start + 1000]
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO memories VALUES (?,?,NULL,NULL,?,jsonb(?),?,?,?,?,NULL,1,?,?)",
            [(i + 1, users[i], texts[i], None, digests[i], len(terms[i]), i, i, i, i) for i in part],
        )
        db.executemany("INSERT INTO embeddings VALUES (?, ?)", [(i + 1, vectors[i]) for i in part])
        Signatures.keep(db, *packs[start // 1000])
        for kind in (LEDGER, DIGESTS):
            Hashes.keep(db, kind, *hashes[start // 1000])
        db.executemany("INSERT INTO words (rowid, terms) VALUES (?, ?)", [(i + 1, words[i]) for i in part])
        db.executemany(
            "INSERT INTO ledger VALUES (?,?,?,'done',?,0,'job',0)",
            [(i + 1, digests[i], digests[i], f"[{i + 1}]") for i in part],
        )
        db.execute("COMMIT")
    seconds = time.perf_counter() - started
    db.close()
    return number / seconds


def _packed(part: range, users: list[int], vectors: list[bytes]) -> tuple[bytes, ...]:
    ids, whose = np.array(part, "<i8") + 1, np.array([users[i] for i in part], "<u4")
    checks = np.array([crc32(vectors[i]) for i in part], "<u4")
    signs, seconds = b"".join(signs_of(vectors[i]) for i in part), np.zeros(len(part), "<u4")
    return ids.tobytes(), whose.tobytes(), checks.tobytes(), signs, seconds.tobytes()


def providing(folder: Path, numbers: list[int]) -> Iterator[Row]:
    """The same with an embedder behind HTTP, that answers after a while: how well the waiting is shared."""
    number = numbers[0]
    source = write_jsonl(folder / "http.jsonl", number)
    for milliseconds in (0, 20):
        place = folder / f"http{milliseconds}"
        place.mkdir()
        command = [sys.executable, str(PROJECT / "tests" / "fake_api.py"), "--latency-ms", str(milliseconds)]
        server = subprocess.Popen([*command, "--dims", "256"], stdout=subprocess.PIPE, text=True)
        try:
            settings = {
                "EMBEDDING_PROVIDER": "openai",
                "EMBEDDING_API_KEY": "sk-benchmark",
                "EMBEDDING_MODEL": "text-embedding-3-small",
                "EMBEDDING_DIMS": "256",
                "OPENAI_EMBEDDING_BASE_URL": server.stdout.readline().split()[-1],
            }
            seconds, memory = powermem(place, "add", "--file", str(source), **settings)
        finally:
            server.terminate()
            server.communicate()
        what = f"add --file, {number:,} records, HTTP embedder at {milliseconds} ms"
        yield what, f"{number / seconds:,.0f} records/s, peak {memory:.0f} MB"


def searching(folder: Path, numbers: list[int]) -> Iterator[Row]:
    for number in numbers:
        for users in (1, 1000):
            yield asyncio.run(_searching(folder / f"search{number}-{users}", number, users))


async def _searching(folder: Path, number: int, users: int) -> Row:
    store = {"provider": "sqlite", "config": {"path": str(folder / "s.db")}}
    async with AsyncMemory({"vector_store": store}) as memory:
        batch: list[Record] = []
        for record in records(number, users):
            batch.append(Record(check_messages(record["messages"]), scope=Scope(str(record["user_id"]))))
            if len(batch) == 1000:
                await memory.add_records(batch, job="benchmark")
                batch.clear()
        await memory.add_records(batch, job="benchmark")
        pick = random.Random(7)
        queries = [" ".join(pick.sample(text.split(), 5)) for text, _ in zip(sentences(2), range(200), strict=False)]
        await memory.search(queries[0], user_id="user0")
        times = []
        for query in queries:
            started = time.perf_counter()
            await memory.search(query, user_id=f"user{pick.randrange(users)}", limit=10)
            times.append((time.perf_counter() - started) * 1000)
    recall = await _recall(folder / "s.db", queries)
    of_whom = "one user with all" if users == 1 else f"one user of {users:,}"
    return (
        f"search, {number:,} memories, {of_whom}",
        f"p50 {statistics.median(times):.1f} ms, p95 {_p95(times):.1f} ms; nearest's recall@10 {recall:.3f}",
    )


async def _recall(path: Path, queries: list[str]) -> float:
    """Share of the true ten nearest of the whole store among those that `nearest` gives."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = list(db.execute("SELECT id, vector FROM embeddings ORDER BY id"))
    db.close()
    ids = np.array([row[0] for row in rows])
    matrix = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), -1)  # type: ignore[arg-type]
    store = SqliteStore(str(path))
    await store.open(None)
    found = 0
    vectors = await LocalEmbedder().embed(queries[:50])
    for vector in vectors:
        near = {hit.id for hit in await store.nearest(vector, Where(), limit=10)}
        cosines = matrix @ np.frombuffer(vector, "<f4")
        tenth = np.sort(cosines)[-10]
        exact = set(ids[cosines >= tenth - 1e-6].tolist())  # ties count as found
        found += len(near & exact)
    await store.close()
    return found / (10 * len(vectors))


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def starting(folder: Path, _numbers: list[int]) -> Iterator[Row]:
    powermem(folder, "add", "Anna likes green tea", "--user", "anna")
    for arguments in (("--version",), ("--help",), ("get", "1"), ("search", "what does she drink?", "--user", "anna")):
        times = []
        for _ in range(9):
            started = time.perf_counter()
            environ = {**os.environ, "XDG_DATA_HOME": str(folder / "data")}
            command = [sys.executable, "-m", "powermem_cli", *arguments]
            subprocess.run(command, env=environ, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, check=False)
            times.append((time.perf_counter() - started) * 1000)
        yield f"powermem {' '.join(arguments)}, cold", f"{statistics.median(times):.0f} ms (best {min(times):.0f})"


def installing(folder: Path, _numbers: list[int]) -> Iterator[Row]:
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    target = next(environment.glob("lib*/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--only-binary", ":all:"]
    subprocess.run([*pip, "--target", str(target), str(PROJECT)], check=True)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    distributions = len(list(target.glob("*.dist-info")))
    yield "pip install powermem-cli brings", f"{size / 1e6:.0f} MB in {distributions} distributions"


PARTS: dict[str, Callable[[Path, list[int]], Iterator[Row]]] = {
    "ingestion": ingestion,
    "providing": providing,
    "searching": searching,
    "starting": starting,
    "installing": installing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="10,000 records only")
    parser.add_argument("--full", action="store_true", help="a million records, too")
    chosen = parser.parse_args()
    numbers = [10_000] if chosen.quick else [10_000, 100_000] + ([1_000_000] if chosen.full else [])
    for name in chosen.parts or PARTS:
        folder = Path(tempfile.mkdtemp(prefix="powermem-benchmark-"))
        try:
            for what, figure in PARTS[name](folder, numbers):
                print(f"{what:75s} {figure}", flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
