"""A row of a table: cells are text, and some of them hold more than that."""

from __future__ import annotations

from typing import Any

from powermem_cli.errors import InvalidInput
from powermem_cli.readers.base import FIELD_OF
from powermem_cli.readers.strict_json import BadJson, parse

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def row(value: Any) -> dict[str, Any]:
    """{column: value} of {column: cell}; an empty cell is none. A line of rejects may have other values than text."""
    if not isinstance(value, dict):
        raise InvalidInput("a row is an object, with a value for each column", code="input.type")
    return {name: _value(name, cell) for name, cell in value.items() if cell != ""}


def _value(name: str, cell: Any) -> Any:
    field = FIELD_OF.get(name)
    if not isinstance(cell, str):
        return cell
    if (field == "messages" and cell.startswith("[")) or field == "metadata":
        return _json(name, cell)
    if field == "infer":
        return _WORDS.get(cell.strip().lower(), cell)
    return cell


def _json(name: str, cell: str) -> Any:
    try:
        return parse(cell)
    except BadJson as error:
        raise InvalidInput(f"{name}: {error.message} (character {error.at + 1})", field=name, code=error.code) from None
