"""powermem stats: how much is remembered, of whom, since when, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from powermem_cli.cli.command import command
from powermem_cli.cli.options import Selection
from powermem_cli.cli.session import Run, counted
from powermem_cli.cli.users import note_nothing

if TYPE_CHECKING:
    from powermem_cli.providers.base import Usage

SHOWN: Final = 10  # of the users and of the agents; --json has all
NOBODY: Final = "(none)"


@command
def stats(run: Run, *, selection: Selection) -> None:
    """Count memories by user, agent and day; its size, tokens spent."""
    found = _gathered(run, selection)
    if run.form != "auto":
        run.write_json(found)
        return
    _show(run, found)
    if not found["memories"]:
        note_nothing(run, "no memories here", selection.user, selection.where)


def _gathered(run: Run, selection: Selection) -> dict[str, Any]:
    from powermem_cli.accounts import as_json, noted  # noqa: PLC0415 - `--help` does without
    from powermem_cli.paths import state_folder  # noqa: PLC0415

    which = selection.wanted(run)

    async def work(store: Any) -> dict[str, Any]:
        described = await store.describe()
        users, agents, days = [await store.tally(by, which) for by in ("user_id", "agent_id", "day")]
        spent: Mapping[str, Usage] = noted(state_folder(run.environ), await store.identity())
        return {
            "memories": sum(days.values()),
            "users": _named("user_id", users),
            "agents": _named("agent_id", agents),
            "days": [{"day": _date(day), "memories": days[day]} for day in sorted(days)],
            "store": described,
            "spent": as_json(spent),
        }

    return run.with_store(work)


def _named(column: str, numbers: Mapping[Any, int]) -> list[dict[str, Any]]:
    """The most first, ties by name; None, which is nobody, behind all others with as many."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0] is None, item[0] or ""))
    return [{column: name, "memories": number} for name, number in ordered]


def _date(day: int) -> str:
    from powermem_cli.stores.base import DAY  # noqa: PLC0415
    from powermem_cli.times import format_time  # noqa: PLC0415

    return format_time(day * DAY)[:10]


def _show(run: Run, found: Mapping[str, Any]) -> None:
    """Tables and a plot on a terminal; in a pipe, lines of what, of whom and how many with tabs between them."""
    from powermem_cli.output.cells import write_cells  # noqa: PLC0415
    from powermem_cli.output.console import is_terminal  # noqa: PLC0415

    whole = [("memories", "", f"{found['memories']}"), ("bytes", "", found["store"].get("bytes"))]
    tokens = found["spent"]["tokens"]
    whole.append(("tokens", "estimated" if tokens["estimated"] else "", tokens["prompt"] + tokens["completion"]))
    groups = {"user": found["users"], "agent": found["agents"], "day": found["days"]}
    if not is_terminal(run.stdout):
        rows = [(what, *one.values()) for what, ones in groups.items() for one in ones]
        write_cells(("", "", ""), [*whole, *rows], run.stdout, run.environ)
        return
    write_cells(("", ""), _summary(found), run.stdout, run.environ)
    for what in ("user", "agent"):
        rows = [(NOBODY if name is None else name, f"{n:,}") for name, n in (one.values() for one in groups[what])]
        if rows and rows != [(NOBODY, rows[0][1])]:
            print(file=run.stdout)
            write_cells((what, "memories"), rows[:SHOWN], run.stdout, run.environ)
            if len(rows) > SHOWN:
                run.note(f"and {counted(len(rows) - SHOWN, what, what + 's')} more; --json shows all")
    _show_days(run, found["days"])


def _summary(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    store, spent = found["store"], found["spent"]
    rows = [("memories", f"{found['memories']:,}"), ("store", str(store.get("place", "")))]
    if store.get("bytes") is not None:
        rows.append(("size", _size(store["bytes"])))
    if store.get("model"):
        rows.append(("model", f"{store['model']}, {store['dims']} dimensions"))
    if spent["http"]["calls"]:
        rows += [("spent", _spent(spent))]
        rows += [(f"  to {stage}", _spent(one)) for stage, one in spent["stages"].items() if len(spent["stages"]) > 1]
    return rows


def _spent(usage: Mapping[str, Any]) -> str:
    tokens, http = usage["tokens"], usage["http"]
    again = f", {http['retries']:,} of them again" if http["retries"] else ""
    mark = "~" if tokens["estimated"] else ""
    total = tokens["prompt"] + tokens["completion"]
    return f"{mark}{total:,} tokens in {counted(http['calls'], 'call', 'calls')}{again}"


def _size(number: int) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:,.0f} {unit}" if unit == "bytes" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1000  # type: ignore[assignment]
    raise AssertionError


def _show_days(run: Run, days: list[dict[str, Any]]) -> None:
    """From the first day to the last."""
    from powermem_cli.output.console import width_of  # noqa: PLC0415
    from powermem_cli.output.plot import places_per_column, plot  # noqa: PLC0415
    from powermem_cli.output.wrap import wrapped  # noqa: PLC0415
    from powermem_cli.stores.base import DAY  # noqa: PLC0415
    from powermem_cli.times import parse_time  # noqa: PLC0415

    if not days:
        return
    numbers = {parse_time(one["day"]) // DAY: one["memories"] for one in days}
    width = width_of(run.stdout, run.environ) - 1
    lines = plot(numbers, width, run.stdout)
    first, last = days[0]["day"], days[-1]["day"]
    each = places_per_column(numbers, width)
    below = (first if first == last else f"{first} to {last}") + (f", {each} days a column" if each > 1 else "")
    most = max(days, key=lambda one: one["memories"])
    above = f"memories by day (UTC), most on {most['day']}: {most['memories']:,}"
    print("", wrapped(above, width), *lines, wrapped(below, width), sep="\n", file=run.stdout)
