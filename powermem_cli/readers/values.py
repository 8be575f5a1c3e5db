"""Where each record of a JSON document begins and ends, found by brackets and quotes.

A document is a list of records, {"results": [...]} around one, one record, or several of these one after the other.
What is wrong within a record stays within it, as far as brackets and line ends can tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from powermem_cli.readers.base import FIELD_OF, LONGEST_RECORD, WRAPPER, Position
from powermem_cli.readers.lines import LONG, SHOWN, TORN, WHOLE
from powermem_cli.readers.source import ByteSource
from powermem_cli.readers.strict_json import parse

_BETWEEN: Final = re.compile(rb"[^ \t\r\n,]")
_MARK: Final = re.compile(rb'["{}\[\]]')
_QUOTE_OR_LINE_END: Final = re.compile(rb'["\n]')
_AFTER_WORD: Final = re.compile(rb'[ \t\r\n,{}\[\]"]')
_LINE_END: Final = re.compile(rb"\n")
_WRAPPER: Final = re.compile(rb'(?<!\\)"%s"[ \t\r\n]*:[ \t\r\n]*\[\Z' % WRAPPER.encode())
_WRAPPER_LENGTH: Final = 80  # bytes, with blanks

_QUOTE, _NEWLINE, _BACKSLASH = b'"\n\\'
_OPENER: Final = {ord("}"): ord("{"), ord("]"): ord("[")}
_WITHIN_CHARACTERS: Final = bytes(range(0x80, 0xC0))  # all bytes of one in UTF-8 but the first
_DEEPEST_INDENT: Final = 100

REST: Final = 4  # no record, but the end of the object around them


class Value(NamedTuple):
    """*column* counts characters, from 1. *state* is WHOLE, LONG, TORN (then *raw* is the beginning) or REST."""

    raw: bytes
    byte: int
    line: int
    column: int
    lines: int
    size: int
    state: int


class _End(Exception):
    """The input ended while something was looked for."""


class Values:
    """The records of a document. All numbers named `at` count from what is not done yet."""

    def __init__(self, source: ByteSource, start: Position, measure: Callable[[bytes], int]) -> None:
        self._source = source
        self._measure = measure
        self._buffer = bytearray()
        self._start = 0  # what is before it in the buffer is done
        self._byte, self._line, self._column = start.byte, start.line, 1  # of the start
        self._indent, self._indenting = b"", True  # blanks at the beginning of the line; whether they go on
        self._record_indent = b""
        self._around = b""  # brackets around the records: nothing, [ or {[; { behind the list
        self._dropped: bytes | None = None  # None: all is held; else the beginning of what is passed by
        self._torn = False

    @property
    def trouble(self) -> str:
        return self._source.trouble or ("the document ends too early" if self._torn or self._around else "")

    def __iter__(self) -> Iterator[Value]:
        while self._go_to_next():
            first = self._buffer[self._start : self._start + 1]
            if first == b"[" and not self._around:
                self._done(1)
                self._around = b"["
            elif first == b"]" and self._around:
                self._done(1)
                self._around = self._around[:-1]
                if self._around:
                    yield self._rest()
            elif (value := self._value(self._end_of_brackets if first in b'"{[' else self._end_of_word)) is not None:
                yield value
        if self.trouble and not self._torn:
            yield Value(b"", self._byte, self._line, self._column, 0, 0, TORN)

    def _go_to_next(self) -> bool:
        """To the next byte that is neither blank nor comma; False at the end."""
        self._dropped = b""
        try:
            self._done(self._search(_BETWEEN, 0))
        except _End:
            return False
        return True

    def _rest(self) -> Value:
        """What follows the list of records in the object around it."""
        rest = self._value(lambda: self._end_of_brackets(b"{"))
        assert rest is not None
        if rest.state != TORN:
            self._around = b""
        return rest._replace(state=REST) if rest.state == WHOLE else rest

    def _value(self, find_end: Callable[[], int]) -> Value | None:
        """The value that begins here; None if it turned out to be the object around the records."""
        byte, line, column, around = self._byte, self._line, self._column, self._around
        self._dropped, self._record_indent = None, self._indent
        try:
            end = find_end()
        except _End:
            self._torn = True
            end = len(self._buffer) - self._start
        raw = bytes(self._buffer[self._start : self._start + end]) if self._dropped is None else self._dropped
        self._done(end)
        if self._around != around:
            return None
        too_long = self._dropped is not None or end > LONGEST_RECORD
        state = TORN if self._torn else LONG if too_long else WHOLE
        raw = raw[:SHOWN] if state else raw
        return Value(raw, byte, line, column, self._line - line, self._byte - byte, state)

    def _end_of_word(self) -> int:
        try:
            return self._search(_AFTER_WORD, 1)
        except _End:
            return len(self._buffer) - self._start

    def _end_of_brackets(self, before: bytes = b"") -> int:
        """Behind the bracket that closes the last of those *before* and those to come, or behind a string outside."""
        at, opened = 0, bytearray(before)
        while True:
            at = self._search(_MARK, at) + 1
            mark = self._buffer[self._start + at - 1]
            if mark == _QUOTE:
                at, broken = self._end_of_string(at)
                if broken:
                    return at
            elif mark in _OPENER:
                # One that does not match closes what it can; if it can't close anything, it is no bracket.
                if (match := opened.rfind(_OPENER[mark])) >= 0:
                    del opened[match:]
            elif opened == b"{" and not self._around and self._is_wrapper(at):
                self._around = b"{["
                return at
            else:
                opened.append(mark)
            if not opened:
                return at

    def _is_wrapper(self, at: int) -> bool:
        """Whether the bracket just before *at* opens the list of records of an object."""
        end = self._start + at
        if self._dropped is not None or not _WRAPPER.search(
            self._buffer[max(self._start, end - _WRAPPER_LENGTH) : end]
        ):
            return False
        try:
            names = parse(bytes(self._buffer[self._start : end]).decode() + "]}").keys()
        except ValueError:
            return False
        return not any(FIELD_OF.get(name) in {"messages", "memory"} for name in names)

    def _end_of_string(self, at: int) -> tuple[int, bool]:
        """Behind the quote; or, if the line ends first, where the next record seems to begin, and True."""
        while True:
            at = self._search(_QUOTE_OR_LINE_END, at) + 1
            if self._buffer[self._start + at - 1] == _NEWLINE:
                return self._next_record(at), True
            if not self._backslashes(at - 1) % 2:
                return at, False

    def _backslashes(self, at: int) -> int:
        """How many there are just before *at*."""
        end = first = self._start + at
        while first > self._start and self._buffer[first - 1] == _BACKSLASH:
            first -= 1
        return end - first

    def _next_record(self, at: int) -> int:
        """The first line from *at* on that begins like that of this record, or ends the list."""
        indent = self._record_indent
        likely = re.compile(rb'%s[{\["]|[ \t]{0,%d}\]' % (re.escape(indent), len(indent)))
        while True:
            while len(self._buffer) <= self._start + at + len(indent) and self._more():
                pass
            if likely.match(self._buffer, self._start + at):
                return at
            at = self._search(_LINE_END, at) + 1

    def _search(self, pattern: re.Pattern[bytes], at: int) -> int:
        """Where *pattern*, one byte, comes next. Raises _End."""
        while (found := pattern.search(self._buffer, self._start + at)) is None:
            held = len(self._buffer) - self._start
            at = max(at, held)
            if self._dropped is None and held > LONGEST_RECORD:
                self._dropped = bytes(self._buffer[self._start : self._start + SHOWN])
            if self._dropped is not None:
                dropped = held - self._backslashes(held) % 2  # the one that may escape what comes
                self._done(dropped)
                at -= dropped
            if not self._more():
                raise _End
        return found.start() - self._start

    def _more(self) -> bool:
        chunk = self._source.read()
        del self._buffer[: self._start]
        self._start = 0
        self._buffer += chunk
        return bool(chunk)

    def _done(self, size: int) -> None:
        piece = bytes(self._buffer[self._start : self._start + size])
        self._start += size
        self._byte += self._measure(piece)
        if newlines := piece.count(b"\n"):
            piece = piece[piece.rfind(b"\n") + 1 :]
            self._line += newlines
            self._column = 1
            self._indent, self._indenting = b"", True
        self._column += len(piece.translate(None, _WITHIN_CHARACTERS))
        if self._indenting:
            rest = piece.lstrip(b" \t")
            self._indent = (self._indent + piece[: len(piece) - len(rest)])[:_DEEPEST_INDENT]
            self._indenting = not rest
