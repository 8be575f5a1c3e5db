"""One run of the program: its options, its streams, the opened memory, and the way from an error to an exit code."""

from __future__ import annotations

import errno
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TextIO, TypeVar

import typer

from powermem_cli.cli.exits import Exit, die_of_a_closed_pipe, exit_of, let_go
from powermem_cli.errors import InvariantError, PowerMemError, StoreError, UsageError
from powermem_cli.output.safe import safe

T = TypeVar("T")

Form = Literal["auto", "json", "jsonl"]

PANEL = "Every command"

_UNWRITABLE = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}


def global_options(
    db: Annotated[
        str | None, typer.Option("--db", metavar="PATH|URL", help="The store to work on.", rich_help_panel=PANEL)
    ] = None,
    env_file: Annotated[
        str | None,
        typer.Option("--env-file", metavar="PATH", help="Settings instead of ./.env.", rich_help_panel=PANEL),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="PATH", help="A JSON or TOML file with settings.", rich_help_panel=PANEL),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=PANEL)] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One JSON object per line on stdout.", rich_help_panel=PANEL)
    ] = False,
    quiet: Annotated[
        int,
        typer.Option(
            "-q",
            "--quiet",
            count=True,
            show_default=False,
            help="Say nothing on success; -qq: no errors either.",
            rich_help_panel=PANEL,
        ),
    ] = 0,
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            show_default=False,
            help="Say more; -vv: tracebacks too.",
            rich_help_panel=PANEL,
        ),
    ] = 0,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Answer yes to every question.", rich_help_panel=PANEL)
    ] = False,
) -> None:
    """The options that every command has; `command` adds them to its signature."""


