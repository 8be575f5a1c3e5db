"""The program: its list of commands, and what happens around every one of them."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import typer

import powermem_cli
from powermem_cli.cli.command import failed_before, with_global_options
from powermem_cli.cli.exits import Exit, die_of_a_closed_pipe, let_go
from powermem_cli.cli.layout import Command, Group

# The front page shows this without loading the commands; each says the same of itself.
PANELS: Final = {
    "Memories": {
        "add": "Remember one text, or every record of files and pipes.",
        "search": "Find the memories that answer a question.",
        "get": "Show memories by their ids.",
        "list": "Show memories in the order they were added.",
        "update": "Change the text of a memory, or its metadata, or both.",
        "delete": "Forget memories: by their ids, or all of a scope.",
        "trash": "What delete --all took: kept for 30 days, to be brought back.",
        "history": "Show what a memory said before, and what became of it.",
    },
    "Moving in and out": {
        "export": "Write memories to a file, as they are at one moment.",
        "import": "Take in what export wrote: the same ids, times, history.",
    },
    "Looking after it": {
        "jobs": "Past and unfinished batches, and their failed records.",
        "check": "See whether all is in order: settings, providers, store, disk.",
        "db": "The store itself: copies of it, damage, other vectors.",
        "stats": "Count memories by user, agent and day; its size, tokens spent.",
    },
    "Settings, agents, help": {
        "config": "Settings: write them, see where each comes from, check them.",
        "mcp": "Serve memories to an agent over MCP, on stdin and stdout.",
        "help": "Explain exit-codes, env, formats, errors, filters or the api.",
    },
}
COMMANDS: Final = tuple(name for names in PANELS.values() for name in names)
MODULES: Final = {"list": "list_", "import": "import_"}  # where the name is one of Python's own


class FrontDoor(Group):
    """The commands in the order of PANELS, whether or not they have commands of their own."""

    panels = PANELS

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=COMMANDS.index)


def build(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """The Typer app with those commands: one command does not wait for the others to load."""
    app = typer.Typer(
        name="powermem",
        help="Memory for AI agents: add what was said, search it later. Works with no key and no network.",
        cls=FrontDoor,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in names:
        module: Any = importlib.import_module(f"powermem_cli.cli.{MODULES.get(name, name)}")
        if hasattr(module, "app"):  # a command with commands of its own
            for one in module.app.registered_commands:
                one.cls = Command
            app.add_typer(module.app, name=name, cls=Group)
        else:
            app.command(name, cls=Command)(getattr(module, MODULES.get(name, name)))
    return app


def _version(value: bool) -> None:
    if value:
        print(f"powermem {powermem_cli.__version__}")  # noqa: T201
        raise typer.Exit


@with_global_options
def _options(
    _version_option: bool = typer.Option(
        False, "-V", "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Memory for AI agents: add what was said, search it later. Works with no key and no network."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit with its code."""
    os.umask(0o077)
    # Reader, engine and database work on threads of their own: at the default of 5 ms each hand-over costs more than
    # the work it hands over.
    sys.setswitchinterval(0.0005)
    # Records in flight are many small values without cycles: looking through them every 700 finds nothing.
    gc.set_threshold(50_000, 20, 20)
    given = list(sys.argv[1:] if arguments is None else arguments)
    _open_closed_streams()
    try:
        raise SystemExit(_exit_code(given))
    except BrokenPipeError:
        die_of_a_closed_pipe()
    finally:
        let_go(sys.stderr)


def _exit_code(given: Sequence[str]) -> int:
    try:
        code = int(build(_needed(given))(args=given, prog_name="powermem", standalone_mode=False) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except (typer.TyperException, OSError) as error:
        if given and type(error).__name__ != "NoArgsIsHelpError":
            return failed_before(error, given)
        print(error, file=sys.stderr)  # noqa: T201 - it is the help
        return Exit.USAGE


def _needed(arguments: Sequence[str]) -> Sequence[str]:
    """All of them where options stand in front: only the parser knows which word is the command then."""
    if "_POWERMEM_COMPLETE" in os.environ:
        return COMMANDS
    if not arguments or arguments[0] in {"-V", "--version", "-h", "--help"}:
        return ()
    return arguments[:1] if arguments[0] in COMMANDS else COMMANDS


def _open_closed_streams() -> None:
    """After `<&-` nothing is read; after `>&-` whoever writes is told, and no database gets the number of a stream."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - open to the end
