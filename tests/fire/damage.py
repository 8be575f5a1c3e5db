"""Damage databases in every way there is, and see what becomes of whoever uses them, and what `db verify` finds.

python tests/fire/damage.py --mutants 2000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

sys.path.insert(0, str(Path(__file__).parents[1]))

from memories import config, no_thread_left

from powermem_cli.errors import InvariantError, PowerMemError
from powermem_cli.memory import AsyncMemory
from powermem_cli.stores import create_store

USERS = ("ana", "ben", "cho", None)
PER_USER = 40
SECONDS = 20  # after which a call is taken to hang
LARGEST = 4096  # bytes that are flipped at most
ENOUGH = 0.99  # of the altered ones

Mutation = Callable[[Path, random.Random], None]


def text_of(user: str | None, number: int) -> str:
    return f"{user or 'nobody'} keeps note {number} about tea, trains and Lisbon 茶"


def wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def shm_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(min(LARGEST, int(2 ** rng.uniform(0, 12.01)))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def flip_a_run(path: Path, rng: random.Random) -> None:
    """As a lost or misplaced sector: neighbouring bytes."""
    content = bytearray(path.read_bytes())
    size = rng.choice((1, 16, 512, LARGEST))
    start = rng.randrange(len(content) - size)
    content[start : start + size] = rng.randbytes(size)
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(1, len(content))])


def zero_the_header(path: Path, rng: random.Random) -> None:
    path.write_bytes(bytes(rng.choice((16, 100, 8192))) + path.read_bytes()[8192:])


def garbage_wal(path: Path, rng: random.Random) -> None:
    wal_of(path).write_bytes(rng.randbytes(rng.randrange(1, 50_000)))


def flipped_wal(path: Path, rng: random.Random) -> None:
    if wal_of(path).exists():
        flip(wal_of(path), rng)


def wal_of_another(path: Path, rng: random.Random) -> None:
    shutil.copy(path.parent / "other.db-wal", wal_of(path))


def no_shm(path: Path, rng: random.Random) -> None:
    shm_of(path).unlink(missing_ok=True)


def garbage_shm(path: Path, rng: random.Random) -> None:
    shm_of(path).write_bytes(rng.randbytes(32768))


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def gone(path: Path, rng: random.Random) -> None:
    path.unlink()


def text_file(path: Path, rng: random.Random) -> None:
    path.write_text("These are not the bytes you are looking for.\n" * rng.randrange(1, 500))


def folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


MUTATIONS: tuple[Mutation, ...] = (
    *(flip,) * 8,
    *(flip_a_run,) * 4,
    *(truncate,) * 2,
    *(zero_the_header, garbage_wal, flipped_wal, wal_of_another, no_shm, garbage_shm, empty, gone, text_file, folder),
)


OTHER_STATES = (wal_of_another, flipped_wal)
"""They leave another store, or an older state of this one, each whole: there is nothing in it that verify could see."""


@dataclass
class Figures:
    """What was seen. Only *faults* must stay empty."""

    mutants: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    altered: int = 0
    """Mutants of which a live value is another than before, or can't be read any more."""
    found: int = 0
    missed: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        share = f"{self.found} of {self.altered} altered ones found by verify ({self.found / max(1, self.altered):.2%})"
        return "\n".join(
            [
                f"{sum(self.mutants.values())} mutants: {dict(self.mutants)}",
                f"calls ended: {dict(self.ends)}",
                f"{share}; missed: {dict(self.missed)}",
                f"{len(self.faults)} faults",
                *self.faults[:20],
            ]
        )


async def make_samples(folder: Path, with_wal: bool) -> None:
    """A store, and another one of which only the -wal matters; with or without changes that lie in a -wal still."""
    for name in ("sample.db", "other.db"):
        async with AsyncMemory(config(folder / name)) as memory:
            for number in range(PER_USER):
                await asyncio.gather(
                    *(
                        memory.add(text_of(user, number), user_id=user, metadata={"n": number}, infer=False)
                        for user in USERS
                    )
                )
            if with_wal or name == "other.db":
                for made in folder.glob(f"{name}*"):  # noqa: ASYNC240 - nothing else runs here
                    shutil.copy(made, folder / f"kept-{made.name}")
    for kept in folder.glob("kept-*"):  # noqa: ASYNC240 - nothing else runs here
        kept.rename(folder / kept.name.removeprefix("kept-"))


def dump(path: Path) -> dict[str, Any]:
    """Every live value, table by table; None for a table that can't be read."""
    held: dict[str, Any] = {}
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error:
        return held
    try:
        for table in TABLES:
            try:
                held[table] = sorted(map(repr, connection.execute(f"SELECT * FROM {table}")))
            except (apsw.Error, UnicodeDecodeError):
                held[table] = None
    finally:
        connection.close()
    return held


TABLES = ("meta", "names", "origins", "memories", "embeddings", "ledger", "history", "words_docsize", "words_data",
          "words_idx", "signatures", "unpacked", "outdated", "hashes", "unpacked_hashes")  # fmt: skip


