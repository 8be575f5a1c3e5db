"""Whether a store holds what it acknowledged, each thing once, and nothing else. Knows the file's tables, not our code.

    python tests/checker.py DB ACKS.jsonl INPUT.jsonl [--no-infer]

ACKS is what `powermem add --jsonl` printed, of one run or of several; a last line without its end was never said.
INPUT holds JSONL records with `memory` or `messages`, and perhaps `id` and `user_id`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

OUTCOMES = ("added", "updated", "no_facts", "unchanged", "duplicate", "rejected", "failed", "not_started")

Memory = tuple[str | None, str]
"""Whose, and the text."""


@dataclass
class Findings:
    """What is wrong; all empty if nothing is."""

    lost: list[Memory] = field(default_factory=list)
    """In the input, not in the store."""
    doubled: list[Memory] = field(default_factory=list)
    foreign: list[Memory] = field(default_factory=list)
    """In the store, not in the input."""
    broken_promises: list[str] = field(default_factory=list)
    """Acknowledged, and not there."""
    damage: list[str] = field(default_factory=list)
    """What SQLite finds, and where tables contradict each other."""

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __str__(self) -> str:
        parts = [
            f"{len(found)} {name.replace('_', ' ')}, as {found[0]!r}" for name, found in vars(self).items() if found
        ]
        return "; ".join(parts) or "nothing is wrong"


def check(
    database: Path, acknowledgements: Path, records: Path, *, complete: bool = True, infer: bool = True
) -> Findings:
    """*complete*: all records must be there; otherwise only those that were acknowledged. *infer*: as they were added."""
    connection = apsw.Connection(str(database))
    try:
        expected, identities = wanted(records, infer=infer)
        if next(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'memories'"))[0]:
            stored = {row[0]: (row[1], row[2]) for row in connection.execute(_MEMORIES)}
            found = Findings(damage=damage(connection, set(stored), identities if complete else None))
        else:
            stored, found = {}, Findings(damage=["the database has no tables"])
    finally:
        connection.close()
    counts = Counter(stored.values())
    found.lost = sorted(expected - counts.keys(), key=str) if complete else []
    found.doubled = [memory for memory, number in counts.items() if number > 1]
    found.foreign = [memory for memory in counts if memory not in expected]
    for id, text in acknowledged(acknowledgements):
        if id not in stored or stored[id][1] != text:
            found.broken_promises.append(f"{id}: {text}")
    return found


_MEMORIES = "SELECT m.id, n.name, m.text FROM memories m LEFT JOIN names n ON n.number = m.user"


def damage(connection: apsw.Connection, ids: set[int], identities: int | None) -> list[str]:
    """*identities*: how many records the ledger must know, None if nobody can say."""
    said = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    for table, column in (("embeddings", "id"), ("words_docsize", "id")):
        others = {row[0] for row in connection.execute(f"SELECT {column} FROM {table}")}
        said += [f"{table} and memories differ in {len(others ^ ids)} rows"] if others != ids else []
    for (number,) in connection.execute("SELECT value FROM meta WHERE name = 'memories'"):
        said += [f"{number} memories are counted, {len(ids)} are there"] if number != len(ids) else []
    ledger = [json.loads(row[0]) for row in connection.execute("SELECT memory_ids FROM ledger WHERE status = 'done'")]
    noted = Counter(id for row in ledger for id in row if id)  # 0: known from elsewhere
    said += [f"memory {id} is in the ledger {noted[id]} times" for id in ids if noted[id] != 1]
    said += [f"the ledger has memory {id}, the store has not" for id in noted if id not in ids]
    if identities is not None and len(ledger) != identities:
        said.append(f"{identities} records are in the input, {len(ledger)} in the ledger")
    return said


def wanted(records: Path, *, infer: bool = True) -> tuple[set[Memory], int]:
    """The memories that should come of the records, and how many different records there are.

    With *infer* each turn of a user is a memory, without it the whole talk is one.
    """
    memories: set[Memory] = set()
    identities: set[tuple[Any, ...]] = set()
    for record in map(json.loads, whole_lines(records)):
        user, key = record.get("user_id"), record.get("id")
        said = [turn["content"] for turn in record.get("messages", []) if turn["role"] == "user" or not infer]
        texts = tuple(said if infer else ["\n".join(said)]) if "messages" in record else (record["memory"],)
        memories |= {(user, text) for text in texts}
        identities.add((user, key) if key is not None else (user, "messages" in record, texts))
    return memories, len(identities)


def acknowledged(path: Path) -> Iterator[tuple[int, str]]:
    """Id and text of every memory that was said to be kept."""
    for line in map(json.loads, whole_lines(path)):
        if line["type"] == "record":
            yield from ((int(memory["id"]), memory["memory"]) for memory in line.get("memories", []))


def whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def summaries(path: Path) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, whole_lines(path)) if line["type"] == "summary"]


def conserved(summary: dict[str, Any]) -> bool:
    """The conservation law: every record that was read has exactly one outcome."""
    return bool(summary["read"] == sum(summary[outcome] for outcome in OUTCOMES))


def main(database: str, acknowledgements: str, records: str, *options: str) -> int:
    found = check(Path(database), Path(acknowledgements), Path(records), infer="--no-infer" not in options)
    broken = [summary for summary in summaries(Path(acknowledgements)) if not conserved(summary)]
    print(found if not broken else f"{found}; the sums do not add up in {broken}")
    return 1 if found or broken else 0


if __name__ == "__main__":
    if len(sys.argv) != 4 and sys.argv[4:] != ["--no-infer"]:
        sys.exit(f"usage: {sys.argv[0]} DB ACKS.jsonl INPUT.jsonl [--no-infer]")
    sys.exit(main(*sys.argv[1:]))
