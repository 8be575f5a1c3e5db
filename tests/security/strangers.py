"""Fifty users with ids that somebody might take for one another do whatever comes to mind, all at once; what each of
them sees is his own, and all of it.

    python tests/security/strangers.py [--operations 1000000] [--minutes M] [--engine sqlite] [--seed N]

Each user's operations come one after another, so that a plain dict says what must come of every single one, and the
users' run at once. Again and again the whole store is compared with all the dicts together.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import Postgres, Seekdb, running
from memories import HOSTILE_IDS
from places import OceanBasePlace, Place, PostgresPlace, SqlitePlace
from trials import options_of

from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record, Scope

SAYINGS = [f"I like {thing} {when}" for thing in ("tea", "rain", "Rome", "figs") for when in ("", "at noon", "in May")]
"""Few, so that many users say the same: what one holds must not make it known of another."""
MOST_HELD = 30
A_ROUND = 10_000  # operations, after which the whole store is compared


class Held(NamedTuple):
    text: str
    agent: str | None


@dataclass
class Figures:
    operations: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{number:,} {name}" for name, number in self.operations.most_common())
        said = f"{self.operations.total():,} operations ({kinds}); the whole store compared {self.rounds:,} times"
        return "\n".join([f"{said}: {len(self.wrong)} wrong", *self.wrong[:5]])


class User:
    """One of them, and what must be in the store of him."""

    def __init__(self, id: str, memory: AsyncMemory, crowd: list[User], figures: Figures, seed: int) -> None:
        self.id = id
        self.held: dict[int, Held] = {}
        self._gone: list[int] = []
        self._keys: set[str] = set()
        self._updates = 0
        self._memory, self._crowd, self._figures = memory, crowd, figures
        self._dice = random.Random(f"{seed} {id}")

    async def live(self, operations: int) -> None:
        kinds = list(KINDS)
        for chosen in self._dice.choices(kinds, [KINDS[one] for one in kinds], k=operations):
            kind = User.delete if len(self.held) > MOST_HELD else chosen
            self._figures.operations[kind.__name__] += 1
            await kind(self)

    def _expect(self, what: str, got: Any, wanted: Any) -> None:
        if got != wanted:
            self._figures.wrong.append(f"{self.id!r}: {what} gave {got!r}, not {wanted!r}")

    def _own(self) -> int | None:
        return self._dice.choice(list(self.held)) if self.held else None

    def _anothers(self) -> int | None:
        """The id of a memory that is not his; now and then of one that was."""
        other = self._dice.choice(self._crowd)
        ids = list(other.held) if other is not self else self._gone
        return self._dice.choice(ids) if ids else None

    def _agent(self) -> str | None:
        return self._dice.choice((None, *HOSTILE_IDS[:4]))

    async def add(self) -> None:
        text, agent = self._dice.choice(SAYINGS), self._agent()
        known = Held(text, agent) in self.held.values()
        results = (await self._memory.add(text, self.id, agent))["results"]
        self._expect("add", [(one["event"], one["memory"]) for one in results], [] if known else [("ADD", text)])
        self.held.update({one["id"]: Held(one["memory"], agent) for one in results})

    async def add_record(self) -> None:
        """With a key that every other user gives a record of his own too."""
        key, text = f"record {self._dice.randrange(200)}", f"a record, {len(self._keys)} are known"
        record = Record(memory=text, scope=Scope(self.id), key=key, infer=False)
        (outcome,) = await self._memory.add_records([record], job="strangers", on_change="skip")
        self._expect("add_records", outcome.status, "unchanged" if key in self._keys else "added")
        self._keys.add(key)
        self.held.update({effect.id: Held(text, None) for effect in outcome.effects})

    async def get(self) -> None:
        if (id := self._own()) is not None:
            found = await self._memory.get(id, self.id)
            self._expect("get", found and (found["user_id"], found["memory"]), (self.id, self.held[id].text))

    async def update(self) -> None:
        if (id := self._own()) is not None:
            self._updates += 1
            text = f"{self._dice.choice(SAYINGS)}, for the {self._updates}th time"
            changed = await self._memory.update(id, text, self.id)
            self._expect("update", changed and changed["memory"], text)
            self.held[id] = self.held[id]._replace(text=text)

    async def delete(self) -> None:
        if (id := self._own()) is not None:
            self._expect("delete", await self._memory.delete(id, self.id), True)
            del self.held[id]
            self._gone = [*self._gone[-20:], id]

    async def delete_all(self) -> None:
        agent = self._agent()
        ids = [id for id, one in self.held.items() if agent in {None, one.agent}]
        self._expect("delete_all", await self._memory.delete_all(self.id, agent), {"deleted": len(ids)})
        for id in ids:
            del self.held[id]

    async def get_anothers(self) -> None:
        if (id := self._anothers()) is not None:
            self._expect("get of another's", await self._memory.get(id, self.id), None)

    async def update_anothers(self) -> None:
        if (id := self._anothers()) is not None:
            text, metadata = self._dice.choice(((None, {"stolen": True}), ("stolen", None)))
            self._expect("update of another's", await self._memory.update(id, text, self.id, None, metadata), None)

    async def delete_anothers(self) -> None:
        if (id := self._anothers()) is not None:
            self._expect("delete of another's", await self._memory.delete(id, self.id), False)

    async def history_of_anothers(self) -> None:
        id = self._anothers()
        if id is not None and id not in self._gone:
            self._expect("history of another's", await self._memory.history(id, self.id), {"results": []})

    async def get_all(self) -> None:
        self._expect("get_all", held_in(await self._memory.get_all(self.id, limit=1000)), self._as_held())

    async def get_all_of_another(self) -> None:
        """By a filter, which may narrow a scope and never widen it."""
        other = self._dice.choice([one for one in self._crowd if one is not self]).id
        filters = self._dice.choice(({"user_id": other}, {"user_id": {"in": [other]}}, {"user_id": {"like": other}}))
        found = (await self._memory.get_all(self.id, filters=filters))["results"]
        self._expect(f"get_all of {other!r}", {row["user_id"] for row in found} - {self.id}, set())

    async def count(self) -> None:
        agent = self._agent()
        wanted = sum(agent in {None, one.agent} for one in self.held.values())
        self._expect("count", await self._memory.count(self.id, agent), wanted)

    async def search(self) -> None:
        mode = self._dice.choice(("vector", "keyword", "hybrid"))
        found = held_in(await self._memory.search(self._dice.choice(SAYINGS), self.id, limit=1000, mode=mode))
        self._expect(f"search, {mode}: strange", found - self._as_held(), set())
        if mode != "keyword":
            self._expect(f"search, {mode}: missing", self._as_held() - found, set())

    def _as_held(self) -> set[tuple[str, int, str, str | None]]:
        return {(self.id, id, one.text, one.agent) for id, one in self.held.items()}


Kind = Callable[[User], Awaitable[None]]
KINDS: dict[Kind, float] = {
    User.add: 16,
    User.add_record: 3,
    User.get: 12,
    User.update: 6,
    User.delete: 8,
    User.delete_all: 0.2,
    User.get_anothers: 18,
    User.update_anothers: 7,
    User.delete_anothers: 10,
    User.history_of_anothers: 6,
    User.get_all: 4,
    User.get_all_of_another: 3,
    User.count: 5,
    User.search: 3,
}
"""Out of 102, how often."""


def held_in(answer: dict[str, Any]) -> set[tuple[str, int, str, str | None]]:
    return {(row["user_id"], row["id"], row["memory"], row["agent_id"]) for row in answer["results"]}


async def mingle(
    place: Place,
    operations: int,
    seed: int,
    *,
    minutes: float = math.inf,
    users: int = len(HOSTILE_IDS),
    told: Callable[[str], None] = print,
) -> Figures:
    """Ends early when something was found, and with the round in which *minutes* have passed."""
    told(f"seed {seed}")
    figures, crowd, started = Figures(), list[User](), time.monotonic()
    embedder = {"provider": "moody", "config": {"embedding_dims": 8}}
    store = {"provider": place.engine, "config": place.options()}
    async with AsyncMemory({"vector_store": store, "embedder": embedder}) as memory:
        crowd += [User(id, memory, crowd, figures, seed) for id in HOSTILE_IDS[:users]]
        while (left := operations - figures.operations.total()) > 0 and not figures.wrong:
            if time.monotonic() - started > 60 * minutes:
                break
            each = -(-min(left, A_ROUND) // users)
            await asyncio.gather(*(user.live(each) for user in crowd))
            figures.rounds += 1
            wanted = {one for user in crowd for one in user._as_held()}
            if (found := held_in(await memory.get_all(limit=1_000_000))) != wanted:
                figures.wrong.append(f"the whole store: {len(found ^ wanted)} rows differ, as {(found ^ wanted).pop()}")
            if figures.rounds % 10 == 0:
                rate = figures.operations.total() / (time.monotonic() - started)
                told(f"{figures.operations.total():,} operations, {rate:,.0f} a second")
    async with place.opened("moody/8") as opened:
        if place.engine == "sqlite":
            figures.wrong += [str(one) for one in await opened.verify()]
    return figures


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no other round begins")
    parser.add_argument("--engine", choices=["sqlite", "postgres", "oceanbase"], default="sqlite")
    options = parser.parse_args()

    def figures_at(place: Place) -> Figures:
        return asyncio.run(mingle(place, options.operations, options.seed, minutes=options.minutes))

    if options.engine == "sqlite":
        with tempfile.TemporaryDirectory(prefix="powermem-strangers-") as folder:
            figures = figures_at(SqlitePlace(Path(folder) / "memories.db"))
    elif options.engine == "postgres":
        with running(Postgres()) as server:
            figures = figures_at(PostgresPlace(server, "strangers"))
    else:
        with running(Seekdb()) as engine:
            figures = figures_at(OceanBasePlace(engine, "strangers"))
    print(figures)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
