"""Neighbouring records of one input, column by column: all that follows from their lines is worked out already.

What is done with a record one by one, in Python, takes longer than to write it; most records need none of that. Where
one of them is looked at, it is made from its line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple, TypeVar, overload

from powermem_cli.identity import Identity
from powermem_cli.model import Line, Record, Scope, Vector, WorkedOut

T = TypeVar("T")


class Columns(NamedTuple):
    """Of each record: its identity (*keys* and *contents*, 16 bytes each), the key it came with, whose it is, its
    times, its metadata as canonical JSON (None for none), and what it gives to remember as in a WorkedOut: of each
    text a digest, terms and a vector.

    Where no more was worked out than who they are, all behind *created_at* is empty.
    """

    keys: Sequence[bytes]
    contents: Sequence[bytes]
    own_keys: Sequence[str | None]
    scopes: Sequence[Scope]
    created_at: Sequence[int | None]
    metadata: Sequence[str | None] = ()
    expires_at: Sequence[int | None] = ()
    unless_known: Sequence[bool] = ()
    roles: Sequence[str | None] = ()
    texts: Sequence[tuple[str, ...]] = ()
    digests: Sequence[tuple[bytes, ...]] = ()
    terms: Sequence[tuple[str, ...]] = ()
    vectors: Sequence[tuple[Vector, ...]] = ()

    def part(self, which: slice) -> Columns:
        return Columns._make([column[which] for column in self])


class Block(Sequence[Record]):
    """Records of the lines *lines* of *file*, one of each. *make* makes the record of a line."""

    __slots__ = ("_make", "columns", "file", "lines", "size")

    def __init__(self, file: str, lines: Sequence[Line], columns: Columns, make: Callable[[Line], Record]) -> None:
        self.file = file
        self.lines = lines
        self.columns = columns
        self.size = sum([line[3] for line in lines])
        """Bytes of the input."""
        self._make = make

    @property
    def is_worked_out(self) -> bool:
        """Whether more than the identities is known of them."""
        return bool(self.columns.texts)

    @property
    def own_keys(self) -> list[str]:
        """The keys that records came with."""
        return [key for key in self.columns.own_keys if key is not None]

    def identity(self, place: int) -> Identity:
        return Identity(self.columns.keys[place], self.columns.contents[place])

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Block: ...
    def __getitem__(self, place: int | slice) -> Record | Block:
        if isinstance(place, slice):
            return Block(self.file, self.lines[place], self.columns.part(place), self._make)
        record = self._make(self.lines[place])
        if not self.is_worked_out:
            return record
        of = self.columns
        follows = of.texts[place], of.unless_known[place], of.roles[place], of.digests[place], of.terms[place]
        return replace(record, worked_out=WorkedOut(of.keys[place], of.contents[place], *follows, of.vectors[place]))

    def __iter__(self) -> Iterator[Record]:
        return (self[place] for place in range(len(self)))


def flat(column: Sequence[Sequence[T]]) -> list[T]:
    """What belongs to texts, text by text."""
    return [*chain.from_iterable(column)]
