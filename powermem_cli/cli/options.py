"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from powermem_cli.cli.completion import complete_user
from powermem_cli.errors import UsageError

if TYPE_CHECKING:
    from powermem_cli.cli.session import Run
    from powermem_cli.stores.base import Where as StoreWhere

SCOPE: Final = "Scope and filters"
CALLS: Final = "Calls to providers"
"""Headings in `--help`."""

User = Annotated[
    Optional[str],
    typer.Option(
        *("-u", "--user", "--user-id"),
        metavar="ID",
        help="Whose memories.",
        autocompletion=complete_user,
        rich_help_panel=SCOPE,
    ),
]
Agent = Annotated[
    Optional[str],
    typer.Option("-a", "--agent", "--agent-id", metavar="ID", help="Of which agent.", rich_help_panel=SCOPE),
]
RunId = Annotated[
    Optional[str],
    typer.Option("-r", "--run", "--run-id", metavar="ID", help="Of which run or session.", rich_help_panel=SCOPE),
]
Where = Annotated[
    Optional[list[str]],
    typer.Option("--where", metavar="KEY=VALUE", help="With this metadata (may be repeated).", rich_help_panel=SCOPE),
]
FilterJson = Annotated[
    Optional[str],
    typer.Option(
        "--filter", metavar="JSON", help='As {"year": {"gte": 2024}}: powermem help filters.', rich_help_panel=SCOPE
    ),
]
Since = Annotated[
    Optional[str],
    typer.Option("--since", metavar="WHEN", help="Not older: 7d, 12h, 2026-03-01, RFC 3339.", rich_help_panel=SCOPE),
]
Until = Annotated[
    Optional[str],
    typer.Option(
        "--until", metavar="WHEN", help="Not newer; a day is meant with all its hours.", rich_help_panel=SCOPE
    ),
]
Concurrency = Annotated[
    str,
    typer.Option(
        "-c", "--concurrency", metavar="N|auto", help="Under way at once; auto: 4 to 32.", rich_help_panel=CALLS
    ),
]
Rpm = Annotated[
    Optional[float],
    typer.Option("--rpm", metavar="N", min=0.001, help="At most so many calls a minute.", rich_help_panel=CALLS),
]
Tpm = Annotated[
    Optional[float],
    typer.Option("--tpm", metavar="N", min=0.001, help="At most so many tokens a minute.", rich_help_panel=CALLS),
]
Retries = Annotated[
    Optional[int],
    typer.Option(
        "--retries", metavar="N", min=1, help="Calls in all where one fails for now; without, 6.", rich_help_panel=CALLS
    ),
]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Say what would be done, and do nothing.")]
IdFile = Annotated[
    Optional[str], typer.Option("-f", "--file", metavar="PATH", help="Ids from a file, one per line; - is stdin.")
]


@dataclass(frozen=True)
class Selection:
    """Which memories: whose, and under which filters."""

    user: User = None
    agent: Agent = None
    run_id: RunId = None
    where: Where = None
    filter_json: FilterJson = None
    since: Since = None
    until: Until = None

    def scope(self, run: Run) -> dict[str, str | None]:
        return {"user_id": run.user(self.user), "agent_id": self.agent, "run_id": self.run_id}

    def filters(self) -> dict[str, Any] | None:
        """Those of the API. Raises UsageError."""
        return parse_filters(self.where, self.filter_json, self.since, self.until)

    def wanted(self, run: Run) -> StoreWhere:
        """The same for a store. Raises UsageError, InvalidInput."""
        from powermem_cli.filters import parse_filter  # noqa: PLC0415 - `--help` does without
        from powermem_cli.rules import check_scope  # noqa: PLC0415
        from powermem_cli.stores.base import Where as StoreWhere  # noqa: PLC0415

        return StoreWhere(check_scope(**self.scope(run)), parse_filter(self.filters()))


@dataclass(frozen=True)
class Pace:
    """How often providers are called."""

    rpm: Rpm = None
    tpm: Tpm = None
    retries: Retries = None

    def limits(self) -> dict[str, float | None]:
        return {"rpm": self.rpm, "tpm": self.tpm, "retries": self.retries}


def parse_concurrency(text: str) -> int | None:
    """None for auto. Raises UsageError."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"--concurrency takes a number from 1 up, or auto, not {text!r}")
    return int(text)


def parse_json(text: str | None, option: str) -> Any:
    """The value of an option that takes JSON; None if it was not given. Raises UsageError."""
    if text is None:
        return None
    import json  # noqa: PLC0415 - `--help` does without

    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{option} is not valid JSON: {error}", hint=f"""for example {option} '{{"topic": "food"}}'"""
        ) from None


def parse_filters(
    where: list[str] | None, filter_json: str | None, since: str | None = None, until: str | None = None
) -> dict[str, Any] | None:
    """--where, --filter, --since and --until together, as the filters of the API. Raises UsageError."""
    parts: list[dict[str, Any]] = []
    for pair in where or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--where takes KEY=VALUE, not {pair!r}")
        # A shell has no types: 3 may have been stored as a number or as text.
        values: list[Any] = [value, *_as_json_scalar(value)]
        parts.append({name: {"in": values}})
    if filter_json is not None:
        given = parse_json(filter_json, "--filter")
        if not isinstance(given, dict):
            raise UsageError("--filter takes a JSON object")
        parts.append(given)
    if created := {**_moment("gte", since, "--since"), **_moment("lt", until, "--until")}:
        parts.append({"created_at": created})
    return None if not parts else parts[0] if len(parts) == 1 else {"AND": parts}


def _moment(operator: str, text: str | None, option: str) -> dict[str, str]:
    if text is None:
        return {}
    from powermem_cli.times import format_time, parse_moment  # noqa: PLC0415

    try:
        return {operator: format_time(parse_moment(text, end=option == "--until"))}
    except ValueError as error:
        raise UsageError(
            f"{option}: {str(error).partition(': write')[0]}", hint="7d, 12h, 2026-03-01 or 2026-03-01T09:30:00Z"
        ) from None


def _as_json_scalar(text: str) -> list[Any]:
    import json  # noqa: PLC0415

    try:
        value = json.loads(text)
    except ValueError:
        return []
    return [] if isinstance(value, (str, list, dict)) else [value]


def text_of(stdin: Any) -> str:
    """All that a pipe holds: UTF-8, whatever the locale. Raises UsageError."""
    try:
        return str(stdin.buffer.read(), "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the standard input is not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise UsageError(f"the standard input can't be read: {error.strerror}") from error


def given_ids(ids: list[str] | None, file: str | None, stdin: Any) -> list[str]:
    """Ids from the command line and from a file or stdin, each once, in order. Raises UsageError."""
    found = list(ids or [])
    source = "-" if file is None and found == ["-"] else file
    if source == "-":
        found = [] if found == ["-"] else found
        found += text_of(stdin).split()
    elif source is not None:
        try:
            with open(source, encoding="utf-8-sig") as lines:  # noqa: PTH123
                found += lines.read().split()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 at byte {error.start}"
            raise UsageError(f"{source} can't be read: {reason}") from error
    if not found:
        raise UsageError("no id was given", hint="powermem list shows them")
    return list(dict.fromkeys(found))
