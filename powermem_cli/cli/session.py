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

from powermem_cli.cli.exits import Exit, die_of_a_closed_pipe, exit_of, let_go, stop_reason_of
from powermem_cli.cli.layout import EVERYWHERE
from powermem_cli.errors import InvariantError, PowerMemError, StoreError, StoreMissing, UsageError
from powermem_cli.output.safe import safe

T = TypeVar("T")

Form = Literal["auto", "json", "jsonl"]

IN_FRONT = "powermem.options"  # where the context keeps the options that stand before the command

_UNWRITABLE = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}


def global_options(
    db: Annotated[
        str | None, typer.Option("--db", metavar="PATH|URL", help="The store to work on.", rich_help_panel=EVERYWHERE)
    ] = None,
    env_file: Annotated[
        str | None,
        typer.Option("--env-file", metavar="PATH", help="Settings instead of ./.env.", rich_help_panel=EVERYWHERE),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="PATH", help="A JSON or TOML file with settings.", rich_help_panel=EVERYWHERE),
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=EVERYWHERE)
    ] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One JSON object per line on stdout.", rich_help_panel=EVERYWHERE)
    ] = False,
    quiet: Annotated[
        int,
        typer.Option(
            "-q",
            "--quiet",
            count=True,
            show_default=False,
            help="Say nothing on success; -qq: no errors either.",
            rich_help_panel=EVERYWHERE,
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
            rich_help_panel=EVERYWHERE,
        ),
    ] = 0,
    log_file: Annotated[
        str | None,
        typer.Option(
            "--log-file",
            metavar="PATH",
            help="Append what is done, without any text; -vv: every call to a provider.",
            rich_help_panel=EVERYWHERE,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.001,
            help="For one call to a provider: 60, an LLM 120.",
            rich_help_panel=EVERYWHERE,
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Answer yes to every question.", rich_help_panel=EVERYWHERE)
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
    calls: dict[str, float | None] = field(default_factory=dict)
    failed_with: str | None = None
    """The code of the error that ended it."""
    _noted: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.calling(timeout=self.options.get("timeout"))

    @functools.cached_property
    def settings(self) -> Any:
        from powermem_cli.config import load_settings  # noqa: PLC0415 - `--help` does without

        settings = load_settings(
            db=self.options["db"],
            env_file=self.options["env_file"],
            config_file=self.options["config"],
            environ=self.environ,
            calls={name: value for name, value in self.calls.items() if value is not None},
        )
        for warning in settings.warnings:
            self.note(f"warning: {warning}")
        return settings

    def calling(self, **options: float | None) -> None:
        """How providers are to be called, as the command line says it; before the first look at the settings."""
        assert "settings" not in self.__dict__
        self.calls.update(options)

    @property
    def form(self) -> Form:
        return "json" if self.options["json_"] else "jsonl" if self.options["jsonl"] else "auto"

    def lay_out(self, layout: str | None) -> None:
        """As --format says: json and jsonl are what --json and --jsonl are, the others are for `show`. Raises UsageError."""
        if layout is None:
            return
        if self.form not in {"auto", layout}:
            raise UsageError(f"--{self.form} and --format {layout} exclude each other")
        self.options = {**self.options, "json_": layout == "json", "jsonl": layout == "jsonl", "layout": layout}

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
        from powermem_cli.output.console import is_terminal, spelled, width_of  # noqa: PLC0415 - `--help` does without

        shown = spelled(safe(text), self.stderr)
        if is_terminal(self.stderr):
            from powermem_cli.output.wrap import wrapped  # noqa: PLC0415

            shown = wrapped(shown, width_of(self.stderr, self.environ))
        with suppress(OSError):  # nobody listens: that is no reason to fail
            print(shown, file=self.stderr, flush=True)

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

    def with_memory(self, work: Callable[[Any], Awaitable[T]], access: str = "create") -> T:
        """Call *work* with an opened AsyncMemory, in an event loop of its own.

        *access* is what the command does with the store: only "create" makes one that is not there. Raises
        StoreMissing if it was named with --db; where it would be made by itself, there is nothing remembered yet.
        """
        return self._where_it_is(access, lambda config: self._in_loop(config, work))

    def with_store(self, work: Callable[[Any], Awaitable[T]], access: str = "read") -> T:
        """The same with the Store alone, for work that embeds nothing."""
        import asyncio  # noqa: PLC0415 - `--help` does without

        from powermem_cli.stores import create_store  # noqa: PLC0415

        async def main(config: Any) -> T:
            store = create_store(config.vector_store.provider, config.vector_store.options)
            await store.open(None)
            try:
                return await work(store)
            finally:
                await store.close()

        return self._where_it_is(access, lambda config: asyncio.run(main(config)))

    def _where_it_is(self, access: str, work: Callable[[Any], T]) -> T:
        from powermem_cli.cli.access import accessing, nothing_yet  # noqa: PLC0415 - `--help` does without

        try:
            return work(accessing(self.settings.config, access))
        except StoreMissing as missing:
            if self.options["db"] is not None:
                raise
            nowhere = f"nothing is remembered yet: {missing.message}\n  hint   {missing.hint}"
        with nothing_yet(self.settings.config) as config:
            found = work(config)
        self.note(nowhere)
        return found

    def _in_loop(self, config: Any, work: Callable[[Any], Awaitable[T]]) -> T:
        import asyncio  # noqa: PLC0415 - `--help` does without

        from powermem_cli.memory import AsyncMemory  # noqa: PLC0415

        async def main() -> T:
            memory = AsyncMemory(config)
            await memory.initialize(lazily=True)
            async with memory:
                try:
                    return await work(memory)
                finally:
                    await self.keep_account(memory)

        return asyncio.run(main())

    async def keep_account(self, memory: Any) -> None:
        """Note what was spent on this store; what was done counts, whether or not that can be written."""
        from powermem_cli.accounts import note, since  # noqa: PLC0415
        from powermem_cli.paths import state_folder  # noqa: PLC0415

        spent, self._noted = since(self._noted, memory.usage), memory.usage
        if spent:
            try:
                note(state_folder(self.environ), await memory.store_identity(), spent)
            except (OSError, StoreError) as error:
                self.note(f"warning: what this took could not be noted: {error}")

    def show(self, rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any] | None = None) -> None:
        """Memories on stdout: a table on a terminal, lines with tabs in a pipe, JSON when asked for.

        *document* is what --json prints; by default {"results": rows}.
        """
        from powermem_cli.output.console import is_terminal  # noqa: PLC0415 - `--help` does without
        from powermem_cli.output.context import write_context  # noqa: PLC0415
        from powermem_cli.output.json import write_document, write_lines  # noqa: PLC0415
        from powermem_cli.output.table import write_plain, write_table  # noqa: PLC0415

        layout = self.options.get("layout")
        if self.form == "json":
            write_document(document if document is not None else {"results": list(rows)}, self.stdout)
        elif self.form == "jsonl":
            write_lines(rows, self.stdout)
        elif layout == "context":
            write_context(rows, self.stdout)
        elif layout == "table" or (layout is None and is_terminal(self.stdout)):
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
        self.failed_with = ours.code
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
    if code is None:
        return described
    return {"type": "error", **described, "stop_reason": stop_reason_of(error), "exit_code": int(code)}


def command(function: Callable[..., Exit | None]) -> Callable[..., None]:
    """Make a command of `function(run, its own options…)`: adds the global options, opens a Run, sets the exit code.

    This is the only place that catches PowerMemError. Docstring and options stay those of *function*.
    """
    # eval_str and not get_type_hints: that one wraps what has the default None once more, up to Python 3.10.
    shared = inspect.signature(global_options, eval_str=True).parameters
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "run"]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (context, *own, *shared.values())]

    @functools.wraps(function)
    def wrapper(context: typer.Context, **values: Any) -> None:
        run = Run(_both(context.meta.get(IN_FRONT, {}), {name: values.pop(name) for name in shared}))
        raise typer.Exit(int(_logged(run, function.__name__.strip("_"), lambda: function(run, **values))))

    return _with_parameters(wrapper, parameters)


