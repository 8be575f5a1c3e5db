"""What Tab offers besides commands and options: users of the store, jobs. Quick, and silent whatever goes wrong."""

from __future__ import annotations

import os
from typing import Any, Final

import typer

MOST: Final = 200  # more than that nobody reads


def complete_user(context: typer.Context, incomplete: str) -> list[str]:
    """Users of a store in a file, which is only read; one on a server is not asked."""
    from powermem_cli.cli.users import users_of  # noqa: PLC0415 - only Tab needs it
    from powermem_cli.config import load_settings  # noqa: PLC0415

    given: dict[str, Any] = context.params
    try:
        settings = load_settings(
            db=given.get("db"), env_file=given.get("env_file"), config_file=given.get("config"), environ=os.environ
        )
        return [name for name in users_of(settings.config) if name.startswith(incomplete)][:MOST]
    except Exception:  # noqa: BLE001 - what is wrong, the command itself says; here it would garble the line
        return []


def complete_job(incomplete: str) -> list[str]:
    from powermem_cli.jobs import all_jobs  # noqa: PLC0415
    from powermem_cli.paths import state_folder  # noqa: PLC0415

    try:
        return [job.name for job in all_jobs(state_folder() / "jobs") if job.name.startswith(incomplete)]
    except Exception:  # noqa: BLE001
        return []
