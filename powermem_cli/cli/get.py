"""powermem get"""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import Agent, IdFile, User, given_ids
from powermem_cli.cli.session import Run


@command
def get(
    run: Run,
    ids: Annotated[
        Optional[list[str]], typer.Argument(metavar="[ID]...", help="One or more ids; - reads them from stdin.")
    ] = None,
    file: IdFile = None,
    user: User = None,
    agent: Agent = None,
) -> Exit | None:
    """Show memories by their ids."""
    wanted = given_ids(ids, file, run.stdin)

    async def work(memory: Any) -> list[dict[str, Any] | None]:
        return [await memory.get(id, run.user(user), agent) for id in wanted]

    rows = run.with_memory(work, "read")
    found = [row for row in rows if row is not None]
    missing = [id for id, row in zip(wanted, rows, strict=True) if row is None]
    run.show(found, {"results": found, "not_found": missing})
    for id in missing:
        run.note(f"no memory {id}")
    return Exit.NEGATIVE if missing else None
