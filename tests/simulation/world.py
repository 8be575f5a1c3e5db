"""The whole runner in virtual time: files, engine and store are real, the provider, the clock and all bad luck are not.

    python tests/simulation/world.py --seeds 1000 --first 0      # prints every seed that breaks a promise
    python tests/simulation/world.py --seeds 1 --first 4711 -v   # replays one, and tells its story

A seed decides the records, what the provider does, and where the program is killed, cancelled or asked to stop. A kill
is a copy of the folder at that moment: what was on the way is lost, and the next run goes on with the copy. There are
no threads here, so that a seed always tells the same story.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from json import dumps
from pathlib import Path
from typing import Any
from unittest import mock

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import apsw
import httpx
from fake_api import embedding
from virtual_time import VirtualLoop

from powermem_cli import checkpoint, files
from powermem_cli.batch import STATUSES, Limits
from powermem_cli.checkpoint import Job
from powermem_cli.errors import PowerMemError
from powermem_cli.feed import Feed
from powermem_cli.ingestion import Ingestion, Report
from powermem_cli.memory import AsyncMemory
from powermem_cli.readers import Reading
from powermem_cli.stores.sqlite_connection import Connection
from powermem_cli.stores.sqlite_file import translated

DIMS = 8
UNLUCKY_RUNS = 4  # then all goes well: what was given up five times would be parked
LONGEST = 48 * 3600.0  # virtual seconds for a run


class Killed(KeyboardInterrupt):
    """The process is gone. Of this kind, so that an event loop lets it through at once."""


@dataclass
class Luck:
    """What goes wrong in one run; all shares are of calls."""

    busy: float = 0.0
    limited: float = 0.0
    silent: float = 0.0
    unreachable: float = 0.0
    nonsense: float = 0.0
    shuffled: float = 0.0
    outage: tuple[float, float] = (0.0, 0.0)
    refused_after: float = float("inf")
    """Seconds from the start; then the key is no longer good."""
    killed_at: float = float("inf")
    killed_at_write: int = 0
    """The how-manieth write to a file or piece of work in the database is the last; 0 for none."""
    cancelled_at: float = float("inf")
    stopped_at: float = float("inf")


def draw_luck(dice: random.Random) -> Luck:
    luck = Luck()
    for name in ("busy", "limited", "silent", "unreachable", "nonsense", "shuffled"):
        if dice.random() < 0.35:
            setattr(luck, name, dice.choice((0.02, 0.1, 0.3)))
    if dice.random() < 0.2:
        start = dice.uniform(0, 5)
        luck.outage = (start, start + dice.choice((3, 60, 1200)))
    ending = dice.choice(
        (
            "nothing",
            "killed_at",
            "killed_at_write",
            "killed_at_write",
            "killed_at_write",
            "cancelled_at",
            "stopped_at",
            "key",
        )
    )
    if ending == "key":
        luck.refused_after = dice.uniform(0, 4)
    elif ending == "killed_at_write":
        luck.killed_at_write = dice.randint(1, 50)
    elif ending != "nothing":
        setattr(luck, ending, dice.choice((dice.uniform(0, 0.6), dice.uniform(0, 3), dice.uniform(0, 30))))
    return luck


def answered(
    status: int, *, headers: dict[str, str] | None = None, json: Any = None, content: bytes = b"", text: str = ""
) -> httpx.Response:
    """As it comes from a network: with a body that has not been read yet."""
    body = content or text.encode() or dumps(json).encode()
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


@dataclass
class World:
    """A folder that lives through many runs, and what was promised in them."""

    seed: int
    root: Path
    told: Callable[[str], None] = lambda _line: None
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Id → text of every memory that was said to be kept."""

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.folder = self.root / "0"
        self.folder.mkdir()
        self.notes = self.root / "notes.jsonl"
        self.luck = Luck()
        self.writes = 0
        self.dead = False
        self.endings: Counter[str] = Counter()
        self.being_read: Any = None
        self.expected: Counter[str] = Counter()
        """The texts that must be in the store in the end, each as often as it is given."""
        self.lines: list[str] = []

    def grow(self) -> None:
        """More records at the end of the file; now and then one that is there already, or is none."""
        for i in range(len(self.lines), len(self.lines) + self.dice.randint(10, 70)):
            text = f"note {i} of {self.dice.randint(0, 9)}"
            record: dict[str, Any] = {"memory": text, "user_id": f"u{i % 3}"}
            if self.dice.random() < 0.3:
                record["id"] = f"k{i}"
            self.lines.append(dumps(record))
            self.expected[text] += 1
            if self.dice.random() < 0.1:
                self.lines.append(self.dice.choice(self.lines))
            if self.dice.random() < 0.05:
                self.lines.append('{"memory": ')
        self.notes.write_text("".join(f"{line}\n" for line in self.lines))

    # ── the provider ──

    async def answer(self, request: httpx.Request) -> httpx.Response:
        luck, dice, now = self.luck, self.dice, asyncio.get_running_loop().time()
        body = json.loads(request.content)
        await asyncio.sleep(dice.uniform(0.01, 0.4))
        if luck.outage[0] <= now < luck.outage[1] or dice.random() < luck.unreachable:
            raise httpx.ConnectError("nobody is there", request=request)
        if now > luck.refused_after:
            return answered(401, json={"error": {"message": "no"}})
        if dice.random() < luck.silent:
            await asyncio.sleep(1000)
        if dice.random() < luck.limited:
            headers = dice.choice(({}, {"Retry-After": "2"}, {"retry-after-ms": "700"}))
            return answered(429, headers=headers, json={})
        if dice.random() < luck.busy:
            return answered(dice.choice((500, 502, 503, 529)), text="<html>")
        data = [{"index": i, "embedding": embedding(text, DIMS)} for i, text in enumerate(body["input"])]
        if dice.random() < luck.shuffled:
            dice.shuffle(data)
        if dice.random() < luck.nonsense:
            return self._nonsense(data)
        return answered(200, json={"data": data, "usage": {"prompt_tokens": len(data)}})

    def _nonsense(self, data: list[dict[str, Any]]) -> httpx.Response:
        return self.dice.choice(
            (
                lambda: answered(200, text="<html>"),
                lambda: answered(200, content=b'{"data": [{"ind'),
                lambda: answered(200, json={"data": data[:-1]}),
                lambda: answered(200, json={"data": [{**item, "embedding": [0.0] * DIMS} for item in data]}),
            )
        )()

    # ── one run ──

    def run(self, luck: Luck) -> Report | None:
        """None if it was killed or cancelled. Raises AssertionError for a broken promise."""
        self.luck, self.writes, self.dead = luck, 0, False
        loop = VirtualLoop()
        loop.set_exception_handler(lambda _loop, _context: None)
        with self._without_threads(loop):
            task = loop.create_task(self._ingest(loop))
            if luck.killed_at < LONGEST:
                loop.call_at(luck.killed_at, self.kill)
            if luck.cancelled_at < LONGEST:
                loop.call_at(luck.cancelled_at, task.cancel)
            try:
                return loop.run_until_complete(asyncio.wait_for(task, LONGEST))
            except Killed:
                self.endings["killed"] += 1
                self.told(f"  killed at {loop.time():.2f} s, write {self.writes}")
            except asyncio.CancelledError:
                self.endings["cancelled"] += 1
                self.told(f"  cancelled at {loop.time():.2f} s")
            finally:
                _finish(loop)
                if self.being_read is not None:
                    self.being_read.close()
        return None

    async def _ingest(self, loop: VirtualLoop) -> Report:
        embedder = {"model": "m", "base_url": "http://127.0.0.1:9", "batch_size": 8, "timeout": 20.0, "patience": 120.0}
        config = {
            "embedder": {"provider": "openai", "config": embedder},
            "vector_store": {"provider": "sqlite", "config": {"path": str(self.folder / "memories.db")}},
        }
        async with AsyncMemory(config) as memory:
            store = await memory.store_identity()
            reading = Reading(infer=False)
            with Job(self.folder / "job", "job", store, repr(reading)) as job:
                ingestion = Ingestion(
                    memory,
                    [str(self.notes)],
                    reading,
                    job,
                    limits=Limits(concurrency=3, handful=11, failures=None),
                    watch=self._acknowledge,
                )
                if self.luck.stopped_at < LONGEST:
                    loop.call_at(self.luck.stopped_at, ingestion.stop, "signal")
                return await ingestion.run()

    def _acknowledge(self, _ingestion: Ingestion, handful: Any) -> None:
        for outcome in handful.outcomes:
            self.acknowledged |= {str(effect.id): effect.memory for effect in outcome.effects}

    # ── bad luck ──

    def kill(self) -> None:
        if self.dead:
            return
        self.dead = True
        after = self.folder.with_name(str(int(self.folder.name) + 1))
        shutil.copytree(self.folder, after)
        self.folder = after
        raise Killed

    def point(self) -> None:
        """Something is about to be written, or has just been."""
        self.writes += 1
        if self.writes == self.luck.killed_at_write:
            self.kill()

    @contextlib.contextmanager
    def _without_threads(self, loop: VirtualLoop) -> Iterator[None]:
        real_write, real_client = files.write_all, httpx.AsyncClient

        async def on_thread(connection: Connection, work: Callable[[], Any]) -> Any:
            await asyncio.sleep(0)
            self.point()
            try:
                result = work()
            except (apsw.Error, OSError, MemoryError) as error:
                raise translated(error, connection.path) from error
            self.point()
            return result

        async def lists(feed: Any) -> Any:
            self.being_read = feed._items
            chunk = []
            for item in feed._items:
                chunk.append(item)
                if feed._stopped:
                    break
                if len(chunk) == 50:
                    yield chunk
                    chunk = []
                    await asyncio.sleep(0)
            if chunk:
                yield chunk

        def write_all(file: Any, content: bytes) -> None:
            self.point()
            real_write(file, content)
            self.point()

        def client(**options: Any) -> httpx.AsyncClient:
            return real_client(**options, transport=httpx.MockTransport(self.answer))

        def in_executor(_executor: Any, work: Callable[..., Any], *arguments: Any) -> Any:
            future = loop.create_future()
            future.set_result(work(*arguments))
            return future

        loop.run_in_executor = in_executor  # type: ignore[method-assign]
        random.seed(self.seed)
        with (
            mock.patch.object(Connection, "_on_thread", on_thread),
            mock.patch.object(Feed, "lists", lists),
            mock.patch.object(files, "write_all", write_all),
            mock.patch.object(checkpoint, "write_all", write_all),
            mock.patch.object(httpx, "AsyncClient", client),
            mock.patch.object(time, "monotonic", loop.time),
        ):
            yield

    # ── the verdict ──

    def stored(self) -> dict[str, str]:
        connection = apsw.Connection(str(self.folder / "memories.db"))
        try:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return {str(id): text for id, text in connection.execute("SELECT id, text FROM memories")}
        finally:
            connection.close()

    def check(self, report: Report | None) -> None:
        if not (self.folder / "memories.db").exists():
            assert not self.acknowledged
            return
        stored = self.stored() if self.acknowledged else {}
        lost = {id: text for id, text in self.acknowledged.items() if stored.get(id) != text}
        assert not lost, f"acknowledged and lost: {lost}"
        doubled = {text: number for text, number in Counter(stored.values()).items() if number > self.expected[text]}
        assert not doubled, f"doubled or foreign: {doubled}"
        if report is not None:
            tally = report.tally
            assert tally.read == sum(tally.by_status[status] for status in STATUSES), tally


