"""powermem mcp"""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.options import Agent, RunId, User
from powermem_cli.cli.session import Run
from powermem_cli.errors import ConfigError, UsageError


@command
def mcp(
    run: Run,
    user: User = None,
    agent: Agent = None,
    run_id: RunId = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Only search, list and get.")] = False,
) -> None:
    """Serve memories to an agent over MCP, on stdin and stdout.

    Those of the user, agent or run that is named here, no others.
    """
    from powermem_cli.mcp_server import MemoryTools, serve  # noqa: PLC0415 - `--help` does without
    from powermem_cli.rules import check_scope  # noqa: PLC0415

    if importlib.util.find_spec("mcp") is None:
        raise ConfigError(
            "powermem mcp needs the Python package 'mcp', which is not installed",
            hint='pip install "powermem-cli[mcp]"',
            code="config.extra",
        )
    scope = check_scope(run.user(user), agent, run_id)
    if scope.user_id is scope.agent_id is scope.run_id is None:
        raise UsageError("whose memories may the agent see?", hint="name them: --user, --agent or --run")
    if run.stdin.isatty():
        run.note("an agent's program starts this and speaks with it; nobody types here. Ctrl-C ends it")

    async def work(memory: Any) -> None:
        await serve(MemoryTools(memory, scope, read_only=read_only))

    run.with_memory(work, "read" if read_only else "create")
