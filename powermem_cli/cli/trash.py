"""powermem trash: what `delete --all` took, and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.session import Run, counted
from powermem_cli.errors import UsageError

if TYPE_CHECKING:
    from powermem_cli.trash import Piece

T = TypeVar("T")

app = typer.Typer(
    help="What delete --all took: kept for 30 days, to be brought back.", no_args_is_help=True, rich_markup_mode=None
)


def trash_folder(run: Run) -> Path:
    from powermem_cli.paths import state_folder  # noqa: PLC0415 - `--help` does without

    return state_folder(run.environ) / "trash"


@app.command("list")
@command
def list_(run: Run) -> Exit | None:
    """Show what is in the trash of this store, the last deletion first."""
    pieces: list[Piece] = run.with_store(lambda store: _trash(run, store).pieces())
    rows = [_as_dict(piece) for piece in pieces]
    if run.form == "json":
        run.write_json({"results": rows})
    elif run.form == "jsonl":
        for row in rows:
            run.write_json(row)
    elif rows:
        from powermem_cli.output.cells import moment, write_cells  # noqa: PLC0415

        cells = [(one.name, moment(one.at), f"{one.memories:,}", _whose(one)) for one in pieces]
        write_cells(("name", "when (UTC)", "memories", "of"), cells, run.stdout, run.environ)
    if not rows:
        run.note("the trash of this store is empty")
    return None


@app.command("restore")
@command
def restore(
    run: Run,
    name: Annotated[
        Optional[str], typer.Argument(metavar="[NAME]", help="As trash list shows it; without, the last deletion.")
    ] = None,
) -> Exit | None:
    """Bring back what one deletion took: the same ids, times, history, vectors.

    What is there again already stays as it is.
    """
    from powermem_cli.cli.import_ import tell  # noqa: PLC0415 - `--help` does without

    async def work(store: Any, embedder: Any) -> Any:
        trash = _trash(run, store)
        return await trash.restore(name or await _last(trash), embedder)

    return tell(run, _with_embedder(run, work))


@app.command("empty")
@command
def empty(
    run: Run,
    names: Annotated[
        Optional[list[str]], typer.Argument(metavar="[NAME]...", help="As trash list shows it; without, all of it.")
    ] = None,
) -> Exit | None:
    """Drop what is in the trash of this store, for good."""

    async def work(store: Any) -> list[str] | None:
        trash = _trash(run, store)
        chosen = names or [piece.name for piece in await trash.pieces()]
        if chosen and not run.confirm(f"drop {counted(len(chosen), 'deletion', 'deletions')} for good", chosen):
            return None
        await trash.drop(chosen)
        return chosen

    dropped = run.with_store(work)
    if dropped is None:
        run.note("nothing was dropped")
        return Exit.NEGATIVE
    if run.form != "auto":
        run.write_json({"dropped": dropped})
    else:
        run.note(f"{len(dropped):,} dropped")
    return None


def _trash(run: Run, store: Any) -> Any:
    from powermem_cli.trash import Trash  # noqa: PLC0415 - `--help` does without

    return Trash(trash_folder(run), store)


async def _last(trash: Any) -> str:
    pieces = await trash.pieces()
    if not pieces:
        raise UsageError("the trash of this store is empty", hint="delete --no-trash and --purge put nothing there")
    return str(pieces[0].name)


def _with_embedder(run: Run, work: Callable[[Any, Any], Awaitable[T]]) -> T:
    """Call *work* with the store, opened for the vectors of the embedder, and that."""
    import asyncio  # noqa: PLC0415 - `--help` does without

    from powermem_cli.cli.access import accessing  # noqa: PLC0415
    from powermem_cli.providers import create_embedder  # noqa: PLC0415
    from powermem_cli.stores import create_store  # noqa: PLC0415

    config = accessing(run.settings.config, "write")

    async def main() -> T:
        embedder = create_embedder(config.embedder.provider, config.embedder.options)
        store = create_store(config.vector_store.provider, config.vector_store.options)
        try:
            await store.open(embedder.model)
            return await work(store, embedder)
        finally:
            await store.close()
            await embedder.close()

    return asyncio.run(main())


def _as_dict(piece: Piece) -> dict[str, Any]:
    return {"name": piece.name, "deleted_at": piece.at, "memories": piece.memories, **piece.scope, "bytes": piece.bytes}


def _whose(piece: Piece) -> str:
    return " ".join(f"{name.removesuffix('_id')} {value}" for name, value in piece.scope.items() if value) or "all"