def with_global_options(function: Callable[..., None]) -> Callable[..., None]:
    """*function*, called before any command, also takes the global options and keeps them for that command's Run."""
    shared = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(global_options, eval_str=True).parameters.values()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(function, eval_str=True).parameters.values()
    ]

    @functools.wraps(function)
    def wrapper(context: typer.Context, **values: Any) -> None:
        context.meta[IN_FRONT] = {p.name: values.pop(p.name) for p in shared}
        function(**values)

    return _with_parameters(wrapper, [context, *own, *shared])


def _with_parameters(wrapper: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _both(before: Mapping[str, Any], behind: Mapping[str, Any]) -> dict[str, Any]:
    """Options from before the command and from behind it, where the nearer one counts; -v -v adds up wherever it stands."""
    together = dict(behind)
    for name, value in before.items():
        if isinstance(value, int) and not isinstance(value, bool):
            together[name] += value
        else:
            together[name] = behind[name] or value if isinstance(value, bool) else _nearer(behind[name], value)
    return together


def _nearer(behind: Any, before: Any) -> Any:
    return before if behind is None else behind


def _logged(run: Run, name: str, work: Callable[[], Exit | None]) -> Exit:
    path = run.options["log_file"]
    if path is None:
        return _exit_code(run, work)
    from powermem_cli.cli.logs import log_end, logging_to  # noqa: PLC0415 - `--help` does without

    try:
        with logging_to(path, name, verbose=run.verbose):
            code = _exit_code(run, work)
            log_end(name, code, run.failed_with)
            return code
    except PowerMemError as error:
        return run.fail(error)


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


_STARVED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_STARVED_WORDS = ("failed to map segment", "annot allocate memory", "can't start new thread", "no memory left")


def _is_starved(error: BaseException | None) -> bool:
    """Whether the system gave no more files, memory or threads: that may strike anywhere, an import included."""
    while error is not None:
        number = getattr(error, "errno", None)
        if isinstance(error, MemoryError) or number in _STARVED or any(words in str(error) for words in _STARVED_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _as_ours(error: Exception) -> PowerMemError:
    ours: PowerMemError
    if not isinstance(error, StoreError) and _is_starved(error):
        words = (str(error).strip() or type(error).__name__).splitlines()[-1]
        ours = StoreError(
            f"the system gives no more files, memory or threads: {words}",
            hint="what was done is kept; allow more (ulimit -a shows the limits), then run the same command again",
            code="system.limits",
        )
        ours.__cause__ = error
        return ours
    if isinstance(error, PowerMemError):
        return error
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
    from powermem_cli.cli.usage_errors import explained  # noqa: PLC0415 - most command lines can be read

    message, hint = explained(error)
    context = getattr(error, "ctx", None)
    if context is not None and context.parent is None and arguments[0].startswith("-"):
        hint = "options of a command stand behind it, as in: powermem list --user anna"
    return run.fail(UsageError(message, hint=hint))
