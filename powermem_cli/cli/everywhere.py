"""The options that every command has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Optional

import typer

from powermem_cli.cli.layout import EVERYWHERE


def _option(*names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=EVERYWHERE, **more)


@dataclass(frozen=True)
class Everywhere:
    """The names are those of `Run.options`."""

    db: Annotated[Optional[str], _option("--db", metavar="PATH|URL", help="The store to work on.")] = None
    env_file: Annotated[Optional[str], _option("--env-file", metavar="PATH", help="Settings instead of ./.env.")] = None
    config: Annotated[Optional[str], _option("--config", metavar="PATH", help="A JSON or TOML file with settings.")] = (
        None
    )
    json_: Annotated[bool, _option("--json", help="One JSON document on stdout.")] = False
    jsonl: Annotated[bool, _option("--jsonl", help="One JSON object per line on stdout.")] = False
    quiet: Annotated[
        int,
        _option("-q", "--quiet", count=True, show_default=False, help="Say nothing on success; -qq: no errors either."),
    ] = 0
    verbose: Annotated[
        int, _option("-v", "--verbose", count=True, show_default=False, help="Say more; -vv: tracebacks too.")
    ] = 0
    log_file: Annotated[
        Optional[str],
        _option(
            "--log-file", metavar="PATH", help="Append what is done, without any text; -vv: every call to a provider."
        ),
    ] = None
    timeout: Annotated[
        Optional[float],
        _option("--timeout", metavar="SECONDS", min=0.001, help="For one call to a provider: 60, an LLM 120."),
    ] = None
    yes: Annotated[bool, _option("-y", "--yes", help="Answer yes to every question.")] = False
