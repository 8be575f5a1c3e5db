"""powermem update"""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import Agent, DryRun, IdFile, Retries, User, given_ids, parse_json, text_of
from powermem_cli.cli.session import Run
from powermem_cli.errors import UsageError


@command
def update(
    run: Run,
    id: Annotated[
        Optional[str], typer.Argument(metavar="[ID]", help="Of one memory; - reads ids of many from stdin.")
    ] = None,
    text: Annotated[
        Optional[str], typer.Argument(metavar="[TEXT]", help="The new text; - reads it from stdin.")
    ] = None,
    file: IdFile = None,
    metadata: Annotated[Optional[str], typer.Option("--metadata", metavar="JSON", help="Merged, key by key.")] = None,
    user: User = None,
    agent: Agent = None,
    retries: Retries = None,
    dry_run: DryRun = False,
) -> Exit | None:
    """Change the text of a memory, or its metadata, or both.

    Of many memories, the metadata alone.
    """
    run.calling(retries=retries)
    import asyncio  # noqa: PLC0415 - `--help` does without

    if (file is not None and id is not None) or (id == "-" and text is not None):
        raise UsageError("one text for many memories is none", hint="with many ids, give --metadata alone")
    content = text_of(run.stdin).rstrip("\n") if text == "-" else text
    merged = parse_json(metadata, "--metadata")
    _check(content, merged)
    wanted = given_ids([] if id is None else [id], file, run.stdin)
    whose = (run.user(user), agent)

    async def changed(memory: Any, one: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None
        if not dry_run:
            found = await memory.update(one, content, *whose, merged)
            return found
        found = await memory.get(one, *whose)
        if found is not None:
            found = {**found, "memory": content or found["memory"], "metadata": {**found["metadata"], **(merged or {})}}
        return found

    async def work(memory: Any) -> list[dict[str, Any] | None]:
        return await asyncio.gather(*(changed(memory, one) for one in wanted))

    rows = run.with_memory(work, "read" if dry_run else "write")
    found = [row for row in rows if row is not None]
    missing = [one for one, row in zip(wanted, rows, strict=True) if row is None]
    run.show_done(found, {"results": found, "not_found": missing})
    for one in missing:
        run.note(f"no memory {one}")
    if dry_run:
        run.note("dry run: nothing was changed")
    return Exit.NEGATIVE if missing else None


def _check(content: str | None, metadata: Any) -> None:
    from powermem_cli.rules import check_metadata, check_text  # noqa: PLC0415 - `--help` does without

    if content is None and metadata is None:
        raise UsageError(
            "what shall be changed?", hint='powermem update ID "the new text", or --metadata JSON, or both'
        )
    if content is not None:
        check_text(content, "the text")
    check_metadata(metadata)
