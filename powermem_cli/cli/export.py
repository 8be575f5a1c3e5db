"""powermem export"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Literal, Optional, cast

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.failures import UNWRITABLE
from powermem_cli.cli.options import Selection
from powermem_cli.cli.session import Run, counted
from powermem_cli.cli.users import note_nothing
from powermem_cli.errors import StoreError, UsageError
from powermem_cli.output.safe import UNSAFE

if TYPE_CHECKING:
    from powermem_cli.exchange import Line

_COLUMNS: Final = (
    *("id", "memory", "user_id", "agent_id", "run_id"),
    *("metadata", "created_at", "updated_at", "expires_at"),
)


@command
def export(
    run: Run,
    output: Annotated[
        Optional[str], typer.Option("-o", "--output", metavar="FILE", help="Into this file; without, to stdout.")
    ] = None,
    format_: Annotated[
        Optional[Literal["jsonl", "csv", "parquet"]],
        typer.Option("--format", help="jsonl: all there is; csv, parquet: memories alone. By the name of FILE."),
    ] = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="With the vectors, so that none are made anew.")] = False,
    *,
    selection: Selection,
) -> Exit | None:
    """Write memories to a file, as they are at one moment.

    Of the whole store their history goes along, and which records are done.
    """
    from powermem_cli.moving import export as lines  # noqa: PLC0415 - `--help` does without

    output = None if output == "-" else output
    wanted = selection.wanted(run)
    layout = format_ or _layout_of(output)
    if layout == "csv" and vectors:
        raise UsageError("a CSV file has no vectors", hint="leave out --vectors, or write JSON lines")
    if layout == "parquet" and output is None:
        raise UsageError("a Parquet file can't be written to a pipe", hint="name a file with --output")

    async def work(store: Any) -> int:
        number = 0
        with _opened(output) as stream, _writing(layout, stream) as write:
            async for page in lines(store, wanted, vectors=vectors):
                number += sum(line["type"] == "memory" for line in page)
                write(page)
        return number

    number = run.with_store(work)
    if run.form != "auto" and output is not None:
        run.write_json({"type": "export", "memories": number, "output": output})
    else:
        run.note(f"{counted(number, 'memory', 'memories')} exported{'' if output is None else f' to {output}'}")
    if not number:
        note_nothing(run, "no memories here", selection.user, selection.where)
    return None


def _layout_of(output: str | None) -> str:
    ending = "" if output is None else Path(output).suffix.lower()
    return {".csv": "csv", ".parquet": "parquet"}.get(ending, "jsonl")


def _writing(layout: str, stream: IO[bytes]) -> AbstractContextManager[Callable[[list[Line]], None]]:
    """Gives a function that takes the pages of an export."""
    if layout == "parquet":
        from powermem_cli.parquet import writing  # noqa: PLC0415 - an extra

        return writing(stream)
    return nullcontext(_csv_writer(stream) if layout == "csv" else _line_writer(stream))


@contextmanager
def _opened(output: str | None) -> Iterator[IO[bytes]]:
    """FILE.partial until all is in it and on the disk, then FILE: nobody takes a part for the whole."""
    from powermem_cli.whole_file import whole_file  # noqa: PLC0415

    if output is None:
        yield cast("IO[bytes]", _OnTerminal()) if sys.stdout.isatty() else sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    if not path.name or path.is_dir():
        raise UsageError(f"{output!r} is no name of a file", hint="name a file with --output, or - for stdout")
    try:
        with whole_file(path) as stream:
            yield stream
    except OSError as error:
        message = f"{output} can't be written: {error.strerror or error}"
        if error.errno in UNWRITABLE:
            raise StoreError(
                message, hint="no part of it is left; write it somewhere else", code="output.io"
            ) from error
        raise UsageError(message) from error


class _OnTerminal(io.RawIOBase):
    """stdout where a person looks at it: what would command the terminal is an escape, which in JSON means the same."""

    def write(self, data: Any) -> int:
        text = bytes(data).decode().replace("\r\n", "\n")
        sys.stdout.buffer.write(UNSAFE.sub(lambda found: json.dumps(found.group())[1:-1], text).encode())
        return len(data)


def _line_writer(stream: IO[bytes]) -> Callable[[list[Line]], None]:
    from powermem_cli.exchange import encoded  # noqa: PLC0415

    def write(page: list[Line]) -> None:
        stream.write(b"".join(map(encoded, page)))

    return write


def _csv_writer(stream: IO[bytes]) -> Callable[[list[Line]], None]:
    import csv  # noqa: PLC0415

    stream.write(f"{','.join(_COLUMNS)}\r\n".encode())

    def write(page: list[Line]) -> None:
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        for line in page:
            if line["type"] == "memory":
                cells = {**line, "metadata": json.dumps(line["metadata"], ensure_ascii=False)}
                rows.writerow([cells.get(name) for name in _COLUMNS])
        stream.write(text.getvalue().encode())

    return write