@dataclass
class Run:
    """What a command works with. Streams and environment are handed in once, here."""

    options: Mapping[str, Any]
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @functools.cached_property
    def settings(self) -> Any:
        from powermem_cli.config import load_settings  # noqa: PLC0415 - `--help` does without

        settings = load_settings(
            db=self.options["db"],
            env_file=self.options["env_file"],
            config_file=self.options["config"],
            environ=self.environ,
        )
        for warning in settings.warnings:
            self.note(f"warning: {warning}")
        return settings

    @property
    def form(self) -> Form:
        return "json" if self.options["json_"] else "jsonl" if self.options["jsonl"] else "auto"

    @property
    def quiet(self) -> int:
        return int(self.options["quiet"])

    @property
    def verbose(self) -> int:
        return int(self.options["verbose"])

    def user(self, given: str | None) -> str | None:
        """--user, or else POWERMEM_USER."""
        return given if given is not None else self.settings.user_id

    def note(self, text: str) -> None:
        """A line for the person at the terminal; nothing a program reads."""
        if not self.quiet:
            self.say(text)

    def say(self, text: str) -> None:
        """A line on stderr, whatever -q says."""
        with suppress(OSError):  # nobody listens: that is no reason to fail
            print(safe(text), file=self.stderr, flush=True)

    def confirm(self, what: str, details: Sequence[str] = ()) -> bool:
        """Ask whether to do *what*, after showing *details*; without a terminal, refuse to guess. Raises UsageError."""
        if self.options["yes"]:
            return True
        if not (self.stdin.isatty() and self.stderr.isatty()):
            raise UsageError(f"--yes is needed to {what}: there is no terminal to ask")
        for line in details:
            self.say(f"  {line}")
        print(f"{safe(what[0].upper() + what[1:])}? [y/N] ", end="", file=self.stderr, flush=True)
        return self.stdin.readline().strip().lower() in {"y", "yes"}

    def with_memory(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Call *work* with an opened AsyncMemory, in an event loop of its own."""
        import asyncio  # noqa: PLC0415 - `--help` does without

        from powermem_cli.memory import AsyncMemory  # noqa: PLC0415

        async def main() -> T:
            async with AsyncMemory(self.settings.config) as memory:
                return await work(memory)

        return asyncio.run(main())

    def show(self, rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any] | None = None) -> None:
        """Memories on stdout: a table on a terminal, lines with tabs in a pipe, JSON when asked for.

        *document* is what --json prints; by default {"results": rows}.
        """
        from powermem_cli.output.console import is_terminal  # noqa: PLC0415 - `--help` does without
        from powermem_cli.output.json import write_document, write_lines  # noqa: PLC0415
        from powermem_cli.output.table import write_plain, write_table  # noqa: PLC0415

        if self.form == "json":
            write_document(document if document is not None else {"results": list(rows)}, self.stdout)
        elif self.form == "jsonl":
            write_lines(rows, self.stdout)
        elif is_terminal(self.stdout):
            write_table(rows, self.stdout, self.environ)
        else:
            write_plain(rows, self.stdout)

    def write_json(self, value: Mapping[str, Any]) -> None:
        """A document of its own, in the JSON form that was asked for."""
        from powermem_cli.output.json import write_document, write_lines  # noqa: PLC0415

        if self.form == "jsonl":
            write_lines([value], self.stdout)
        else:
            write_document(value, self.stdout)

    def show_done(self, rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any] | None = None) -> None:
        """Memories as a command left them: that is news, not what was asked for, so -q is quiet about it."""
        if self.form != "auto" or not self.quiet:
            self.show(rows, document)

    def fail(self, error: Exception) -> Exit:
        """Say what went wrong: on stderr for a person, and in the JSON that was asked for. What to exit with."""
        ours = _as_ours(error)
        code = exit_of(ours)
        self.say_error(ours)
        if self.form != "auto":
            with suppress(OSError):
                self.write_json(error_as_json(ours, code))
        let_go(self.stdout)
        return code

    def say_error(self, error: PowerMemError) -> None:
        if self.quiet < 2:
            hint = f"\n  hint   {error.hint}" if error.hint else ""
            self.say(f"error: {error.message}{hint}")
        if self.verbose >= 2:
            self.say("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def counted(number: int, one: str, many: str) -> str:
    """`1 memory`, `2,000 memories`."""
    return f"{number:,} {one if number == 1 else many}"


def error_as_json(error: PowerMemError, code: Exit | None = None) -> dict[str, Any]:
    described: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.hint:
        described["hint"] = error.hint
    described["retryable"] = error.retryable
    return described if code is None else {"type": "error", **described, "exit_code": int(code)}


def command(function: Callable[..., Exit | None]) -> Callable[..., None]:
    """Make a command of `function(run, its own options…)`: adds the global options, opens a Run, sets the exit code.

    This is the only place that catches PowerMemError. Docstring and options stay those of *function*.
    """
    # eval_str and not get_type_hints: that one wraps what has the default None once more, up to Python 3.10.
    shared = inspect.signature(global_options, eval_str=True).parameters
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "run"]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared.values())]

    @functools.wraps(function)
    def wrapper(**values: Any) -> None:
        run = Run({name: values.pop(name) for name in shared})
        raise typer.Exit(int(_exit_code(run, lambda: function(run, **values))))

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _exit_code(run: Run, work: Callable[[], Exit | None]) -> Exit:
    try:
        if run.options["json_"] and run.options["jsonl"]:
            raise UsageError("--json and --jsonl exclude each other")
        code = work()
        run.stdout.flush()
        return Exit.DONE if code is None else code
    except BrokenPipeError:
        die_of_a_closed_pipe()
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: whatever nobody foresaw is a bug of ours
        return run.fail(error)


def _as_ours(error: Exception) -> PowerMemError:
    if isinstance(error, PowerMemError):
        return error
    ours: PowerMemError
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        # Of the streams: everything else is translated where it is opened.
        ours = StoreError(f"could not write to the standard output: {error.strerror or error}", code="output.io")
    else:
        ours = InvariantError(f"{type(error).__name__}: {error}", hint="please report this, with what -vv prints")
    ours.__cause__ = error
    return ours


def failed_before(error: Exception, arguments: Sequence[str]) -> Exit:
    """What went wrong when no command had a Run yet: Typer could not read the *arguments*, or could not show help."""
    run = Run({"json_": "--json" in arguments, "jsonl": "--jsonl" in arguments, "quiet": 0, "verbose": 0})
    if not isinstance(error, typer.TyperException):
        return run.fail(error)
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    hint = None if context is None else f"{context.command_path} --help shows what there is"
    if context is not None and context.parent is None and arguments[0].startswith("-"):
        hint = "options stand behind the command, as in: powermem list --db memories.db"
    return run.fail(UsageError(message[:1].lower() + message[1:], hint=hint))
