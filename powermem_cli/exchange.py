"""What a store holds as lines of JSON, and back: memories, their history, the ledger; a head before and an end behind.

Ids are strings, as no 64-bit number survives every JSON parser; times are RFC 3339 to the microsecond.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast, get_args

from powermem_cli import times
from powermem_cli.errors import InvalidInput
from powermem_cli.identity import digest
from powermem_cli.model import Origin, Scope, StoredMemory, Vector
from powermem_cli.rules import check_metadata, check_scope, check_text
from powermem_cli.stores.base import HistoryRow, Insert, LedgerRow, LedgerStatus

VERSION: Final = 1
"""Of the lines. What is of a later one is not read."""

HEAD: Final = "powermem"
END: Final = "end"

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """The first line: *model* and *dims* of the vectors in the store, and whether they are among the lines."""

    model: str | None
    dims: int | None
    vectors: bool


class Amounts(NamedTuple):
    """How many lines of each kind."""

    memory: int = 0
    history: int = 0
    ledger: int = 0


def head_line(head: Head) -> Line:
    made_at = times.format_time(times.now())
    return {"type": HEAD, "version": VERSION, **_fields(head), "made_at": made_at}


def _fields(head: Head) -> Line:
    return {"model": head.model, "dims": head.dims, "vectors": head.vectors}


def head_of(line: Line) -> Head:
    """Raises InvalidInput for a line that is no head, or one of a later version."""
    if line.get("type") != HEAD:
        raise InvalidInput("this is no export of powermem", hint="records of other programs: powermem add --file FILE")
    if line.get("version") != VERSION:
        raise InvalidInput(
            f"this export is of version {line.get('version')!r}, and {VERSION} is all that is known here",
            hint="upgrade powermem-cli",
        )
    model, dims, vectors = line.get("model"), line.get("dims"), line.get("vectors")
    if not isinstance(model, (str, type(None))) or not isinstance(dims, (int, type(None))):
        raise InvalidInput("model or dims of the first line are not what they should be")
    return Head(model, dims, vectors is True)


def end_line(amounts: Amounts) -> Line:
    return {"type": END, **amounts._asdict()}


def amounts_of(line: Line) -> Amounts:
    return Amounts(*(_integer(line, name) for name in Amounts._fields))


def memory_line(row: StoredMemory, vector: Vector | None) -> Line:
    """*vector* None: without one, although the memory may have one."""
    line: Line = {"type": "memory", "id": str(row.id), "memory": row.text, **_scope_fields(row.scope)}
    line |= {"metadata": dict(row.metadata), "created_at": times.format_time(row.created_at)}
    line["updated_at"] = times.format_time(row.updated_at)
    if row.expires_at is not None:
        line["expires_at"] = times.format_time(row.expires_at)
    if row.origin is not None:
        line["source"] = row.origin.known()
    if vector is not None:
        line["vector"] = base64.b64encode(vector).decode()
    return line


def insert_of(line: Line) -> Insert:
    """The memory of a line, with its vector, which is empty if the line has none. Raises InvalidInput."""
    text = check_text(line.get("memory"), "memory")
    return Insert(
        scope=_scope(line),
        text=text,
        vector=_vector(line),
        digest=digest(text),
        created_at=_time(line, "created_at"),
        metadata=check_metadata(line.get("metadata")),
        id=_integer(line, "id"),
        origin=_origin(line),
        expires_at=_time(line, "expires_at") if line.get("expires_at") is not None else None,
        updated_at=_time(line, "updated_at"),
    )


def history_line(row: HistoryRow) -> Line:
    line: Line = {"type": "history", "memory_id": str(row.memory_id), "number": str(row.number), "event": row.event}
    line |= {"memory": row.text, **_scope_fields(row.scope)}
    line |= {"created_at": times.format_time(row.created_at), "at": times.format_time(row.at)}
    if row.origin is not None:
        line["source"] = row.origin.known()
    return line


def history_row_of(line: Line) -> HistoryRow:
    if line.get("event") not in {"UPDATE", "DELETE"}:
        raise InvalidInput("event is UPDATE or DELETE", field="event")
    text = check_text(line.get("memory"), "memory")
    past = (_scope(line), _origin(line), _time(line, "created_at"), _time(line, "at"))
    return HistoryRow(_integer(line, "memory_id"), _integer(line, "number"), line["event"], text, *past)


def ledger_line(row: LedgerRow) -> Line:
    line: Line = {"type": "ledger", "key": row.key.hex(), "content": row.content.hex(), "status": row.status}
    line |= {"memory_ids": [str(id) for id in row.memory_ids], "tries": row.tries, "job": row.job}
    return line | {"at": times.format_time(row.at)}


def ledger_row_of(line: Line) -> LedgerRow:
    if line.get("status") not in get_args(LedgerStatus):
        raise InvalidInput(f"status is one of {', '.join(get_args(LedgerStatus))}", field="status")
    ids, job = line.get("memory_ids"), line.get("job")
    if not isinstance(ids, list) or not isinstance(job, str):
        raise InvalidInput("memory_ids is a list and job a text", field="memory_ids")
    numbers = tuple(_integer({"memory_ids": id}, "memory_ids") for id in ids)
    status = cast("LedgerStatus", line["status"])
    return LedgerRow(
        _bytes(line, "key"), _bytes(line, "content"), status, numbers, _integer(line, "tries"), job, _time(line, "at")
    )


def encoded(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decoded(line: bytes) -> Line:
    """Raises InvalidInput."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput("not an object")
    return value


READERS: Final[Mapping[str, Callable[[Line], Any]]] = {
    "memory": insert_of,
    "history": history_row_of,
    "ledger": ledger_row_of,
}


def _scope_fields(scope: Scope) -> Line:
    return {"user_id": scope.user_id, "agent_id": scope.agent_id, "run_id": scope.run_id}


def _scope(line: Line) -> Scope:
    return check_scope(line.get("user_id"), line.get("agent_id"), line.get("run_id"))


def _origin(line: Line) -> Origin | None:
    source = line.get("source")
    if source is None:
        return None
    if not isinstance(source, dict) or not source.keys() <= set(Origin._fields):
        raise InvalidInput(f"source has {', '.join(Origin._fields)}, and nothing else", field="source")
    if not all(isinstance(source.get(name), (str, type(None))) for name in ("job", "file", "role")):
        raise InvalidInput("job, file and role of a source are texts", field="source")
    number = source.get("line")
    return Origin(**{**source, "line": None if number is None else _integer(source, "line")})


def _vector(line: Line) -> Vector:
    text = line.get("vector")
    if text is None:
        return b""
    try:
        vector = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InvalidInput("vector is no base64", field="vector") from None
    if len(vector) % 4:
        raise InvalidInput("vector is no list of float32", field="vector")
    return vector


def _integer(line: Line, name: str) -> int:
    value = line.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise InvalidInput(f"{name} is a number from 0 to 2^63, not {value!r}", field=name)
    return value


def _time(line: Line, name: str) -> int:
    try:
        return times.parse_time(line.get(name))
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}", field=name) from None


def _bytes(line: Line, name: str) -> bytes:
    try:
        return bytes.fromhex(line.get(name) or "-")
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} is no hexadecimal", field=name) from None
