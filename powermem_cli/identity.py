"""By what a record is known again: its own key, or else what it says. Where it stood is never part of it."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

from powermem_cli.model import Record
from powermem_cli.rules import canonical_json


class Identity(NamedTuple):
    """16 bytes each: *key* says which record it is, *content* what it says now."""

    key: bytes
    content: bytes


def identify(record: Record) -> Identity:
    """The identity of a record: the same in a renamed, re-sorted, rotated or compressed file.

    Metadata, time, file and line are no part of it. A key is the record's own within its scope: two users may both
    have a record "1".
    """
    scope = record.scope
    said: Any = record.memory if record.memory is not None else [[m.role, m.content] for m in record.messages]
    content = _digest(["content", said, scope.user_id, scope.agent_id, scope.run_id, record.infer])
    if record.key is None:
        return Identity(content, content)
    return Identity(_digest(["key", record.key, scope.user_id, scope.agent_id, scope.run_id]), content)


def digest(text: str) -> bytes:
    """16 bytes that stand for a memory's exact text."""
    return blake2b(text.encode(), digest_size=16).digest()


def _digest(value: Any) -> bytes:
    return blake2b(canonical_json(value).encode(), digest_size=16).digest()