class Trials:
    """Mutants of one sample."""

    def __init__(self, folder: Path, figures: Figures, rng: random.Random) -> None:
        self.folder, self.figures, self.rng = folder, figures, rng
        self.sound = dump(self._fresh(folder / "sound"))

    def _fresh(self, place: Path) -> Path:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for part in (*self.folder.glob("sample.db*"), *self.folder.glob("other.db*")):
            shutil.copy(part, place / part.name)
        return place / "sample.db"

    async def one(self, mutation: Mutation) -> None:
        path = self._fresh(self.folder / "mutant")
        mutation(path, self.rng)
        name = mutation.__name__
        self.figures.mutants[name] += 1
        dumped = self.copied_dump(path)
        altered = dumped != self.sound
        problems = await self.problems(path)
        if mutation not in OTHER_STATES:
            self.figures.altered += altered
            self.figures.found += altered and bool(problems)
        if altered and not problems:
            where = [table for table in TABLES if dumped.get(table) != self.sound[table]]
            self.figures.missed[f"{name} of {' '.join(where)}"] += 1
        if problems and not altered and not mutation_of_structure(problems):
            self.fault(name, f"nothing was altered, but: {problems}")
        await self.use(path, name)

    def copied_dump(self, path: Path) -> dict[str, Any]:
        """Of a copy: looking at a -wal changes what lies beside it."""
        place = self.folder / "looked-at"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(path.parent, place)
        return dump(place / path.name)

    async def problems(self, path: Path) -> list[str]:
        store: Any = create_store("sqlite", {"path": str(path), "access": "read"})
        found = await self.ended(self._verified(store), "verify")
        return [str(found)] if isinstance(found, BaseException) else found

    @staticmethod
    async def _verified(store: Any) -> list[str]:
        await store.open(None)
        try:
            return await store.verify()
        finally:
            await store.close()

    async def use(self, path: Path, name: str) -> None:
        """Everything one does with a store; what comes of it may be an error of ours, or right."""
        before = path.read_bytes() if path.is_file() else None  # noqa: ASYNC240 - nothing else runs here

        async def work() -> None:
            async with AsyncMemory(config(path)) as memory:
                for call in (self.look, self.write):
                    found = await self.ended(call(memory, name), name)
                    if isinstance(found, Exception):
                        self.figures.ends[type(found).__name__] += 1

        error = await self.ended(work(), name)
        if isinstance(error, Exception):
            self.figures.ends[type(error).__name__] += 1
            if before is not None and path.is_file() and len(path.read_bytes()) < len(before):  # noqa: ASYNC240 - nothing else runs here
                self.fault(name, "the file was made anew after an error")
        else:
            self.figures.ends["right"] += 1

    async def look(self, memory: AsyncMemory, name: str) -> None:
        for user in USERS[:3]:
            for shown in (
                (await memory.search("tea in Lisbon", user_id=user, limit=5))["results"],
                (await memory.get_all(user_id=user, limit=1000))["results"],
            ):
                for row in shown:
                    others = [u for u in USERS if u not in (user, None) and row["memory"].startswith(f"{u} keeps")]
                    if row["user_id"] != user or others:
                        self.figures.ends["another user's text"] += 1
                        self.wrong_user(name, user, row)

    def wrong_user(self, name: str, user: str | None, row: dict[str, Any]) -> None:
        self.fault(name, f"{user} was shown {row['user_id']}'s {row['memory']!r}")

    async def write(self, memory: AsyncMemory, name: str) -> None:
        added = await memory.add("something new", user_id="dan", infer=False)
        (id,) = [one["id"] for one in added["results"]]
        row = await memory.get(id, user_id="dan")
        if row is None or row["memory"] != "something new":
            self.figures.ends["not found again"] += 1  # an index that leads astray: verify tells
        await memory.delete(id, user_id="dan")

    async def ended(self, work: Any, name: str) -> Any:
        """What *work* returned, or the error of ours it raised; anything else is a fault."""
        try:
            return await asyncio.wait_for(work, SECONDS)
        except InvariantError as error:
            self.fault(name, f"a bug: {error.message}")
            return error
        except PowerMemError as error:
            return error
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            self.fault(name, f"{type(error).__name__}: {error}")
            return error

    def fault(self, name: str, what: str) -> None:
        self.figures.faults.append(f"{name}: {what}")


def mutation_of_structure(problems: list[str]) -> bool:
    """Indexes, free pages, the header: no value is another, but SQLite or the opening sees it."""
    return any(problem.startswith("SQLite") or "damaged" in problem or ".db" in problem for problem in problems)


async def run(mutants: int, seed: int, scratch: Path) -> Figures:
    figures, rng = Figures(), random.Random(seed)
    for with_wal in (False, True):
        place = scratch / f"wal-{with_wal}"
        place.mkdir()
        await make_samples(place, with_wal)
        trials = Trials(place, figures, rng)
        for number in range(mutants // 2):
            await trials.one(MUTATIONS[(number * 7 + seed) % len(MUTATIONS)])
    return figures


def many(mutants: int, seed: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="damage-") as scratch, no_thread_left():
        return asyncio.run(run(mutants, seed, Path(scratch)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    figures = many(options.mutants, options.seed)
    print(figures)
    return 1 if figures.faults or figures.found < ENOUGH * figures.altered else 0


if __name__ == "__main__":
    sys.exit(main())
