"""powermem import"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.session import Run
from powermem_cli.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from powermem_cli.moving import Taken

MOST_SHOWN: Final = 10
LONGEST_HEAD: Final = 65_536  # bytes of the first line; what is no export may be one line of gigabytes
GZIP: Final = b"\x1f\x8b"


@command
def import_(
    run: Run, file: Annotated[str, typer.Argument(metavar="FILE", help="What export wrote; - reads it from stdin.")]
) -> Exit | None:
    """Take in what export wrote: the same ids, times, history.

    Twice is once: what is there already stays as it is.
    """
    import asyncio  # noqa: PLC0415 - `--help` does without

    from powermem_cli.output.progress import progress_for  # noqa: PLC0415

    progress = progress_for("none" if run.quiet else "auto", run.stderr, run.environ)

    def report(taken: Taken) -> None:
        progress.update(taken.bytes_read, {"added": taken.added, "rejected": taken.rejected})

    with _opened(file, run.stdin) as (lines, size):
        progress.start(size, file)
        try:
            taken = asyncio.run(_take_in(run, lines, report))
        finally:
            progress.finish()
    return tell(run, taken)


async def _take_in(run: Run, lines: Iterable[bytes], report: Callable[[Taken], None]) -> Taken:
    from powermem_cli.moving import Import  # noqa: PLC0415
    from powermem_cli.providers import create_embedder  # noqa: PLC0415
    from powermem_cli.stores import create_store  # noqa: PLC0415

    config = run.settings.config
    embedder = create_embedder(config.embedder.provider, config.embedder.options)
    store = create_store(config.vector_store.provider, config.vector_store.options)
    try:
        await store.open(embedder.model)
        return await Import(store, embedder, report).run(lines)
    finally:
        await store.close()
        await embedder.close()


@contextmanager
def _opened(file: str, stdin: Any) -> Iterator[tuple[Iterable[bytes], int | None]]:
    """The lines of an export, and their bytes if that is known. Raises UsageError, before there is a store, for what is none."""
    if file == "-":
        yield _begun(stdin.buffer, "the standard input", "records of other programs: powermem add -"), None
        return
    try:
        stream = open(file, "rb")  # noqa: PTH123, SIM115
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}") from error
    with stream:
        if stream.peek(4).startswith(b"PAR1"):
            from powermem_cli.parquet import lines_of  # noqa: PLC0415 - an extra

            yield lines_of(Path(file)), None
        elif stream.peek(2).startswith(GZIP):
            raise UsageError(f"{file} is compressed", hint=f"gunzip -c {shlex.quote(file)} | powermem import -")
        else:
            hint = f"records of other programs: powermem add --file {shlex.quote(file)}"
            yield _begun(stream, file, hint), Path(file).stat().st_size


def _begun(stream: IO[bytes], name: str, hint: str) -> Iterable[bytes]:
    """All lines, of which the first was looked at."""
    from powermem_cli.exchange import HEAD, decoded, head_of  # noqa: PLC0415 - `--help` does without

    try:
        first = stream.readline(LONGEST_HEAD)
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}") from error
    try:
        kind = decoded(first)
    except InvalidInput:
        kind = {}
    if kind.get("type") != HEAD:
        nothing = ": it is empty" if not first else ""
        raise InvalidInput(f"{name} is no export of powermem{nothing}", hint=hint)
    try:
        head_of(kind)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error.message}", hint=error.hint) from error
    return chain((first,), stream)


def tell(run: Run, taken: Taken) -> Exit | None:
    code = None if taken.whole and not taken.rejected and not taken.conflicting else Exit.PARTIAL
    for number, why in taken.rejects[:MOST_SHOWN]:
        run.note(f"line {number}: {why}")
    for id in taken.conflicts[:MOST_SHOWN]:
        run.note(f"memory {id} is another one here, which was left as it is")
    if not taken.whole:
        run.say("warning: the export is not whole: its last line is missing, or counts more than was read")
    if run.form != "auto":
        run.write_json(_as_json(taken, code))
    else:
        entries = "entry" if taken.records == 1 else "entries"
        counts = (
            *(("added", taken.added), ("there already", taken.there), ("in conflict", taken.conflicting)),
            *(
                ("expired", taken.expired),
                ("rejected", taken.rejected),
                (f"{entries} of ledger and history", taken.records),
            ),
        )
        run.note(", ".join(f"{number:,} {what}" for what, number in counts if number) or "nothing to import")
    return code


def _as_json(taken: Taken, code: Exit | None) -> dict[str, Any]:
    return {
        "type": "import",
        "added": taken.added,
        "there": taken.there,
        "expired": taken.expired,
        "records": taken.records,
        "conflicting": taken.conflicting,
        "conflicts": [str(id) for id in taken.conflicts],
        "rejected": taken.rejected,
        "rejects": [{"line": number, "message": why} for number, why in taken.rejects],
        "whole": taken.whole,
        "exit_code": int(code or 0),
    }
