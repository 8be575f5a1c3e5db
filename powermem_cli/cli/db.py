"""powermem db: the store itself, not what is remembered in it."""

from __future__ import annotations

from typing import Any

import typer

from powermem_cli.cli.exits import Exit
from powermem_cli.cli.session import Run, command, counted
from powermem_cli.errors import ConfigError

app = typer.Typer(
    help="The store itself: whether it holds what was written to it.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("verify")
@command
def verify(run: Run) -> Exit | None:
    """Look for damage: SQLite's own check, tables against each other, each text, vector and word against its checks."""
    import asyncio  # noqa: PLC0415 - `--help` does without

    problems = asyncio.run(_problems(run))
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
    """Build the index that makes searches over very many memories quick: on a server, from 20,000 memories on."""

    async def work(store: Any) -> tuple[bool, dict[str, Any]]:
        return await store.optimize(), await store.describe()

    built, described = run.with_store(work, "write")
    if run.form != "auto":
        run.write_json({"built": built, **described})
    else:
        run.note(f"in use: {', '.join(described['indexes'])}" if built else "no index is needed here")
    return None


async def _problems(run: Run) -> list[str]:
    from powermem_cli.cli.access import accessing  # noqa: PLC0415 - `--help` does without
    from powermem_cli.stores import create_store  # noqa: PLC0415

    choice = accessing(run.settings.config, "read").vector_store
    if choice.provider != "sqlite":
        raise ConfigError(
            f"db verify looks into SQLite stores; this one is {choice.provider}",
            hint="a server checks its own files: ask whoever runs it",
        )
    store: Any = create_store(choice.provider, choice.options)
    await store.open(None)
    try:
        found: list[str] = await store.verify()
        return found
    finally:
        await store.close()
