"""--map: values taken from columns or dotted paths of a row, and put where a record has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from powermem_cli.errors import InvalidInput
from powermem_cli.readers.base import target_of

Row = dict[str, Any]

MISSING = object()
_METADATA = "metadata."


class Mapped:
    def __init__(self, mapping: Mapping[str, str]) -> None:
        self._paths = [(target_of(name), path) for name, path in mapping.items()]

    def taken_from(self, row: Row) -> tuple[Row, Row]:
        """What is left of *row*, which stays as it is, and the values by field. A path that is not there gives none."""
        rest, fields = row, {}
        for target, path in self._paths:
            # A key may have dots in it, so the whole path is tried as one first.
            steps = [path] if path in row else path.split(".")
            value = looked_up(row, steps)
            if value is not MISSING and value is not None:
                fields[target] = value
                rest = _without(rest, steps)
        return rest, fields

    def put_into(self, row: Row, fields: Row, extra: Row) -> Row:
        """*row* with *fields*; what it had in their place goes to *extra*."""
        extra.update({name: row[name] for name in fields if name in row})
        own = {name: value for name, value in fields.items() if not name.startswith(_METADATA)}
        inner = {name[len(_METADATA) :]: value for name, value in fields.items() if name.startswith(_METADATA)}
        row = {**row, **own}
        if inner:
            metadata = row.get("metadata") or {}
            if not isinstance(metadata, dict):
                raise InvalidInput("metadata must be an object", field="metadata", code="input.type")
            row["metadata"] = {**metadata, **inner}
        return row


def looked_up(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and step.isdecimal() and len(step) < 10 and int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value


def _without(row: Row, steps: Sequence[str]) -> Row:
    """A copy without the value at *steps*, nor the objects that it leaves empty. Lists keep their items."""
    step, *further = steps
    copy = dict(row)
    inner = copy.pop(step, None)
    if further and isinstance(inner, dict):
        inner = _without(inner, further)
    if further and inner:
        copy[step] = inner
    return copy
