"""powermem history"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import Agent, User
from powermem_cli.cli.session import Run


@command
def history(
    run: Run,
    id: Annotated[str, typer.Argument(metavar="ID", help="Of a memory, which may have been deleted since.")],
    user: User = None,
    agent: Agent = None,
) -> Exit | None:
    """Show what a memory said before, and what became of it."""

    async def work(memory: Any) -> dict[str, Any]:
        found: dict[str, Any] = await memory.history(id, run.user(user), agent)
        return found

    entries = run.with_memory(work, "read")["results"]
    if run.form == "json":
        run.write_json({"results": entries})
    elif run.form == "jsonl":
        for entry in entries:
            run.write_json(entry)
    elif entries:
        from powermem_cli.output.cells import moment, write_cells  # noqa: PLC0415 - `--help` does without

        rows = [(moment(one["at"]), one["event"], one["memory"] or one["old_memory"], _source(one)) for one in entries]
        write_cells(("when (UTC)", "event", "memory", "from"), rows, run.stdout, run.environ)
    if not entries:
        run.note(f"no memory {id}")
    return None if entries else Exit.NEGATIVE


def _source(entry: dict[str, Any]) -> str:
    """As editors and compilers write a place."""
    source = entry.get("source", {})
    return ":".join(str(source[name]) for name in ("file", "line") if name in source)
