"""The first row of a table: which columns there are, and what is between them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from powermem_cli.errors import UsageError, did_you_mean
from powermem_cli.readers.base import FIELD_OF, Reading, target_of

_DELIMITERS: Final = ",;\t|"
_CONTENT: Final = {"messages", "memory"}


@dataclass(frozen=True)
class Header:
    """*columns* are lower case where they are names of fields; *mapping* is --map with the columns as they are here."""

    delimiter: str
    columns: tuple[str, ...]
    mapping: Mapping[str, str]


def read_header(line: str, name: str, reading: Reading) -> Header:
    """Raises UsageError where the columns are not clear, or none of them is something to remember."""
    delimiter = reading.delimiter or ("\t" if reading.format == "tsv" else _delimiter_of(line, name, reading))
    columns = _columns(line, delimiter)
    if columns is None:
        raise UsageError(f"{name}: the header has a quote that is not closed")
    if "" in columns:
        raise UsageError(f"{name}: column {columns.index('') + 1} of the header has no name")
    folded = [column.lower() for column in columns]
    for column in columns:
        if folded.count(column.lower()) > 1:
            raise UsageError(f"{name}: the header has the column {column!r} twice")
    header = Header(delimiter, _field_names(columns), _mapping(columns, name, reading.mapping))
    if not _has_content(header.columns, header.mapping):
        raise UsageError(
            f"{name} has no column with a memory or with messages; its columns are {', '.join(columns)}",
            hint=f"say which one it is, as in --map memory={columns[0]}",
        )
    return header


def delimiters_with_content(line: str, mapping: Mapping[str, str]) -> list[str]:
    """The delimiters that make a header of *line* with something to remember in it, and split it."""
    found = []
    for delimiter in _DELIMITERS:
        columns = _columns(line, delimiter)
        if columns is not None and len(columns) > 1 and _has_content(_field_names(columns), _present(mapping, columns)):
            found.append(delimiter)
    return found


def splits(line: str) -> dict[str, int]:
    """How many cells each delimiter makes of *line*, where it makes more than one."""
    counts = {delimiter: len(_columns(line, delimiter) or ()) for delimiter in _DELIMITERS}
    return {delimiter: count for delimiter, count in counts.items() if count > 1}


def _delimiter_of(line: str, name: str, reading: Reading) -> str:
    likely = delimiters_with_content(line, reading.mapping) or list(splits(line))
    if len(likely) > 1:
        raise UsageError(
            f"{name}: the header can be split by {' and by '.join(map(repr, likely))}",
            hint="say which one it is with --delimiter",
        )
    return likely[0] if likely else ","


def _columns(line: str, delimiter: str) -> tuple[str, ...] | None:
    try:
        return tuple(cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True), []))
    except csv.Error:
        return None


def _field_names(columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(column.lower() if column.lower() in FIELD_OF else column for column in columns)


def _mapping(columns: tuple[str, ...], name: str, mapping: Mapping[str, str]) -> dict[str, str]:
    present = _present(mapping, columns)
    for target, wanted in mapping.items():
        if target not in present:
            raise UsageError(f"{name} has no column {wanted!r}", hint=did_you_mean(wanted, columns))
    return present


def _present(mapping: Mapping[str, str], columns: tuple[str, ...]) -> dict[str, str]:
    named = {column.lower(): name for column, name in zip(columns, _field_names(columns), strict=True)}
    return {target: named[wanted.lower()] for target, wanted in mapping.items() if wanted.lower() in named}


def _has_content(columns: Iterable[str], mapping: Mapping[str, str]) -> bool:
    fields = {FIELD_OF.get(column) for column in columns} | {target_of(target) for target in mapping}
    return bool(fields & _CONTENT)
