"""powermem update"""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import Agent, DryRun, User, parse_json
from powermem_cli.cli.session import Run, command


@command
def update(
    run: Run,
    id: Annotated[str, typer.Argument(metavar="ID")],
    text: Annotated[Optional[str], typer.Argument(help="The new text; - reads it from stdin.")] = None,
    metadata: Annotated[Optional[str], typer.Option("--metadata", metavar="JSON", help="Merged, key by key.")] = None,
    user: User = None,
    agent: Agent = None,
    dry_run: DryRun = False,
) -> Exit | None:
    """Change the text of a memory, or its metadata, or both."""
    content = run.stdin.read().rstrip("\n") if text == "-" else text
    merged = parse_json(metadata, "--metadata")

    async def work(memory: Any) -> dict[str, Any] | None:
        found: dict[str, Any] | None
        if not dry_run:
            found = await memory.update(id, content, run.user(user), agent, merged)
            return found
        found = await memory.get(id, run.user(user), agent)
        if found is not None:
            found = {**found, "memory": content or found["memory"], "metadata": {**found["metadata"], **(merged or {})}}
        return found

    row = run.with_memory(work)
    if row is None:
        run.note(f"no memory {id}")
        run.show([])
        return Exit.NEGATIVE
    run.show([row])
    if dry_run:
        run.note("dry run: nothing was changed")
    return None
