"""How late an event loop is while many records are added at once: `python tests/benchmarks/loop_lag.py` prints it.

A task asks to be woken every two milliseconds and notes how much later it was.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from corpus import sentences

from powermem_cli.memory import AsyncMemory

EVERY = 0.002  # seconds


async def measured(number: int, at_once: int) -> tuple[list[float], float]:
    """(how late the loop was each time, in ms; seconds in all) while *number* texts are added."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            due = time.perf_counter() + EVERY
            await asyncio.sleep(EVERY)
            late.append((time.perf_counter() - due) * 1000)

    texts = [text for text, _ in zip(sentences(), range(number), strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        store = {"provider": "sqlite", "config": {"path": str(Path(folder) / "memories.db")}}
        async with AsyncMemory({"vector_store": store}) as memory:
            await memory.add("the model is loaded and the file is made", user_id="nobody")
            watching = asyncio.create_task(watch())
            await asyncio.sleep(EVERY)
            started = time.perf_counter()
            for start in range(0, number, at_once):
                some = texts[start : start + at_once]
                await asyncio.gather(*(memory.add(text, user_id=f"u{i % 20}") for i, text in enumerate(some)))
            seconds = time.perf_counter() - started
            watching.cancel()
            assert await memory.count() == number + 1
    return late, seconds


async def of_nothing(number: int) -> float:
    """How late the loop is, in ms, when a `gather` starts so many tasks that do nothing: asyncio's own share."""

    async def nothing() -> None:
        await asyncio.sleep(0)

    started = time.perf_counter()
    waiting = asyncio.gather(*(nothing() for _ in range(number)))
    await asyncio.sleep(0)
    late = (time.perf_counter() - started) * 1000
    await waiting
    return late


def row(number: int, at_once: int) -> str:
    late, seconds = asyncio.run(measured(number, at_once))
    centiles = statistics.quantiles(late, n=100)
    figures = f"p50 {centiles[49]:.1f}, p99 {centiles[98]:.1f}, most {max(late):.1f} ms"
    alone = f"a gather of {at_once:,} that do nothing: {asyncio.run(of_nothing(at_once)):.1f} ms"
    return f"loop lag while {number:,} are added, {at_once:,} at once: {figures} ({number / seconds:,.0f}/s; {alone})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=5000)
    for at_once in (50, 500, 5000):
        print(row(parser.parse_args().number, at_once), flush=True)


if __name__ == "__main__":
    main()
