"""Which format an input has: by the suffix of its name, then by its first lines. Never a guess between two."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Set as AbstractSet
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from powermem_cli.errors import UsageError
from powermem_cli.readers import powermem
from powermem_cli.readers.base import FIELD_OF, NAMES, WRAPPER, Reading
from powermem_cli.readers.header import delimiters_with_content, splits
from powermem_cli.readers.source import ByteSource

_SUFFIXES: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
_LOOK: Final = 64 * 1024  # bytes
_LONGEST_HOLE: Final = 1024 * 1024  # NULs at the beginning, as a writer that crashed leaves them, to look behind
# A string that is cut off is one, too: looking for its end again from each quote in it would take for ever.
_STRING_OR_BRACKET: Final = re.compile(
    r'"([^"\\]*(?:\\.[^"\\]*)*)(?:"([ \t\r\n]*:[ \t\r\n]*\[?)?|\\?\Z)|[{}\[\]]', re.DOTALL
)
_CONTENT: Final = {*NAMES["messages"], *NAMES["memory"]}


class _Head(NamedTuple):
    text: str
    lines: list[str]  # those that are not blank; the last may be cut
    whole: bool  # there is nothing behind


def find_format(source: ByteSource, name: str, reading: Reading) -> str:
    """The format asked for; for "auto" the one found. Raises UsageError with the candidates if there are several."""
    if reading.format != "auto":
        return reading.format
    by_name = _SUFFIXES.get(PurePath(name.lower().removesuffix(".gz")).suffix)
    if by_name in {"csv", "tsv"}:
        return by_name
    head = _look(source)
    if not head.lines and by_name is None and source.ahead.startswith(b"\0"):
        raise UsageError(
            f"{name} begins with NULs, and nothing else is in sight", hint="say what it is, as in --format jsonl"
        )
    candidates = _candidates(head, by_name, reading.mapping) if head.lines else [by_name or "text"]
    if len(candidates) > 1:
        raise UsageError(
            f"{name} could be {' or '.join(candidates)}", hint=f"say which one it is, as in --format {candidates[0]}"
        )
    return candidates[0]


def _look(source: ByteSource) -> _Head:
    """As little as tells, for a pipe may be slow: one line if it is an object, else two; 64 KiB of what seems to be one
    document on many lines.

    The same however the bytes come: in one piece or in many.
    """
    head = _look_until(source, _behind_what_tells)
    if head.lines and head.lines[0].lstrip()[:1] in {"{", "["} and not isinstance(_parsed(head.lines[0]), dict):
        head = _look_until(source, lambda _: -1)
    return head


def _look_until(source: ByteSource, found: Callable[[bytes], int]) -> _Head:
    whole = False
    while (end := found(seen := source.ahead.lstrip(b"\0"))) < 0 and len(seen) < _LOOK and not whole:
        whole = len(source.ahead) >= _LONGEST_HOLE or not source.look_further()
    text = seen[: min(end, _LOOK) if end >= 0 else _LOOK].decode("utf-8", "replace")
    return _Head(text, [line for line in text.split("\n") if line and not line.isspace()], whole)


def _behind_what_tells(text: bytes) -> int:
    """Behind one line that is an object, if no list of records is in it; else behind two lines that are not blank; -1 if
    there are fewer.
    """
    at = 0
    for number in range(2):
        while not (line := text[at : text.find(b"\n", at) + 1]) or line.isspace():
            if not line:
                return -1
            at += len(line)
        at += len(line)
        if number == 0 and _is_record(line):
            break
    return at


def _is_record(line: bytes) -> bool:
    value = _parsed(line.decode("utf-8", "replace")) if line.lstrip().startswith(b"{") else None
    return isinstance(value, dict) and WRAPPER not in value


def _candidates(head: _Head, by_name: str | None, mapping: Mapping[str, str]) -> list[str]:
    first = head.lines[0].lstrip()
    if by_name == "text":
        return ["text", "jsonl"] if isinstance(_parsed(first), dict) else ["text"]
    if first.startswith("{"):
        return _of_object(head, by_name)
    if first.startswith("[") and (by_name or re.match(r'\[\s*[{\["\]]', head.text.lstrip())):
        found = _flavour(*_first_keys(head.text)) or "json"
        return ["jsonl", found] if by_name == "jsonl" else [found]
    if by_name:
        return [by_name]
    if isinstance(string := _parsed(first), str):
        return ["csv", "jsonl"] if FIELD_OF.get(string.lower()) in {"messages", "memory"} else ["jsonl"]
    return _of_table_or_text(head.lines, mapping)


def _of_object(head: _Head, by_name: str | None) -> list[str]:
    """For what begins with a brace: lines of JSON, or one document."""
    keys, wrapped = _first_keys(head.text)
    found = _flavour(keys, wrapped)
    first = _parsed(head.lines[0])
    if isinstance(first, dict):
        return [found or ("json" if wrapped and len(head.lines) == 1 else "jsonl")]
    if not head.whole and "\n" not in head.text.strip():  # a line longer than what was looked at
        return [found or ("json" if wrapped else by_name or "jsonl")]
    if len(head.lines) > 1 and isinstance(_parsed(head.lines[1]), dict):
        return ["jsonl"]  # and its first line is a bad one
    if len(head.lines) == 1:
        return [by_name or "jsonl"]
    if by_name == "jsonl" or not _goes_on(head.lines[0]):
        return [by_name] if by_name == "json" else ["jsonl", found or "json"]
    return [found or "json"]


def _of_table_or_text(lines: list[str], mapping: Mapping[str, str]) -> list[str]:
    first = lines[0].strip("\r")
    delimiters = delimiters_with_content(first, mapping)
    if delimiters:
        return ["tsv" if delimiters == ["\t"] else "csv"]
    if first.strip().lower() in _CONTENT:
        return ["csv", "text"]
    alike = splits(first).items() & splits(lines[1].strip("\r")).items() if len(lines) > 1 else set()
    if any(all(len(cell.split()) <= 3 for cell in first.split(delimiter)) for delimiter, _ in alike):
        return ["text", "csv"]
    return ["text"]


def _flavour(keys: AbstractSet[str], wrapped: bool) -> str | None:
    """The program that wrote a record with these keys."""
    if "mapping" in keys and keys & {"title", "create_time", "current_node"} and not keys & _CONTENT:
        return "chatgpt"
    if {"uuid", "chat_messages"} <= keys and not keys & {*NAMES["user_id"]}:
        return "claude"
    if "memory" in keys and (wrapped or "hash" in keys):
        return "mem0"
    return "powermem" if powermem.ALWAYS <= keys <= powermem.FIELDS and not wrapped else None


def _first_keys(text: str) -> tuple[set[str], bool]:
    """The keys of the first record, as far as it can be seen; and whether it is in {"results": [...]}."""
    keys: set[str] = set()
    wrapped, depth, level = False, 0, None
    for found in _STRING_OR_BRACKET.finditer(text):
        key, colon = found.groups()
        if colon:
            if depth == level:
                keys.add(key)
                if key == WRAPPER and colon.endswith("[") and not wrapped:
                    wrapped, level = True, None
                    keys.clear()
            depth += colon.endswith("[")
        elif found.group() in {"{", "["}:
            depth += 1
            if level is None and found.group() == "{":
                level = depth
        elif found.group() in {"}", "]"}:
            depth -= 1
            if level is not None and depth < level:
                break
    return keys, wrapped


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _goes_on(line: str) -> bool:
    """Whether a line is only wrong because it is not all, as the first of a document on many lines."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        pass
    return False
