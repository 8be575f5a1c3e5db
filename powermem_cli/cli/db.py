"""powermem db: the store itself, not what is remembered in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.session import Run, counted
from powermem_cli.errors import ConfigError

T = TypeVar("T")

app = typer.Typer(
    help="The store itself: copies of it, damage, other vectors.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("verify")
@command
def verify(run: Run) -> Exit | None:
    """Look for damage in the file, the tables, each text, vector and word.

    That is SQLite's own check, tables against each other, each text against its digest, and so on.
    """
    import asyncio  # noqa: PLC0415 - `--help` does without

    elsewhere = "a server checks its own files: ask whoever runs it"
    store = _file_store(run, "db verify looks into SQLite stores", elsewhere, "read")
    problems = asyncio.run(_opened(store, store.verify))
    if run.form != "auto":
        run.write_json({"ok": not problems, "problems": problems})
        return Exit.STORE if problems else None
    for problem in problems:
        run.say(problem)
    if problems:
        run.say(
            f"{counted(len(problems), 'problem', 'problems')}: restore a backup; what is still readable, list shows"
        )
        return Exit.STORE
    run.note("nothing is wrong")
    return None


@app.command("backup")
@command
def backup(
    run: Run,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where the copy goes; not there until it is whole.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file of that name.")] = False,
) -> Exit | None:
    """Copy the store to a file, while others may write to it.

    The copy is the store as it was at one moment, and is looked through before it gets its name.
    """
    import asyncio  # noqa: PLC0415 - `--help` does without
    from pathlib import Path  # noqa: PLC0415

    from powermem_cli.stores.sqlite_backup import back_up  # noqa: PLC0415

    elsewhere = "use the server's own tool, or write an export: powermem export --vectors -o FILE"
    store = _file_store(run, "db backup copies SQLite stores", elsewhere, "read")
    size = asyncio.run(_opened(store, lambda: back_up(store, Path(file), replace=force)))
    if run.form != "auto":
        run.write_json({"output": file, "bytes": size})
    else:
        run.note(f"{file}: {size:,} bytes, looked through and sound")
    return None


@app.command("reembed")
@command
def reembed(run: Run) -> Exit | None:
    """Make new vectors for all memories, after a change of the embedder in the settings.

    Searches go on meanwhile, by the old vectors and with the old settings; at the end all are replaced at once. A run
    that was stopped is gone on with.
    """
    import asyncio  # noqa: PLC0415 - `--help` does without

    elsewhere = "powermem export -o all.jsonl, then import it into another collection: vectors are made anew there"
    store = _file_store(run, "db reembed works on SQLite stores", elsewhere, "write")
    done = asyncio.run(_opened(store, lambda: _reembedded(run, store)))
    if run.form != "auto":
        run.write_json(vars(done))
        return None
    if done.was is None or done.was == done.model:
        run.note("there are no vectors yet" if done.was is None else f"nothing to do: all vectors are of {done.model}")
        return None
    run.note(f"{done.made + done.kept:,} vectors of {done.model}, instead of {done.was}")
    if done.refused:
        run.say(f"{done.refused:,} texts are not taken by it, and are found by their words alone")
    return None


async def _reembedded(run: Run, store: Any) -> Any:
    from powermem_cli.output.progress import progress_for  # noqa: PLC0415 - `--help` does without
    from powermem_cli.providers import create_embedder  # noqa: PLC0415
    from powermem_cli.reembed import reembed as carry_out  # noqa: PLC0415
    from powermem_cli.stores.base import EVERYTHING  # noqa: PLC0415

    choice = run.settings.config.embedder
    embedder = create_embedder(choice.provider, choice.options)
    progress = progress_for("none" if run.quiet else "auto", run.stderr, run.environ)
    progress.start(await store.count(EVERYTHING), embedder.model)
    try:
        return await carry_out(
            store, embedder, lambda done: progress.update(done.made + done.kept, {"added": done.made})
        )
    finally:
        progress.finish()
        await embedder.close()


@app.command("expire")
@command
def expire(run: Run) -> Exit | None:
    """Delete what has expired, for good; it is not found any more in any case."""

    async def work(store: Any) -> int:
        return int(await store.expire())

    number = run.with_store(work, "write")
    if run.form != "auto":
        run.write_json({"deleted": number})
    else:
        run.note(f"{counted(number, 'memory', 'memories')} had expired and {'is' if number == 1 else 'are'} deleted")
    return None


@app.command("optimize")
@command
def optimize(run: Run) -> Exit | None:
    """Build the index for searches over very many memories.

    On a server, from 20,000 memories on.
    """

    async def work(store: Any) -> tuple[bool, dict[str, Any]]:
        return await store.optimize(), await store.describe()

    built, described = run.with_store(work, "write")
    if run.form != "auto":
        run.write_json({"built": built, **described})
    else:
        run.note(f"in use: {', '.join(described['indexes'])}" if built else "no index is needed here")
    return None


async def _opened(store: Any, work: Callable[[], Awaitable[T]]) -> T:
    await store.open(None)
    try:
        return await work()
    finally:
        await store.close()


def _file_store(run: Run, what: str, elsewhere: str, access: str) -> Any:
    """The store, which is one in a file; not opened yet. Raises ConfigError for one on a server."""
    from powermem_cli.cli.access import accessing  # noqa: PLC0415 - `--help` does without
    from powermem_cli.stores import create_store  # noqa: PLC0415

    choice = accessing(run.settings.config, access).vector_store
    if choice.provider != "sqlite":
        raise ConfigError(f"{what}; this one is {choice.provider}", hint=elsewhere)
    return create_store(choice.provider, choice.options)
