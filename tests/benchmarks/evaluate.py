"""How well questions find the memories that answer them: a table per kind of question, for any store and embedder.

python tests/benchmarks/evaluate.py [--set samples development] [--mode hybrid|vector|keyword]
    [--embedder PROVIDER[/MODEL]] [--config FILE.json]

Each question names its evidence: the records that answer it. A record is found when a memory made from it is among
the first k. Recall is the share of a question's evidence that is found; ranks count from 0.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record
from powermem_cli.readers import Reading, open_input

SAMPLES = Path(__file__).parents[2] / "samples"
QUESTIONS = Path(__file__).parent / "questions"
SETS = ("samples", "development", "held-out")
MOST = 30


class Asked(NamedTuple):
    """A question, the ranks of its evidence as far as that is among the first MOST, and how much there is."""

    query: str
    kind: str
    ranks: tuple[int, ...]
    evidence: int
    seconds: float


def sample_records() -> list[Record]:
    """Chats under their own ids, notes as n-0001, n-0002, … in the order of their file."""
    with open_input(str(SAMPLES / "chats.jsonl"), Reading()) as chats:
        records = [item for item in chats if isinstance(item, Record)]
    mapping = {"memory": "note", "created_at": "when"}
    with open_input(str(SAMPLES / "notes.csv"), Reading(mapping=mapping)) as notes:
        found = [item for item in notes if isinstance(item, Record)]
    return records + [dataclasses.replace(note, key=f"n-{i:04d}") for i, note in enumerate(found, 1)]


def dialogue_records() -> list[Record]:
    """The turns of the development and the held-out set, each a memory of its own."""
    with open_input(str(QUESTIONS / "turns.jsonl"), Reading()) as turns:
        return [item for item in turns if isinstance(item, Record)]


def questions_of(name: str) -> list[dict[str, Any]]:
    if name == "samples":
        return _lines(SAMPLES / "questions.jsonl")
    return [line for line in _lines(QUESTIONS / "questions.jsonl") if line["half"] == name]


async def ask_all(
    config: Mapping[str, Any],
    records: Sequence[Record],
    questions: Sequence[Mapping[str, Any]],
    **options: Any,
) -> list[Asked]:
    """Fill the store of *config* with *records* and ask it *questions*; *options* are those of AsyncMemory.search."""
    async with AsyncMemory(config) as memory:
        outcomes = await memory.add_records(records, job="evaluation")
        record_of = {effect.id: outcome.record.key for outcome in outcomes for effect in outcome.effects}
        asked = []
        for question in questions:
            start = time.perf_counter()
            found = await memory.search(question["query"], user_id=question["user_id"], limit=MOST, **options)
            seconds = time.perf_counter() - start
            keys = list(dict.fromkeys(record_of[hit["id"]] for hit in found["results"]))
            ranks = sorted(keys.index(key) for key in question["expected"] if key in keys)
            evidence = len(question["expected"])
            asked.append(Asked(question["query"], question["kind"], tuple(ranks), evidence, seconds))
        return asked


def hit_rate(asked: Sequence[Asked], k: int) -> float:
    """The share of questions with any of their evidence among the first k."""
    return statistics.fmean(any(rank < k for rank in one.ranks) for one in asked)


def recall(asked: Sequence[Asked], k: int) -> float:
    return statistics.fmean(sum(rank < k for rank in one.ranks) / one.evidence for one in asked)


def reciprocal_rank(asked: Sequence[Asked]) -> float:
    return statistics.fmean(1 / (one.ranks[0] + 1) if one.ranks else 0.0 for one in asked)


def discounted_gain(asked: Sequence[Asked], k: int) -> float:
    """nDCG: 1 if all evidence comes first, less the later it comes."""
    return statistics.fmean(
        sum(_gain(rank) for rank in one.ranks if rank < k) / sum(map(_gain, range(min(k, one.evidence))))
        for one in asked
    )


def _gain(rank: int) -> float:
    return 1 / math.log2(rank + 2)


COLUMNS: tuple[tuple[str, Callable[[Sequence[Asked]], float]], ...] = (
    ("hit@1", lambda asked: hit_rate(asked, 1)),
    ("rec@5", lambda asked: recall(asked, 5)),
    ("rec@10", lambda asked: recall(asked, 10)),
    ("rec@30", lambda asked: recall(asked, 30)),
    ("MRR", reciprocal_rank),
    ("nDCG@10", lambda asked: discounted_gain(asked, 10)),
)


def print_table(asked: Sequence[Asked]) -> None:
    kinds: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        kinds[one.kind].append(one)
    print(f"{'kind':16s} {'n':>4s}" + "".join(f" {name:>7s}" for name, _ in COLUMNS))
    for kind, some in [*sorted(kinds.items()), ("all", [*asked])]:
        print(f"{kind:16s} {len(some):4d}" + "".join(f" {100 * figure(some):7.1f}" for _, figure in COLUMNS))
    print(f"median of a search: {1000 * statistics.median(one.seconds for one in asked):.1f} ms")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _config(chosen: argparse.Namespace, folder: str) -> dict[str, Any]:
    config = json.loads(Path(chosen.config).read_text("utf-8")) if chosen.config else {}
    config.setdefault("vector_store", {"provider": "sqlite", "config": {"path": f"{folder}/evaluation.db"}})
    if chosen.embedder:
        provider, _, model = chosen.embedder.partition("/")
        config["embedder"] = {"provider": provider, "config": {"model": model} if model else {}}
    return config


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall, MRR and nDCG per kind of question.")
    parser.add_argument("--set", nargs="+", choices=SETS, default=["samples", "development"], help="whose questions")
    parser.add_argument("--mode", default="hybrid", choices=["hybrid", "vector", "keyword"])
    parser.add_argument("--embedder", help="provider, or provider/model; the key from the environment")
    parser.add_argument("--config", help="a JSON file as AsyncMemory takes it; its store should be empty")
    chosen = parser.parse_args()
    records = [*sample_records(), *dialogue_records()]
    questions = [questions_of(name) for name in chosen.set]
    with tempfile.TemporaryDirectory(prefix="powermem-evaluation-") as folder:
        asked = asyncio.run(ask_all(_config(chosen, folder), records, [*chain(*questions)], mode=chosen.mode))
    answers = iter(asked)
    for name, some in zip(chosen.set, questions, strict=True):
        print(f"\n{name}, {chosen.mode}, {chosen.embedder or 'local'}")
        print_table(list(islice(answers, len(some))))


if __name__ == "__main__":
    main()
