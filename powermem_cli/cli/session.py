"""One run of the program: its options, its streams, the opened memory, and the way from an error to an exit code."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO, TypeVar

from powermem_cli.cli.exits import Exit, exit_of, let_go, stop_reason_of
from powermem_cli.cli.failures import as_ours
from powermem_cli.errors import PowerMemError, StoreError, StoreMissing, UsageError
from powermem_cli.output.safe import safe

T = TypeVar("T")

Form = Literal["auto", "json", "jsonl"]


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
        ours = as_ours(error)
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
