"""Adding and searching beside other programs that keep memories: the same notes, the same embedding server, one table.

    python tests/benchmarks/peers.py ~/.cache/peers                  # all of it: some ten minutes
    python tests/benchmarks/peers.py ~/.cache/peers --only ours      # this one's adding and searching alone

Each program runs in an environment of its own in that folder (some 1 GB, made once), this one too. Nobody calls an LLM.

*Add*: the server takes 20 ms for a request of up to 100 texts. With one worker it answers one request at a time, so
the shortest time there can be is known: 20 ms times the requests that were made; the table says how many times that a
job took, from its first record to its last commit (and the whole process, with the start of Python). On a busy machine
20 ms take longer: "busy" is what the server really needed. Peers get fewer records, because they need a request for
each: records a second are what is compared.

*Search*: among 10,000 notes of one user, once they are there, the server answers at once, so that what is compared is
the program and its store. The questions are the words of notes, so the best answer is known, and counted. Where there
is a command for it, it is compared too: one question for each start of `llm similar`, all of them for one start here.

The peers keep their memories where they do for who installs no database server: SQLite for powermem (what its own
configuration wizard proposes) and llm, an embedded Qdrant for mem0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from benchmarks.corpus import sentences  # noqa: E402
from fake_api import FakeApi, Reply, Request  # noqa: E402

LATENCY = 0.020  # seconds for a request
TEXTS = 100  # in a request, at most
DIMS = 64
AT_ONCE = 32
OURS = "this one"
ONE_BY_ONE = {"mem0"}  # its embedded store is damaged by concurrent adds, and then answers no question any more
PEERS = {"powermem": "powermem==1.1.7", "mem0": "mem0ai==2.2.1", "llm": "llm==0.36"}


class Server(FakeApi):
    """An embedding server with so many workers; each takes *latency* for a request, its own reckoning included."""

    def __init__(self, workers: int) -> None:
        super().__init__(dims=DIMS)
        self._workers = asyncio.Semaphore(workers)
        self.latency = LATENCY
        self.busy = 0.0
        """Seconds of all its workers together."""
        self.rule = lambda request: Reply(400) if len(request.texts) > TEXTS else None

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        if isinstance(request.body["input"], str):
            request.body["input"] = [request.body["input"]]
        async with self._workers:
            begun = asyncio.get_running_loop().time()
            reply = self._made(request, self.rule(request) or Reply())
            self.requests.append(request)
            await asyncio.sleep(begun + self.latency - asyncio.get_running_loop().time())
            self.busy += asyncio.get_running_loop().time() - begun
        return await self._send(reply, writer)


# What each program is asked to do comes as a line of JSON, and so does its answer.
DRIVER = """
import asyncio, json, sys, time
url, folder = sys.argv[1:]

async def in_turn(number, at_once, one):
    gate = asyncio.Semaphore(at_once)
    async def gated(i):
        async with gate:
            started = time.perf_counter()
            return await one(i), time.perf_counter() - started
    return await asyncio.gather(*(gated(i) for i in range(number)), return_exceptions=True)

async def main():
    memory = await opened()
    for line in sys.stdin:
        order = json.loads(line)
        started = time.perf_counter()
        if "add" in order:
            texts = order["add"]
            done = await add_all(memory, texts, order["at_once"])
        else:
            queries = order["search"]
            done = await in_turn(len(queries), order["at_once"], lambda i: search(memory, queries[i]))
        seconds = time.perf_counter() - started
        failed = [result for result in done if isinstance(result, BaseException)]
        each = [result for result in done if isinstance(result, tuple)]
        print(json.dumps({"seconds": seconds, "failed": len(failed), "why": str(failed[:1]), "each": each}), flush=True)
"""

SAME_API = (
    DRIVER
    + """
