"""How many LLM calls the sample chats take, and whether fewer calls make other memories.

    python tests/benchmarks/inference.py [--latency-ms 20] [--close 0.2]

The reference asks about every fact once its scope holds anything, as one does who decides in a call of its own for
each record. Both use the deterministic LLM of tests/fake_llm.py, behind HTTP, and the built-in embedder.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fake_api import FakeApi

from powermem_cli import inference
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Outcome, Record
from powermem_cli.providers.base import Usage
from powermem_cli.readers import Reading, open_input

SAMPLES = Path(__file__).parents[2] / "samples" / "chats.jsonl"
EVERYTHING = -1.0  # as the least cosine: all that a scope holds is close


@dataclass(frozen=True)
class Run:
    """What one way over the samples came to."""

    outcomes: list[Outcome]
    usage: dict[str, Usage]
    held: list[tuple[str, str, str]]
    """(user, run, text) of each memory, sorted."""
    seconds: float

    def __str__(self) -> str:
        extract, decide = self.usage["extract"].calls, self.usage["decide"].calls
        return (
            f"{extract} to find facts + {decide} to decide = {(extract + decide) / len(self.outcomes):.2f} LLM calls per "
            f"record, {len(self.held)} memories, {self.seconds:.1f} s"
        )


def samples() -> list[Record]:
    with open_input(str(SAMPLES), Reading()) as source:
        return [record for record in source if isinstance(record, Record)]


async def judged(records: list[Record], close: float, latency: float = 0.0) -> Run:
    """All *records* into a new store."""
    with tempfile.TemporaryDirectory() as folder, FakeApi(latency=latency) as api:
        llm = {"provider": "vllm", "config": {"base_url": api.url, "model": "fake"}}
        store = {"provider": "sqlite", "config": {"path": str(Path(folder) / "memories.db")}}
        inference.CLOSE = close
        async with AsyncMemory({"vector_store": store, "llm": llm}) as memory:
            started = time.perf_counter()
            outcomes = await memory.add_records(records, job="samples")
            seconds = time.perf_counter() - started
            rows = (await memory.get_all(limit=100_000))["results"]
            held = sorted((row["user_id"] or "", row["run_id"] or "", row["memory"]) for row in rows)
            return Run(outcomes, memory.usage, held, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--close", type=float, default=inference.CLOSE)
    options = parser.parse_args()
    records = samples()
    ours = asyncio.run(judged(records, options.close, options.latency_ms / 1000))
    print(f"{len(records)} records, asked where a memory is closer than {options.close}: {ours}")
    reference = asyncio.run(judged(records, EVERYTHING, options.latency_ms / 1000))
    print(f"asked whenever there is a memory: {reference}")
    print("the same memories" if ours.held == reference.held else "OTHER MEMORIES")


if __name__ == "__main__":
    main()
