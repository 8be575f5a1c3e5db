"""Results as JSON for programs: one document, or one line per result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

from powermem_cli.output.console import speaks_unicode
from powermem_cli.output.safe import UNSAFE

_IDS: Final = frozenset({"id", "ids", "memory_id", "memory_ids"})
_OF_THE_USER: Final = frozenset({"metadata", "record"})


def write_document(value: Any, stream: TextIO) -> None:
    """One document over several lines, for `--json`."""
    stream.write(_dumped(value, stream, indent=2) + "\n")
    stream.flush()


def write_lines(values: Iterable[Any], stream: TextIO) -> None:
    """A line each, for `--jsonl`; on return the reader has all of them."""
    stream.write("".join([_dumped(value, stream) + "\n" for value in values]))
    stream.flush()


def _dumped(value: Any, stream: TextIO, indent: int | None = None) -> str:
    text = json.dumps(_with_text_ids(value), ensure_ascii=not speaks_unicode(stream), allow_nan=False, indent=indent)
    # JSON escapes C0 alone. What else a terminal must not see is the same value as an escape; so are lone surrogates
    # of file names, which UTF-8 can't hold. Newlines stand only between values and are not unsafe.
    return UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\u{code:04x}" if code < 0x10000 else json.dumps(found.group())[1:-1]  # a pair of surrogates


def _with_text_ids(value: Any) -> Any:
    """Ids as strings: jq 1.6 and JavaScript lose the last digits of 64-bit numbers. The user's own data stays."""
    if isinstance(value, Mapping):
        return {
            name: inner if name in _OF_THE_USER else _as_text(inner) if name in _IDS else _with_text_ids(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_with_text_ids(inner) for inner in value]
    return value


def _as_text(ids: Any) -> Any:
    if isinstance(ids, (list, tuple)):
        return [_as_text(one) for one in ids]
    return str(ids) if isinstance(ids, int) else ids
