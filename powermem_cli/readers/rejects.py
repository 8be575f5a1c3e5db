r"""Lines of a rejects file: what was set aside and why, in a form that can be mended and added again as it is.

{"file": "a.jsonl", "line": 7, "column": 31, "byte": 198, "code": "input.json", "message": "…", "raw": "{\"user…"}

`record` holds the piece as it was, any JSON; `raw` its text, where it is no JSON. `options` keeps what the command
line said about the input (format, map, user_id …), so that nothing has to be said again. A mended line has the
same content as its original should have had, and so the same identity: nothing doubles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from powermem_cli.errors import InvalidInput, PowerMemError, UsageError
from powermem_cli.model import Record, Rejected, Scope, Source
from powermem_cli.readers.base import FORMATS, Reading
from powermem_cli.readers.strict_json import BadJson, parse
from powermem_cli.rules import check_metadata, check_scope
from powermem_cli.times import format_time

Row = dict[str, Any]

_SCOPE = ("user_id", "agent_id", "run_id")
_OPTIONS = ("format", "map", *_SCOPE, "metadata", "infer")
_encode = json.JSONEncoder(ensure_ascii=False).encode


def is_reject_line(row: Mapping[str, Any]) -> bool:
    return "code" in row and "message" in row and ("record" in row or "raw" in row)


def as_reject_line(
    item: Record | Rejected, error: PowerMemError | None = None, *, reading: Reading | None = None
) -> str:
    """One line of JSON without its newline: a piece that is no record, or a record that failed with *error*.

    *reading* is the one the item was read with, `Input.reading`.
    """
    if isinstance(item, Record):
        assert error is not None, "a record is set aside for a reason"
        return _line(item.source, error.code, error.message, {"record": as_row(item)})
    return _line(item.source, item.code, item.message, _piece(item.raw, reading or Reading()))


def as_row(record: Record) -> Row:
    """The row that is read as *record* again."""
    row: Row = {}
    if record.memory is None:
        row["messages"] = [{"role": turn.role, "content": turn.content} for turn in record.messages]
    else:
        row["memory"] = record.memory
    row.update(_scope_as_row(record.scope))
    if record.key is not None:
        row["key"] = record.key
    if record.metadata:
        row["metadata"] = dict(record.metadata)
    if record.created_at is not None:
        row["created_at"] = format_time(record.created_at)
    if record.infer is not None:
        row["infer"] = record.infer
    return row


def unwrapped(line: Row) -> tuple[Any, Any]:
    """What is inside a line of rejects, and its options. Raises InvalidInput where `raw` has not become JSON."""
    value = line["record"] if "record" in line else _parsed(line["raw"])
    return value, line.get("options")


def _parsed(raw: Any) -> Any:
    try:
        return parse(raw if isinstance(raw, str) else "")
    except BadJson as error:
        raise InvalidInput(
            f"raw is {error.message} (character {error.at + 1}): write it as `record`", field="raw", code=error.code
        ) from None


def with_options(reading: Reading, options: Any) -> Reading:
    """*reading* with what a line of rejects says. Raises InvalidInput."""
    if not isinstance(options, dict) or not options.keys() <= set(_OPTIONS):
        raise InvalidInput(f"options must be an object of {', '.join(_OPTIONS)}", field="options", code="input.type")
    format_name, infer = options.get("format", reading.format), options.get("infer", reading.infer)
    mapping = options.get("map", reading.mapping)
    if not isinstance(format_name, str) or format_name not in FORMATS or not isinstance(infer, (bool, type(None))):
        raise InvalidInput("options.format or options.infer is none", field="options", code="input.type")
    if not isinstance(mapping, Mapping) or not all(isinstance(path, str) for path in mapping.values()):
        raise InvalidInput("options.map must be an object of paths", field="options", code="input.type")
    scope = check_scope(*(options.get(part) for part in _SCOPE))
    try:
        return replace(
            reading,
            format=format_name,
            mapping=mapping,
            scope=Scope(*(getattr(scope, part) or getattr(reading.scope, part) for part in _SCOPE)),
            metadata={**reading.metadata, **check_metadata(options.get("metadata"))},
            infer=infer,
        )
    except UsageError as error:
        raise InvalidInput(f"options: {error.message}", field="options", code=error.code) from None


def _piece(raw: str, reading: Reading) -> Row:
    """{"record"} or {"raw"} of a rejected piece, with the options it was read with."""
    options = _options(reading)
    try:
        value = parse(raw)
    except BadJson:
        return _with({"raw": _clean(raw)}, options)
    if isinstance(value, dict) and is_reject_line(value):
        # Set aside a second time: what is inside stays what it is.
        inner = {name: value[name] for name in ("record", "raw") if name in value}
        return _with(inner, value.get("options") or options)
    return _with({"record": value}, options)


def _with(piece: Row, options: Any) -> Row:
    return {**piece, "options": options} if options else piece


def _options(reading: Reading) -> Row:
    options: Row = {}
    if reading.format not in {"auto", "jsonl", "json", "text"}:  # those read any JSON value alike
        options["format"] = reading.format
    if reading.mapping:
        options["map"] = dict(reading.mapping)
    options.update(_scope_as_row(reading.scope))
    if reading.metadata:
        options["metadata"] = dict(reading.metadata)
    if reading.infer is not None:
        options["infer"] = reading.infer
    return options


def _scope_as_row(scope: Scope) -> Row:
    return {name: part for name in _SCOPE if (part := getattr(scope, name)) is not None}


def _line(source: Source | None, code: str, message: str, piece: Row) -> str:
    place: Row = {"file": None, "line": None, "column": None, "byte": None}
    if source is not None:
        place = {"file": _clean(source.file), "line": source.line, "column": source.column, "byte": source.byte}
    return _encode({**place, "code": code, "message": _clean(message), **piece})


def _clean(text: str) -> str:
    """Without what a strict reader refuses: U+0000 and the lone surrogates of a file name are written out."""
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()
