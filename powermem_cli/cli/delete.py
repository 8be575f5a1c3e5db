"""powermem delete"""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import Agent, DryRun, IdFile, RunId, User, given_ids
from powermem_cli.cli.session import Run, command, counted
from powermem_cli.errors import UsageError
from powermem_cli.output.safe import safe

SAMPLES = 3
LONGEST = 70  # characters of a sample


@command
def delete(
    run: Run,
    ids: Annotated[
        Optional[list[str]], typer.Argument(metavar="[ID]...", help="One or more ids; - reads them from stdin.")
    ] = None,
    file: IdFile = None,
    all_: Annotated[bool, typer.Option("--all", help="Every memory of the scope that is named.")] = False,
    user: User = None,
    agent: Agent = None,
    run_id: RunId = None,
    dry_run: DryRun = False,
) -> Exit | None:
    """Forget memories, for good: by their ids, or all of a scope."""
    if all_:
        if ids or file:
            raise UsageError("--all and ids exclude each other")
        return _delete_all(run, {"user_id": run.user(user), "agent_id": agent, "run_id": run_id}, dry_run)
    if run_id is not None:
        raise UsageError("--run goes with --all")
    return _delete_ids(run, given_ids(ids, file, run.stdin), run.user(user), agent, dry_run)


def _delete_ids(run: Run, wanted: list[str], user: str | None, agent: str | None, dry_run: bool) -> Exit | None:
    import asyncio  # noqa: PLC0415 - `--help` does without

    async def work(memory: Any) -> list[bool]:
        if dry_run:
            return [await memory.get(id, user, agent) is not None for id in wanted]
        # All at once: they share transactions.
        done: list[bool] = await asyncio.gather(*(memory.delete(id, user, agent) for id in wanted))
        return done

    done = run.with_memory(work, "write")
    deleted = [id for id, found in zip(wanted, done, strict=True) if found]
    missing = [id for id, found in zip(wanted, done, strict=True) if not found]
    _report(run, len(deleted), dry_run, {"ids": deleted, "not_found": missing})
    for id in missing:
        run.note(f"no memory {id}")
    return Exit.NEGATIVE if missing else None


def _delete_all(run: Run, scope: dict[str, str | None], dry_run: bool) -> Exit | None:
    named = " ".join(f"{name}={value!r}" for name, value in scope.items() if value is not None) or "the whole store"

    async def work(memory: Any) -> tuple[int, bool]:
        number = await memory.count(**scope)
        if dry_run or not number:
            return number, True
        samples = (await memory.get_all(**scope, limit=SAMPLES))["results"]
        shown = [safe(row["memory"], single_line=True)[:LONGEST] for row in samples]
        if not run.confirm(f"forget {counted(number, 'memory', 'memories')} of {named}", [*shown, "…"][:number]):
            return 0, False
        return int((await memory.delete_all(**scope))["deleted"]), True

    number, agreed = run.with_memory(work, "write")
    if not agreed:
        run.note("nothing was deleted")
        return Exit.NEGATIVE
    _report(run, number, dry_run, {})
    return None


def _report(run: Run, number: int, dry_run: bool, more: dict[str, Any]) -> None:
    if run.form != "auto":
        run.write_json({"deleted": 0 if dry_run else number, "dry_run": dry_run, **more})
    else:
        run.note(f"{number:,} would be deleted (dry run)" if dry_run else f"{number:,} deleted")
