"""powermem list"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Optional

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import Selection
from powermem_cli.cli.session import Run
from powermem_cli.cli.users import note_nothing
from powermem_cli.errors import UsageError

PAGE = 1000


@command
def list_(
    run: Run,
    *,
    selection: Selection,
    limit: Annotated[int, typer.Option("-k", "--limit", metavar="N", min=0, help="At most so many.")] = 50,
    after: Annotated[Optional[str], typer.Option("--after", metavar="ID", help="Go on behind this id.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
) -> Exit | None:
    """Show memories in the order they were added."""
    if after is not None and not after.isdecimal():
        raise UsageError(f"--after takes an id, not {after!r}", hint="the last one that was shown")
    which = {**selection.scope(run), "filters": selection.filters()}

    async def pages(memory: Any) -> AsyncIterator[list[dict[str, Any]]]:
        left, last = (None if all_ else limit), after
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            rows = (await memory.get_all(**which, limit=size, after=last))["results"]
            yield rows
            if len(rows) < size:
                return
            last, left = rows[-1]["id"], None if left is None else left - size
        if last is not None and (await memory.get_all(**which, limit=1, after=last))["results"]:
            run.note(f"there are more; --all shows all, --after {last} goes on from here")

    async def work(memory: Any) -> int:
        number = 0
        gathered: list[dict[str, Any]] = []
        async for rows in pages(memory):
            number += len(rows)
            if run.form == "json":
                gathered += rows
            else:
                run.show(rows)
        if run.form == "json":
            run.show(gathered)
        return number

    if not run.with_memory(work, "read"):
        note_nothing(run, "no memories here", selection.user, selection.where)
    return None
