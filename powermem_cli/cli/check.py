"""powermem check: is all in order?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit, exit_of
from powermem_cli.cli.options import CALLS
from powermem_cli.cli.session import Run, error_as_json
from powermem_cli.errors import PowerMemError, UsageError

if TYPE_CHECKING:
    from powermem_cli.checkup import Finding

_WORST_FIRST: Final = (Exit.BUG, Exit.STORE, Exit.SETUP, Exit.LATER, Exit.NEGATIVE)


@command
def check(
    run: Run,
    retries: Annotated[
        int,
        typer.Option("--retries", metavar="N", min=1, help="Calls in all, where one fails.", rich_help_panel=CALLS),
    ] = 2,
) -> Exit:
    """See whether all is in order: settings, providers, store, disk.

    It makes one call to each provider; also looked at: keys, permissions of files, running jobs, and which powermem
    Python imports.
    """
    import asyncio  # noqa: PLC0415 - `--help` does without

    from powermem_cli.output.cells import write_cells  # noqa: PLC0415

    run.calling(retries=retries)
    findings = [_settings(run), *asyncio.run(_asked(run)), *_looked_at(run)]
    code = _exit_code(findings)
    if run.form == "auto":
        for finding in findings:
            if finding.error is not None and finding.error.hint:
                run.note(f"{finding.subject}: {finding.error.hint}")
        rows = [(finding.subject, finding.state, finding.said) for finding in findings]
        write_cells(("", "", ""), rows, run.stdout, run.environ)
    else:
        run.write_json({"type": "check", "results": [_as_json(finding) for finding in findings], "exit_code": code})
    return code


async def _asked(run: Run) -> list[Finding]:
    import asyncio  # noqa: PLC0415

    from powermem_cli.checkup import check_embedder, check_llm, check_reranker, check_store  # noqa: PLC0415

    config = run.settings.config
    asked = await asyncio.gather(check_embedder(config), check_llm(config), check_reranker(config))
    return [*asked, await check_store(config, asked[0].details.get("dims"))]


def _looked_at(run: Run) -> list[Finding]:
    from powermem_cli.checkup import check_disk, check_permissions, check_python  # noqa: PLC0415
    from powermem_cli.paths import state_folder  # noqa: PLC0415

    config = run.settings.config
    folders = {"jobs": state_folder(run.environ)}
    if config.vector_store.provider == "sqlite":
        folders["the store"] = Path(config.vector_store.options["path"]).parent
    return [
        check_permissions(config),
        check_disk(folders),
        _jobs(state_folder(run.environ) / "jobs"),
        check_python(),
    ]


def _settings(run: Run) -> Finding:
    """Who is asked, with which key, and where that was said."""
    from powermem_cli.checkup import Finding  # noqa: PLC0415

    settings = run.settings
    named = {setting.name: setting.value for setting in settings.shown}
    wanted = ("provider", "model", "base_url", "api_key")
    parts = [f"{name}={value}" for name, value in named.items() if name.rpartition(".")[2] in wanted]
    said = ", ".join([*parts, *settings.warnings])
    return Finding("settings", "warning" if settings.warnings else "ok", said, named)


def _jobs(folder: Path) -> Finding:
    from powermem_cli.checkup import Finding  # noqa: PLC0415
    from powermem_cli.jobs import all_jobs  # noqa: PLC0415

    try:
        running = {job.name: job.holder for job in all_jobs(folder) if job.holder is not None}
    except PowerMemError as error:
        return Finding("jobs", "failed", error.message, {}, error)
    said = "; ".join(f"{name} is run by {holder}" for name, holder in running.items())
    return Finding("jobs", "ok", said or "none is running", running)


def _exit_code(findings: Sequence[Finding]) -> Exit:
    """A missing key is no wrong command: it is for a person to set."""
    codes = {
        Exit.SETUP if isinstance(finding.error, UsageError) else exit_of(finding.error)
        for finding in findings
        if finding.error is not None
    }
    return next((code for code in _WORST_FIRST if code in codes), Exit.DONE)


def _as_json(finding: Finding) -> dict[str, Any]:
    shown: dict[str, Any] = {"subject": finding.subject, "state": finding.state, "said": finding.said}
    if finding.details:
        shown["details"] = dict(finding.details)
    if finding.error is not None:
        shown["error"] = error_as_json(finding.error)
    return shown
