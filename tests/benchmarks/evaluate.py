"""How well the sample questions find their memories: `python tests/benchmarks/evaluate.py` prints a table.

Each question names the records that answer it; a memory counts as found when one made from such a record is among
the first k. Rank 0 is the first.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record
from powermem_cli.readers import Reading, open_input

SAMPLES = Path(__file__).parents[2] / "samples"
NOT_FOUND = 10**6
MOST = 30


class Asked(NamedTuple):
    """A question and the rank of its best memory, NOT_FOUND if it is not among the first MOST."""

    query: str
    kind: str
    rank: int


def sample_records() -> list[Record]:
    """Chats under their own ids, notes as n-0001, n-0002, … in the order of their file."""
    with open_input(str(SAMPLES / "chats.jsonl"), Reading()) as chats:
        records = [item for item in chats if isinstance(item, Record)]
    mapping = {"memory": "note", "created_at": "when"}
    with open_input(str(SAMPLES / "notes.csv"), Reading(mapping=mapping)) as notes:
        found = [item for item in notes if isinstance(item, Record)]
    return records + [dataclasses.replace(note, key=f"n-{i:04d}") for i, note in enumerate(found, 1)]


async def ask_all(config: Mapping[str, Any]) -> list[Asked]:
    """Fill the store of *config* with the samples and ask it the sample questions."""
    async with AsyncMemory(config) as memory:
        outcomes = await memory.add_records(sample_records(), job="evaluation")
        record_of = {effect.id: outcome.record.key for outcome in outcomes for effect in outcome.effects}
        asked = []
        for line in (SAMPLES / "questions.jsonl").read_text("utf-8").splitlines():
            question = json.loads(line)
            found = await memory.search(question["query"], user_id=question["user_id"], limit=MOST)
            keys = list(dict.fromkeys(record_of[hit["id"]] for hit in found["results"]))
            rank = min((keys.index(key) for key in question["expected"] if key in keys), default=NOT_FOUND)
            asked.append(Asked(question["query"], question["kind"], rank))
        return asked


def hit_rate(asked: Sequence[Asked], k: int) -> float:
    return sum(one.rank < k for one in asked) / len(asked)


def reciprocal_rank(asked: Sequence[Asked]) -> float:
    return sum(1 / (one.rank + 1) for one in asked if one.rank < NOT_FOUND) / len(asked)


def discounted_gain(asked: Sequence[Asked], k: int) -> float:
    """nDCG with one right answer per question: 1 for the first place, less the later it comes."""
    return sum(1 / math.log2(one.rank + 2) for one in asked if one.rank < k) / len(asked)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="powermem-evaluation-") as folder:
        store = {"provider": "sqlite", "config": {"path": f"{folder}/samples.db"}}
        asked = asyncio.run(ask_all({"vector_store": store}))
    kinds: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        kinds[one.kind].append(one)
    print(
        f"{'kind':16s} {'n':>4s} {'hit@1':>6s} {'hit@5':>6s} {'hit@10':>6s} {'hit@30':>6s} {'MRR':>6s} {'nDCG@10':>7s}"
    )
    for kind, some in [*sorted(kinds.items()), ("all", asked)]:
        rates = " ".join(f"{hit_rate(some, k):6.3f}" for k in (1, 5, 10, 30))
        print(f"{kind:16s} {len(some):4d} {rates} {reciprocal_rank(some):6.3f} {discounted_gain(some, 10):7.3f}")


if __name__ == "__main__":
    main()