def _finish(loop: VirtualLoop) -> None:
    """End what is left of a run that nobody waits for any more."""
    for _ in range(3):
        for task in asyncio.all_tasks(loop):
            task.cancel()
        _run(loop, asyncio.sleep(0))
    _run(loop, loop.shutdown_asyncgens())
    loop.close()


def _run(loop: VirtualLoop, work: Any) -> None:
    try:
        loop.run_until_complete(work)
    except BaseException:  # noqa: BLE001 - of those that are gone already
        work.close()


def simulate(seed: int, root: Path, told: Callable[[str], None] = lambda _line: None) -> World:
    """Runs until all is done. Raises AssertionError if a promise was broken; its text names the seed."""
    world = World(seed, root, told)
    try:
        for number in range(UNLUCKY_RUNS):
            world.grow()
            luck = draw_luck(world.dice)
            told(f"run {number}: {luck}")
            report = world.run(luck)
            if report is not None:
                world.endings[report.error.code if report.error is not None else report.stop_reason] += 1
            told(
                f"  {'no report' if report is None else (report.stop_reason, dict(report.tally.by_status), report.error)}"
            )
            world.check(report)
        report = world.run(Luck())
        told(f"the last: {replace(report, rejects=None)}")
        assert report is not None
        assert (report.stop_reason, report.error) == ("end", None), report
        assert not report.tally.by_status["failed"], report
        world.check(report)
        assert Counter(world.stored().values()) == world.expected, "not all that was given is there"
    except (AssertionError, PowerMemError) as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    return world


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    broken = 0
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as root:
            try:
                simulate(seed, Path(root), print if options.verbose else lambda _line: None)
            except AssertionError as error:
                broken += 1
                print(error, flush=True)
    print(f"{options.seeds} seeds from {options.first} on: {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