from powermem import AsyncMemory
embedder = {"api_key": "none", "model": "fake", "openai_base_url": url, "embedding_dims": DIMS}
config = {"embedder": {"provider": "openai", "config": embedder}, **STORE}
async def opened():
    memory = AsyncMemory(config)
    if hasattr(memory, "initialize"):
        await memory.initialize()
    return memory
async def add_all(memory, texts, at_once):
    return await in_turn(len(texts), at_once, lambda i: memory.add(texts[i], user_id="u", infer=False))
async def search(memory, query):
    return [row["memory"] for row in (await memory.search(query, user_id="u", limit=10))["results"]]
asyncio.run(main())
"""
)
POWERMEM = SAME_API.replace(
    "**STORE",
    """"vector_store": {"provider": "sqlite", "config": {"database_path": folder + "/m.db"}},
    "llm": {"provider": "openai", "config": {"api_key": "none", "model": "fake", "openai_base_url": url}}""",
)
THIS_ONE = SAME_API.replace(
    "**STORE", '"vector_store": {"provider": "sqlite", "config": {"path": folder + "/memories.db"}}'
).replace('"embedding_dims": DIMS', '"batch_size": TEXTS')

MEM0 = (
    DRIVER
    + """
from mem0 import AsyncMemory
config = {
    "vector_store": {"provider": "qdrant", "config": {"path": folder + "/q", "on_disk": True,
                                                      "embedding_model_dims": DIMS}},
    "embedder": {"provider": "openai", "config": {"api_key": "none", "model": "fake", "openai_base_url": url,
                                                  "embedding_dims": DIMS}},
    "llm": {"provider": "openai", "config": {"api_key": "none", "model": "fake", "openai_base_url": url}},
    "history_db_path": folder + "/history.db",
}
async def opened():
    memory = AsyncMemory.from_config(config)
    return await memory if asyncio.iscoroutine(memory) else memory
async def add_all(memory, texts, at_once):
    return await in_turn(len(texts), at_once, lambda i: memory.add(texts[i], user_id="u", infer=False))
async def search(memory, query):
    return [row["memory"] for row in (await memory.search(query, filters={"user_id": "u"}, top_k=10))["results"]]
asyncio.run(main())
"""
)

LLM = (
    DRIVER
    + """
import llm, sqlite_utils
async def opened():
    return llm.Collection("notes", sqlite_utils.Database(folder + "/e.db"), model=llm.get_embedding_model("3-small"))
async def add_all(collection, texts, at_once):
    collection.embed_multi(zip(texts, texts), store=True)
    return []
async def search(collection, query):
    return [entry.content for entry in collection.similar(query, number=10)]
