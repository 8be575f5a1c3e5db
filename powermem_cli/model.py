"""The values that travel between the layers: frozen, checked where they are made, trusted afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Literal, NamedTuple

from powermem_cli.errors import PowerMemError

Vector = bytes
"""Little-endian float32 values of length 1; b"" is the vector of a text the embedder knows no word of."""

Line = tuple[bytes, int, int, int, int]
"""A line of an input: its text without the newline, byte and line as in a Source, size with the newline, and how it
ended (see readers/lines.py).
"""

Event = Literal["ADD", "UPDATE", "DELETE", "NONE"]

Status = Literal["added", "updated", "no_facts", "unchanged", "duplicate", "rejected", "failed", "not_started"]
"""What became of one record. Each record read ends with exactly one of these."""


class Scope(NamedTuple):
    """Whose memories. In a search a part left None matches everything; in a record it means "nobody's"."""

    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None


class Message(NamedTuple):
    """One turn of a conversation; *role* is lower case."""

    role: str
    content: str


class Source(NamedTuple):
    """Where a record stood: *line* counts from 1, *byte* from 0 in the (uncompressed) input, *lines* is how many."""

    file: str
    line: int
    byte: int
    column: int | None = None
    lines: int = 1


class Origin(NamedTuple):
    """What a memory was made from: the job that read it, the file and line it stood at, and who said it."""

    job: str | None = None
    file: str | None = None
    line: int | None = None
    role: str | None = None

    def known(self) -> dict[str, Any]:
        """What is known of it."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class WorkedOut(NamedTuple):
    """What follows from a record alone: its identity (16 bytes each), and what it gives to remember if nobody is asked,
    with digests, terms and vectors of the built-in model.
    """

    key: bytes
    content: bytes
    texts: tuple[str, ...]
    unless_known: bool
    role: str | None
    digests: tuple[bytes, ...]
    terms: tuple[str, ...]
    vectors: tuple[Vector, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One thing to remember: a conversation (*messages*) or a ready memory (*memory*), never both.

    *key* is the record's own identity, if it came with one; times are in microseconds since 1970 UTC. From
    *expires_at* on what it says is not found any more.
    """

    messages: tuple[Message, ...] = ()
    memory: str | None = None
    scope: Scope = Scope()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    created_at: int | None = None
    infer: bool | None = None
    source: Source | None = None
    size: int = 0
    """Bytes of the input this record took: bounds what is in flight and moves the progress bar."""
    expires_at: int | None = None
    worked_out: WorkedOut | None = field(default=None, compare=False, repr=False)
    """None: whoever needs it works it out."""


@dataclass(frozen=True, slots=True)
class Retried(Record):
    """A record that failed in an earlier run and is tried again; *source* says where it stood then."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A piece of input that is no record: why, where, and the piece itself (shortened if it is huge)."""

    code: str
    message: str
    source: Source
    raw: str
    size: int = 0


class StoredMemory(NamedTuple):
    """One row of a store; times are microseconds since 1970 UTC."""

    id: int
    text: str
    scope: Scope
    metadata: Mapping[str, Any]
    created_at: int
    updated_at: int
    origin: Origin | None = None
    expires_at: int | None = None


class HistoryEntry(NamedTuple):
    """One thing that happened to a memory's text: *old* is None for an ADD, *new* for a DELETE.

    *at* is in microseconds since 1970 UTC; *origin* is where the new text came from.
    """

    event: Event
    old: str | None
    new: str | None
    at: int
    origin: Origin | None = None


class Hit(NamedTuple):
    """A memory that a search came upon. What *score* means is said by who returns it."""

    id: int
    score: float


def hits_of(ids: Iterable[int], scores: Iterable[float]) -> list[Hit]:
    """A Hit for each pair, in half the time that calling it takes: of a search there are hundreds."""
    return list(map(tuple.__new__, repeat(Hit), zip(ids, scores, strict=True)))


class Effect(NamedTuple):
    """What one record did to one memory."""

    event: Event
    id: int
    memory: str
    previous: str | None = None
    """What an updated memory said before, where an LLM decided so."""


class Decision(NamedTuple):
    """What to do about one fact: ADD it, or make of the memory *id*, which says *previous*, what *event* says."""

    event: Event
    text: str
    vector: Vector = b""
    id: int = 0
    previous: str | None = None


class Cost(NamedTuple):
    """What one record took: time, and what an LLM was asked for it alone. Embeddings are asked for together."""

    ms: int = 0
    """From when it was taken up until it was kept."""
    attempts: int = 0
    """Calls of an LLM, those that failed and were made again included."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Outcome(NamedTuple):
    """How one record ended; *error* is set exactly when *status* is "failed"."""

    record: Record
    status: Status
    effects: tuple[Effect, ...] = ()
    error: PowerMemError | None = None
    at: int = 0
    """When it was written, in microseconds since 1970 UTC."""
    notes: tuple[str, ...] = ()
    """What was held back although the record was added."""
    cost: Cost = Cost()
