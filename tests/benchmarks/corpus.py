"""Made-up records of any number, from a fixed seed: words as often as people in the sample chats use them."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "samples"


def sentences(seed: int = 1) -> Iterator[str]:
    """Sentences of 8 to 24 words without any sense, but with the frequent and the rare words of real ones."""
    chats = [json.loads(line) for line in (SAMPLES / "chats.jsonl").read_text("utf-8").splitlines()]
    said = " ".join(turn["content"] for chat in chats for turn in chat["messages"])
    counts = Counter(re.findall(r"[a-zA-Z']+", said))
    words, weights = list(counts), list(counts.values())
    pick = random.Random(seed)
    while True:
        drawn = pick.choices(words, weights, k=1000)
        while len(drawn) >= 24:
            length = pick.randrange(8, 25)
            yield " ".join(drawn[:length])
            del drawn[:length]


def records(number: int, users: int = 100, seed: int = 1) -> Iterator[dict[str, object]]:
    texts = sentences(seed)
    for i in range(number):
        yield {
            "messages": [{"role": "user", "content": next(texts)}, {"role": "assistant", "content": "Noted."}],
            "user_id": f"user{i % users}",
            "created_at": 1_760_000_000 + i,
        }


def write_jsonl(path: Path, number: int, users: int = 100, seed: int = 1) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for record in records(number, users, seed):
            file.write(json.dumps(record) + "\n")
    return path
