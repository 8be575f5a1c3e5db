"""An export as a Parquet file, for tools that work on columns, and back: the memories, with or without vectors."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

from powermem_cli import times
from powermem_cli.errors import ConfigError, InvalidInput
from powermem_cli.exchange import Amounts, Line, encoded, end_line

ROWS_AT_ONCE: Final = 8192  # in memory, and in a row group
_READ_AT_ONCE: Final = 512
_HEAD: Final = b"powermem"  # under which the first line of an export is kept
_TEXTS: Final = ("memory", "user_id", "agent_id", "run_id")
_OBJECTS: Final = ("metadata", "source")
_TIMES: Final = ("created_at", "updated_at", "expires_at")


@contextmanager
def writing(stream: IO[bytes]) -> Iterator[Callable[[Sequence[Line]], None]]:
    """A function that takes the pages of an export; of what is in them, the memories go to *stream*.

    Raises ConfigError if pyarrow is not installed.
    """
    pa, pq = _pyarrow()
    waiting: list[Line] = []
    writer: Any = None

    def flush() -> None:
        if waiting:
            writer.write_table(_table(pa, waiting, writer.schema))
            waiting.clear()

    def write(page: Sequence[Line]) -> None:
        nonlocal writer
        if writer is None:
            writer = pq.ParquetWriter(stream, _schema(pa, page[0]), compression="zstd")
        waiting.extend(line for line in page if line["type"] == "memory")
        if len(waiting) >= ROWS_AT_ONCE:
            flush()

    try:
        yield write
        flush()
    finally:
        if writer is not None:
            writer.close()


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of the export in such a file. Raises InvalidInput, OSError; ConfigError if pyarrow is not installed."""
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            head = (file.schema_arrow.metadata or {}).get(_HEAD)
            if head is None:
                raise InvalidInput("this is no export of powermem", hint="it has no head of one among its metadata")
            yield head + b"\n"
            for batch in file.iter_batches(batch_size=_READ_AT_ONCE):
                yield from map(encoded, _lines(pa, batch))
            yield encoded(end_line(Amounts(memory=file.metadata.num_rows)))
    except (pa.ArrowException, KeyError) as error:
        raise InvalidInput(f"{path} is no sound Parquet file with memories: {error}") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Parquet needs the Python package pyarrow, which is not installed",
            hint='pip install "powermem-cli[parquet]"',
            code="config.extra",
        ) from error
    return pa, pq


def _schema(pa: Any, head: Line) -> Any:
    moment = pa.timestamp("us", "UTC")
    fields = [("id", pa.int64()), *((name, pa.string()) for name in (*_TEXTS, *_OBJECTS))]
    fields += [(name, moment) for name in _TIMES]
    if head["vectors"]:
        fields.append(("vector", pa.list_(pa.float32())))
    return pa.schema(fields, metadata={_HEAD: encoded(head).rstrip()})


def _table(pa: Any, lines: Sequence[Line], schema: Any) -> Any:
    columns: dict[str, Any] = {"id": [int(line["id"]) for line in lines]}
    columns |= {name: [line[name] for line in lines] for name in _TEXTS}
    columns |= {name: [_as_json(line.get(name)) for line in lines] for name in _OBJECTS}
    columns |= {name: [_as_number(line.get(name)) for line in lines] for name in _TIMES}
    arrays = [pa.array(columns[name], schema.field(name).type) for name in columns]
    if "vector" in schema.names:
        arrays.append(_vectors(pa, [base64.b64decode(line["vector"]) for line in lines]))
    order = [*columns, "vector"]
    return pa.Table.from_arrays(arrays, names=order[: len(arrays)]).select(schema.names).cast(schema)


def _vectors(pa: Any, vectors: Sequence[bytes]) -> Any:
    import numpy as np  # noqa: PLC0415 - as above

    ends = np.cumsum([0, *(len(vector) // 4 for vector in vectors)], dtype=np.int32)
    return pa.ListArray.from_arrays(ends, np.frombuffer(b"".join(vectors), "<f4"))


def _lines(pa: Any, batch: Any) -> Iterator[Line]:
    columns = {name: batch.column(name).to_pylist() for name in ("id", *_TEXTS, *_OBJECTS)}
    columns |= {name: batch.column(name).cast(pa.int64()).to_pylist() for name in _TIMES}
    vectors = _bytes_of(batch.column("vector")) if "vector" in batch.schema.names else None
    for i, id in enumerate(columns["id"]):
        line: Line = {"type": "memory", "id": str(id), **{name: columns[name][i] for name in _TEXTS}}
        line |= {name: json.loads(value) for name in _OBJECTS if (value := columns[name][i]) is not None}
        line |= {name: times.format_time(value) for name in _TIMES if (value := columns[name][i]) is not None}
        if vectors is not None:
            line["vector"] = base64.b64encode(vectors[i]).decode()
        yield line


def _bytes_of(column: Any) -> list[bytes]:
    values = column.values.to_numpy().astype("<f4", copy=False)
    ends = column.offsets.to_numpy()
    return [values[start:end].tobytes() for start, end in pairwise(ends)]


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _as_number(time: str | None) -> int | None:
    return None if time is None else times.parse_time(time)
