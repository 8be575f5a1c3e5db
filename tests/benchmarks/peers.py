"""Records a second against the same embedding server, beside other programs that keep memories:

    python tests/benchmarks/peers.py ~/.cache/peers

Makes an environment for each of them in that folder (some 1 GB, once), then prints a table. The server takes 20 ms for
a request of up to 100 texts; with one worker it answers one request at a time, and then the shortest time there can be
is known: the number of full requests, 20 ms each. Nobody calls an LLM. Peers get fewer records, because they need a
request for each: records a second are what is compared.
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
import venv
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from fake_api import FakeApi, Reply, Request  # noqa: E402

LATENCY = 0.020  # seconds for a request
TEXTS = 100  # in a request, at most
DIMS = 64
PEERS = {"powermem": "powermem==1.1.7", "mem0": "mem0ai==2.2.1", "llm": "llm==0.36"}


class Server(FakeApi):
    """An embedding server with so many workers; each takes LATENCY for a request, its own reckoning included."""

    def __init__(self, workers: int) -> None:
        super().__init__(dims=DIMS)
        self._workers = asyncio.Semaphore(workers)
        self.busy = 0.0
        """Seconds of all its workers together: on a busy machine 20 ms take longer."""
        self.rule = lambda request: Reply(400) if len(request.texts) > TEXTS else None

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        if isinstance(request.body["input"], str):
            request.body["input"] = [request.body["input"]]
        async with self._workers:
            begun = asyncio.get_running_loop().time()
            reply = self._made(request, self.rule(request) or Reply())
            self.requests.append(request)
            await asyncio.sleep(begun + LATENCY - asyncio.get_running_loop().time())
            self.busy += asyncio.get_running_loop().time() - begun
        return await self._send(reply, writer)


POWERMEM = """
import asyncio, json, sys, time
url, folder, number, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
from powermem import AsyncMemory
config = {
    "vector_store": {"provider": "sqlite", "config": {"database_path": folder + "/m.db"}},
    "embedder": {"provider": "openai", "config": {"api_key": "none", "model": "fake", "openai_base_url": url,
                                                  "embedding_dims": DIMS}},
    "llm": {"provider": "openai", "config": {"api_key": "none", "model": "fake", "openai_base_url": url}},
}
async def main():
    memory = AsyncMemory(config)
    if hasattr(memory, "initialize"):
        await memory.initialize()
    gate = asyncio.Semaphore(at_once)
    async def add(i):
        async with gate:
            await memory.add(f"note number {i} about tea", user_id=f"u{i % 20}", infer=False)
    started = time.perf_counter()
    results = await asyncio.gather(*(add(i) for i in range(number)), return_exceptions=True)
    seconds = time.perf_counter() - started
    failed = [r for r in results if isinstance(r, BaseException)]
    print(json.dumps({"seconds": seconds, "failed": len(failed), "why": str(failed[:1])}))
asyncio.run(main())
""".replace("DIMS", str(DIMS))

MEM0 = """
import asyncio, json, sys, time
url, folder, number, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
from mem0 import AsyncMemory
config = {
    "vector_store": {"provider": "qdrant", "config": {"path": folder + "/q", "on_disk": True,
                                                      "embedding_model_dims": DIMS}},
    "embedder": {"provider": "openai", "config": {"api_key": "none", "model": "fake", "openai_base_url": url,
                                                  "embedding_dims": DIMS}},
    "llm": {"provider": "openai", "config": {"api_key": "none", "model": "fake", "openai_base_url": url}},
    "history_db_path": folder + "/history.db",
}
async def main():
    memory = AsyncMemory.from_config(config)
    if asyncio.iscoroutine(memory):
        memory = await memory
    gate = asyncio.Semaphore(at_once)
    async def add(i):
        async with gate:
            await memory.add(f"note number {i} about tea", user_id=f"u{i % 20}", infer=False)
    started = time.perf_counter()
    results = await asyncio.gather(*(add(i) for i in range(number)), return_exceptions=True)
    seconds = time.perf_counter() - started
    failed = [r for r in results if isinstance(r, BaseException)]
    print(json.dumps({"seconds": seconds, "failed": len(failed), "why": str(failed[:1])}))
