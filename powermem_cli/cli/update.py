"""powermem update"""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import Agent, DryRun, User, parse_json, text_of
from powermem_cli.cli.session import Run, command
from powermem_cli.errors import UsageError


@command
def update(
    run: Run,
    id: Annotated[str, typer.Argument(metavar="ID")],
    text: Annotated[
        Optional[str], typer.Argument(metavar="[TEXT]", help="The new text; - reads it from stdin.")
    ] = None,
    metadata: Annotated[Optional[str], typer.Option("--metadata", metavar="JSON", help="Merged, key by key.")] = None,
    user: User = None,
    agent: Agent = None,
    dry_run: DryRun = False,
) -> Exit | None:
    """Change the text of a memory, or its metadata, or both."""
    from powermem_cli.rules import check_metadata, check_text  # noqa: PLC0415 - `--help` does without

    content = text_of(run.stdin).rstrip("\n") if text == "-" else text
    merged = parse_json(metadata, "--metadata")
    if content is None and merged is None:
        raise UsageError(
            "what shall be changed?", hint='powermem update ID "the new text", or --metadata JSON, or both'
        )
    if content is not None:
        check_text(content, "the text")
    check_metadata(merged)

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
        run.show_done([], {"results": [], "not_found": [id]})
        return Exit.NEGATIVE
    run.show_done([row])
    if dry_run:
        run.note("dry run: nothing was changed")
    return None