asyncio.run(main())
"""
)

SCRIPTS = {
    name: script.replace("DIMS", str(DIMS)).replace("TEXTS", str(TEXTS))
    for name, script in {"ours": THIS_ONE, "powermem": POWERMEM, "mem0": MEM0, "llm": LLM}.items()
}


def environment(cache: Path, name: str) -> Path:
    """The interpreter of an environment with that program in it, made when it is not there yet."""
    folder = cache / ("ours" if name == "ours" else PEERS[name].replace("==", "-"))
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True)
        what = ["-e", str(TESTS.parent)] if name == "ours" else [PEERS[name]]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True)
        (folder / "complete").touch()
    return python


def notes(number: int) -> list[str]:
    """All different: words as frequent and as rare as those of real talk."""
    return [f"{text} {i}" for i, text in enumerate(islice(sentences(), number))]


def variables(folder: str, url: str) -> dict[str, str]:
    quiet = {"MEM0_DIR": folder, "MEM0_TELEMETRY": "False"}
    llm = {"LLM_USER_PATH": folder, "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": url}
    return {"HOME": folder, "PATH": os.environ["PATH"], **quiet, **llm}


class Program:
    """A program that does what it is told, one order after another."""

    def __init__(self, python: Path, name: str, url: str, folder: str) -> None:
        self._name = name
        self._stderr = Path(folder) / "stderr"
        self._process = subprocess.Popen(
            [python, "-c", SCRIPTS[name], url, folder],
            env=variables(folder, url),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr.open("w"),
            text=True,
        )

    def told(self, **order: Any) -> dict[str, Any]:
        process = self._process
        print(json.dumps(order), file=process.stdin, flush=True)
        for line in process.stdout:
            if line.startswith('{"seconds"'):
                said = json.loads(line)
                if said["failed"]:
                    print(f"    {self._name} failed {said['failed']} times: {said['why'][:150]}")
                return said
        raise SystemExit(f"{self._name} ended with {process.wait()}: {self._stderr.read_text()[-2000:]}")

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


# ── adding ──


def added_by(python: Path, name: str, number: int, workers: int) -> dict[str, Any]:
    with Server(workers) as server, tempfile.TemporaryDirectory() as folder:
        program = Program(python, name, server.url, folder)
        said = program.told(add=notes(number), at_once=AT_ONCE)
        program.end()
        return {"records": number - said["failed"], **said, "calls": len(server.requests), "busy": server.busy}


def program_of_ours(python: Path, folder: str, url: str, *arguments: Any) -> tuple[str, float]:
    """What the program says on its standard output, and the seconds from its start to its end."""
    embedder = {"model": "fake", "base_url": url, "batch_size": TEXTS}
    (Path(folder) / "config.json").write_text(
        json.dumps({"embedder": {"provider": "openai", "config": embedder}}), encoding="utf-8"
    )
    command = [python, "-m", "powermem_cli", *map(str, arguments), "--config", "config.json", "--db", "memories.db"]
    started = time.perf_counter()
    env = {"HOME": folder, "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=env, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - started


def added_by_ours(python: Path, folder: str, server: Server, number: int) -> dict[str, Any]:
    with (Path(folder) / "notes.jsonl").open("w") as file:
        for text in notes(number):
            print(json.dumps({"memory": text, "user_id": "u"}), file=file)
    said, wall = program_of_ours(python, folder, server.url, "add", "-f", "notes.jsonl", "--no-infer", "--json", "-q")
    summary = json.loads(said)
    assert summary["added"] == number, summary
    calls = len(server.requests)
    return {"records": number, "seconds": summary["seconds"], "wall": wall, "calls": calls, "busy": server.busy}


def best_of_ours(python: Path, number: int, workers: int, repeat: int) -> dict[str, Any]:
    runs = []
    for _ in range(repeat):
        with Server(workers) as server, tempfile.TemporaryDirectory() as folder:
            runs.append(added_by_ours(python, folder, server, number))
    return min(runs, key=lambda run: run["seconds"])


def add_row(name: str, workers: int, found: dict[str, Any]) -> float:
    """Prints a line; records a second."""
    rate = found["records"] / found["seconds"]
    ideal = found["calls"] * LATENCY / workers
    share = ""
    if workers == 1:
        share = f"{found['seconds'] / ideal:6.2f} x {ideal:.2f} s, {found['seconds'] / found['busy']:.2f} x busy"
    wall = f"   whole process {found['wall']:.2f} s" if "wall" in found else ""
    print(
        f"{name:18} {workers:3} worker(s) {found['records']:7,} records {found['seconds']:8.2f} s "
        f"{rate:9,.0f} records/s {found['calls']:6,} calls {share}{wall}",
        flush=True,
    )
    return rate


def compare_adding(pythons: dict[str, Path], options: argparse.Namespace) -> None:
    for workers in (1, AT_ONCE):
        rates = {}
        for name, python in pythons.items():
            if name == "ours":
                found = best_of_ours(python, options.records, workers, options.repeat)
            else:
                number = options.records if name == "llm" else options.peer_records
                found = added_by(python, name, number, workers)
            rates[name] = add_row(PEERS.get(name, OURS), workers, found)
        say_ratios(rates)


# ── searching ──


def searched_by(python: Path, name: str, memories: int, questions: Sequence[str]) -> dict[str, Any]:
    with Server(AT_ONCE) as server, tempfile.TemporaryDirectory() as folder:
        server.latency = 0.0
        if name == "ours":
            added_by_ours(python, folder, server, memories)
        program = Program(python, name, server.url, folder)
        if name != "ours":
            program.told(add=notes(memories), at_once=1 if name in ONE_BY_ONE else AT_ONCE)
        program.told(search=questions[:1], at_once=1)  # what the first one loads
        one_by_one = program.told(search=questions, at_once=1)
        together = program.told(search=questions, at_once=AT_ONCE)
        program.end()
        first = [found[0] if found else None for found, _ in one_by_one["each"]]
        return {
            "ms": sorted(1000 * seconds for _, seconds in one_by_one["each"]),
            "right": sum(map(str.__eq__, first, questions)),
            "together": len(together["each"]) / together["seconds"],
            "command": by_command(python, name, folder, server.url, questions),
        }


def by_command(python: Path, name: str, folder: str, url: str, questions: Sequence[str]) -> float | None:
    """Questions a second on the command line, the start of the program included; None where there is no command."""
    if name == "ours":
        (Path(folder) / "questions.txt").write_text("".join(f"{question}\n" for question in questions))
        said, seconds = program_of_ours(
            python, folder, url, "search", "-f", "questions.txt", "-k", 10, "-u", "u", "--jsonl"
        )
        assert len(said.splitlines()) == len(questions)
        return len(questions) / seconds
    if name != "llm":
        return None
    few = questions[:5]
    started = time.perf_counter()
    for question in few:
        command = [python.with_name("llm"), "similar", "notes", "-d", "e.db", "-c", question]
        subprocess.run(command, env=variables(folder, url), cwd=folder, check=True, stdout=subprocess.PIPE)
    return len(few) / (time.perf_counter() - started)


def compare_searching(pythons: dict[str, Path], options: argparse.Namespace) -> None:
    questions = notes(options.memories)[:: options.memories // options.questions]
    rates, commands = {}, {}
    for name, python in pythons.items():
        found = searched_by(python, name, options.memories, questions)
        p50, p95 = statistics.median(found["ms"]), found["ms"][int(0.95 * len(found["ms"]))]
        rates[name] = 1000 / p50
        command = ""
        if found["command"] is not None:
            commands[name] = found["command"]
            command = f"   on the command line {found['command']:,.1f} questions/s"
        print(
            f"{PEERS.get(name, OURS):18} {options.memories:7,} memories  p50 {p50:8.2f} ms  p95 {p95:8.2f} ms  "
            f"{AT_ONCE} at once {found['together']:8,.1f} questions/s  {found['right']} of {len(questions)} right{command}",
            flush=True,
        )
    say_ratios(rates)
    if len(commands) > 1:
        print(f"    {commands['ours'] / commands['llm']:.0f} times the commands of {PEERS['llm']}")


def say_ratios(rates: dict[str, float]) -> None:
    for name, rate in rates.items():
        if name != "ours" and "ours" in rates:
            print(f"    {rates['ours'] / rate:.1f} times {PEERS[name]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="where the environments are kept")
    parser.add_argument("--records", type=int, default=10_000, help="to add")
    parser.add_argument("--peer-records", type=int, default=300)
    parser.add_argument("--memories", type=int, default=10_000, help="to search among")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3, help="runs of ours; the quickest counts")
    parser.add_argument("--only", action="append", choices=["ours", *PEERS])
    parser.add_argument("--part", choices=["add", "search"])
    options = parser.parse_args()
    names = [name for name in ("ours", *PEERS) if options.only is None or name in options.only]
    pythons = {name: environment(options.cache, name) for name in names}
    if options.part != "search":
        compare_adding(pythons, options)
    if options.part != "add":
        compare_searching(pythons, options)


if __name__ == "__main__":
    main()