asyncio.run(main())
""".replace("DIMS", str(DIMS))

LLM = """
import json, pathlib, subprocess, sys, time
url, folder, number, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
import os
os.environ.update(LLM_USER_PATH=folder, OPENAI_API_KEY="none", OPENAI_BASE_URL=url)
import llm
from llm.default_plugins.openai_models import OpenAIEmbeddingModel
import sqlite_utils
model = OpenAIEmbeddingModel("fake", "fake")
collection = llm.Collection("notes", sqlite_utils.Database(folder + "/e.db"), model=model)
started = time.perf_counter()
collection.embed_multi(((str(i), f"note number {i} about tea") for i in range(number)), store=True)
print(json.dumps({"seconds": time.perf_counter() - started, "failed": 0}))
"""

SCRIPTS = {"powermem": POWERMEM, "mem0": MEM0, "llm": LLM}


def environment(cache: Path, name: str) -> Path:
    """The interpreter of an environment with that peer in it, made when it is not there yet."""
    folder = cache / PEERS[name].replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEERS[name]], check=True)
        (folder / "complete").touch()
    return python


def peer(python: Path, name: str, number: int, workers: int) -> dict[str, Any]:
    with Server(workers) as server, tempfile.TemporaryDirectory() as folder:
        home = {"HOME": folder, "MEM0_DIR": folder, "MEM0_TELEMETRY": "False", "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [python, "-c", SCRIPTS[name], server.url, folder, str(number), "32"],
            env=home,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise SystemExit(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        if said["failed"]:
            print(f"    {PEERS[name]} lost {said['failed']} of {number}: {said['why'][:150]}")
        return {
            "records": number - said["failed"],
            "seconds": said["seconds"],
            "calls": len(server.requests),
            "busy": server.busy,
        }


def ours(number: int, workers: int) -> dict[str, Any]:
    """The program as a whole: from its start to its end, and as it says how long the job took."""
    with Server(workers) as server, tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "notes.jsonl"
        with records.open("w") as file:
            for i in range(number):
                print(json.dumps({"memory": f"note number {i} about tea", "user_id": f"u{i % 20}"}), file=file)
        config = {"embedder": {"provider": "openai", "config": {"model": "fake", "base_url": server.url}}}
        config["embedder"]["config"]["batch_size"] = TEXTS
        (Path(folder) / "config.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "powermem_cli", "add", "-f", records, "--no-infer", "--json"]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--config", "config.json", "--db", "memories.db"],
            env={"HOME": folder, "PATH": os.environ["PATH"]},
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
        )
        wall = time.perf_counter() - started
        summary = json.loads(done.stdout)
        assert summary["added"] == number, summary
        return {
            "records": number,
            "seconds": summary["seconds"],
            "wall": wall,
            "calls": len(server.requests),
            "busy": server.busy,
        }


def row(name: str, workers: int, found: dict[str, Any]) -> float:
    """Prints a line; records a second."""
    rate = found["records"] / found["seconds"]
    ideal = -(-found["records"] // TEXTS) * LATENCY / workers
    share = ""
    if workers == 1:
        share = (
            f"{found['seconds'] / ideal:6.2f} x {ideal:.1f} s, {found['seconds'] / found['busy']:.2f} x its busy time"
        )
    wall = f"   whole process {found['wall']:.2f} s" if "wall" in found else ""
    print(
        f"{name:18} {workers:3} worker(s) {found['records']:7,} records {found['seconds']:8.2f} s "
        f"{rate:9,.0f} records/s {found['calls']:6,} calls {share}{wall}",
        flush=True,
    )
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="where the environments of the peers are kept")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--peer-records", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3, help="runs of ours; the quickest counts")
    parser.add_argument("--only", action="append", choices=[*PEERS, "ours"])
    options = parser.parse_args()
    for workers in (1, 32):
        rates = {}
        if options.only is None or "ours" in options.only:
            runs = [ours(options.records, workers) for _ in range(options.repeat)]
            rates["ours"] = row("this one", workers, min(runs, key=lambda run: run["seconds"]))
        for name, distribution in PEERS.items():
            if options.only is None or name in options.only:
                python = environment(options.cache, name)
                number = options.records if name == "llm" else options.peer_records
                rates[name] = row(distribution, workers, peer(python, name, number, workers))
        for name, rate in rates.items():
            if name != "ours" and "ours" in rates:
                print(f"    {rates['ours'] / rate:.1f} times {PEERS[name]}")


if __name__ == "__main__":
    main()
