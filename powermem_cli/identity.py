"""By what a record is known again: its own key, or else what it says. Where it stood is never part of it."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from powermem_cli.model import Record


class Identity(NamedTuple):
    """16 bytes each: *key* says which record it is, *content* what it says now."""

    key: bytes
    content: bytes


def identify(record: Record) -> Identity:
    """The identity of a record: the same in a renamed, re-sorted, rotated or compressed file.

    Metadata, time, file and line are no part of it. A key is the record's own within its scope: two users may both
    have a record "1".
    """
    if record.worked_out is not None:
        return Identity(record.worked_out.key, record.worked_out.content)
    whose = _whose(record)
    if record.memory is not None:
        content = _digest(("memory", *whose, record.memory))
    else:
        content = _digest(
            ("messages", *whose, *[part for turn in record.messages for part in (turn.role, turn.content)])
        )
    if record.key is None:
        return Identity(content, content)
    return Identity(_digest(("key", *whose[:3], record.key)), content)


def turns_heard(record: Record, content: bytes) -> int:
    """How many of its turns the record had when its content was *content*; 0 if it never was a beginning of this."""
    so_far = blake2b("\0".join(("messages", *_whose(record))).encode(), digest_size=16)
    for number, turn in enumerate(record.messages, 1):
        so_far.update(f"\0{turn.role}\0{turn.content}".encode())
        if so_far.digest() == content:
            return number
    return 0


def digest(text: str) -> bytes:
    """16 bytes that stand for a memory's exact text."""
    return blake2b(text.encode(), digest_size=16).digest()


def _whose(record: Record) -> tuple[str, str, str, str]:
    scope = record.scope
    return scope.user_id or "", scope.agent_id or "", scope.run_id or "", str(record.infer)


def _digest(parts: tuple[str, ...]) -> bytes:
    # No text holds U+0000, so that no two tuples give one string.
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()
