"""What every reader shares: how input is to be read, where reading stands, the names fields go by, the limits."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from powermem_cli.errors import UsageError, did_you_mean
from powermem_cli.model import Scope
from powermem_cli.rules import check_metadata

LONGEST_RECORD: Final = 16 * 1024 * 1024  # bytes of input: twice the longest text leaves room for its escapes
CHUNK: Final = 256 * 1024  # bytes per read

WRAPPER: Final = "results"  # an object with a list of this name holds records, and is none

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "messages": ("messages", "conversations", "chat_messages"),
    "memory": ("memory", "content", "text", "note", "data"),
    "user_id": ("user_id", "user"),
    "agent_id": ("agent_id", "agent"),
    "run_id": ("run_id", "run", "session_id", "conversation_id"),
    "key": ("key", "id", "custom_id", "uuid", "_id"),
    "metadata": ("metadata",),
    "infer": ("infer",),
    "created_at": ("created_at", "timestamp", "create_time", "time"),
    "expires_at": ("expires_at",),
}
"""Each field of a record and the names it goes by; where several are there, the first is the field."""

FIELD_OF: Final[Mapping[str, str]] = {name: field for field, names in NAMES.items() for name in names}


@dataclass(frozen=True)
class Format:
    """One word of --format: the module that cuts the input into rows, and the one that knows what a row means."""

    cut: str
    row: str | None = None
    ready_facts: bool = False  # nothing to infer in them
    needs_user: bool = False  # such files name nobody


FORMATS: Final[Mapping[str, Format]] = {
    "jsonl": Format("jsonl"),
    "json": Format("json"),
    "csv": Format("delimited", "cells"),
    "tsv": Format("delimited", "cells"),
    "text": Format("text"),
    "chatgpt": Format("json", "chatgpt", needs_user=True),
    "claude": Format("json", "claude", needs_user=True),
    "mem0": Format("json", "mem0", ready_facts=True),
    "powermem": Format("jsonl", "powermem", ready_facts=True),
}


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading stands: *byte* counts from 0 in the uncompressed input, *line* from 1."""

    byte: int = 0
    line: int = 1


@dataclass(frozen=True)
class Reading:
    """How input is to be read, and what a record gets that lacks it. Raises UsageError for what cannot be.

    *encoding* None is UTF-8 or what the byte order mark says; *delimiter* None is found in the header.
    *mapping* is {field: column or dotted path}; `metadata.x` is a field too. *key* is where a record's key is taken
    from: "auto" (what it calls its key), "content", "position", or a column or dotted path.
    """

    format: str = "auto"
    encoding: str | None = None
    delimiter: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    scope: Scope = Scope()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    infer: bool | None = None
    key: str = "auto"

    def __post_init__(self) -> None:
        if self.format != "auto" and self.format not in FORMATS:
            raise UsageError(f"there is no format {self.format!r}", hint=did_you_mean(self.format, ["auto", *FORMATS]))
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise UsageError(f"a delimiter is one character other than a quote, not {self.delimiter!r}")
        if self.encoding is not None:
            check_encoding(self.encoding)
        targets = [target_of(name) for name in self.mapping]
        for twice in {one for one in targets if targets.count(one) > 1}:
            raise UsageError(f"--map names {twice} twice")
        check_metadata(self.metadata)


def target_of(name: str) -> str:
    """The field that a left side of --map means: a canonical name, or `metadata.x`."""
    if name.startswith("metadata.") and name != "metadata.":
        return name
    if name not in FIELD_OF:
        raise UsageError(
            f"--map: a record has no field {name!r}", hint=f"{did_you_mean(name, NAMES)}, or metadata.NAME"
        )
    return FIELD_OF[name]


def check_encoding(name: str) -> str:
    """Python's own name of an encoding of text."""
    try:
        "".encode(name)  # refuses the codecs that are none of text, as base64
        return codecs.lookup(name).name
    except LookupError:
        raise UsageError(
            f"there is no encoding {name!r}", hint="for example utf-8, utf-16-le, cp1252, gb18030"
        ) from None
