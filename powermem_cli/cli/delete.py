"""powermem delete"""

from __future__ import annotations

from typing import Annotated, Any, Final, Optional

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import DryRun, IdFile, Selection, given_ids
from powermem_cli.cli.session import Run, counted
from powermem_cli.cli.trash import trash_folder
from powermem_cli.cli.users import note_nothing
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
    *,
    selection: Selection,
    dry_run: DryRun = False,
    no_trash: Annotated[bool, typer.Option("--no-trash", help="With --all: for good, nothing to bring back.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="With --all: for good, with all traces, in history and trash too.")
    ] = False,
) -> Exit | None:
    """Forget memories: by their ids, or all of a scope.

    What --all deletes is kept in the trash for 30 days: powermem trash restore.
    """
    filtered = selection.filters() is not None
    if all_:
        if ids or file:
            raise UsageError("--all and ids exclude each other")
        if purge and filtered:
            raise UsageError("--purge goes with a whole scope: leave out the filters")
        way = "purge" if purge else "for good" if no_trash else "to trash"
        return _delete_all(run, selection, dry_run, way)
    if selection.run_id is not None or filtered or no_trash or purge:
        raise UsageError("--run, filters, --no-trash and --purge go with --all")
    return _delete_ids(run, given_ids(ids, file, run.stdin), run.user(selection.user), selection.agent, dry_run)


def _delete_ids(run: Run, wanted: list[str], user: str | None, agent: str | None, dry_run: bool) -> Exit | None:
    import asyncio  # noqa: PLC0415 - `--help` does without

    async def work(memory: Any) -> list[bool]:
        if dry_run:
            return [await memory.get(id, user, agent) is not None for id in wanted]
        # All at once: they share transactions.
        done: list[bool] = await asyncio.gather(*(memory.delete(id, user, agent) for id in wanted))
        return done

    done = run.with_memory(work, "read" if dry_run else "write")
    deleted = [id for id, found in zip(wanted, done, strict=True) if found]
    missing = [id for id, found in zip(wanted, done, strict=True) if not found]
    _report(run, len(deleted), dry_run, {"ids": deleted, "not_found": missing})
    for id in missing:
        run.note(f"no memory {id}")
    return Exit.NEGATIVE if missing else None


def _delete_all(run: Run, selection: Selection, dry_run: bool, way: str) -> Exit | None:
    wanted = selection.wanted(run)

    async def work(store: Any) -> Any:
        from powermem_cli.trash import Deleted  # noqa: PLC0415 - `--help` does without

        number = await store.count(wanted)
        if dry_run or (not number and way != "purge"):
            return Deleted(None, number, 0)
        if not await _agreed(run, store, wanted, number, way):
            return None
        return await _carry_out(run, store, wanted, way)

    deleted = run.with_store(work, "read" if dry_run else "write")
    if deleted is None:
        run.note("nothing was deleted")
        return Exit.NEGATIVE
    more = {"left": deleted.left, "trash": deleted.name}
    _report(run, deleted.number, dry_run, {} if dry_run else more)
    if not deleted.number and not deleted.left:
        note_nothing(run, "no memories here", selection.user, selection.where)
    return None


async def _agreed(run: Run, store: Any, wanted: Any, number: int, way: str) -> bool:
    samples = [safe(row.text, single_line=True)[:LONGEST] for row in await store.find(wanted, limit=SAMPLES)]
    whose = " ".join(f"{name}={value!r}" for name, value in wanted.scope._asdict().items() if value is not None)
    named = f"{whose or 'the whole store'}{'' if wanted.filter is None else ', filtered'}"
    what = f"forget {counted(number, 'memory', 'memories')} of {named}{_HOW[way]}"
    return run.confirm(what, [*samples, "..."][:number])


_HOW: Final = {"purge": ", with every trace and for good", "for good": ", for good", "to trash": ""}


async def _carry_out(run: Run, store: Any, wanted: Any, way: str) -> Any:
    from powermem_cli.trash import Deleted, Trash  # noqa: PLC0415 - `--help` does without

    trash = Trash(trash_folder(run), store)
    if way == "to trash":
        return await trash.delete(wanted)
    if way == "for good":
        return Deleted(None, await store.delete(wanted), 0)
    number = await trash.purge(wanted.scope)
    if hasattr(store, "scrub"):  # a server reuses the room of its rows by itself
        await store.scrub()
    return Deleted(None, number, 0)


def _report(run: Run, number: int, dry_run: bool, more: dict[str, Any]) -> None:
    if run.form != "auto":
        run.write_json({"deleted": 0 if dry_run else number, "dry_run": dry_run, **more})
    else:
        run.note(f"{number:,} would be deleted (dry run)" if dry_run else f"{number:,} deleted")
        if more.get("left"):
            run.note(f"{more['left']:,} were changed meanwhile, and are left")
        if more.get("trash"):
            run.note(f"to bring them back: powermem trash restore {more['trash']}")
