"""What `--help` looks like: what it is for, examples, then commands and options in groups; plain text, so it is quick."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from typer.core import TyperCommand, TyperGroup

from powermem_cli.cli.examples import EXAMPLES

OPTIONS: Final = "Options"
EVERYWHERE: Final = "Every command"  # the heading of what the front page explains, and commands only name
_ALONE: Final = "powermem.alone"  # where the context keeps that nothing was asked for
_RANGE: Final = re.compile(r"(?:; )?(?:[\d.]+<=)?x[<>]=[\d.]+")
_NO_BREAK: Final = "\xa0"


class Command(TyperCommand):
    """A command whose options stand under the headings they were given, and its examples before them."""

    def get_help(self, ctx: Any) -> str:
        ctx.terminal_width = _narrow()
        return super().get_help(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        _write_examples(ctx.command_path, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups = _options(self, ctx)
        shared = groups.pop(EVERYWHERE, [])
        _write_options(groups, formatter)
        if shared:
            with formatter.section(f"{EVERYWHERE} (see powermem --help)"):
                _write_names([names for names, _ in shared], formatter)


class Group(TyperGroup):
    """The same for what has commands of its own; what each is for is never cut short."""

    panels: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Heading → command → what it is for; without them all there are stand under one."""

    def get_help(self, ctx: Any) -> str:
        ctx.terminal_width = _narrow()
        return super().get_help(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ALONE] = not args
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        _write_examples(ctx.command_path, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels = self.panels or {"Commands": self._summaries(ctx)}
        width = max(len(name) for commands in panels.values() for name in commands)  # the same in all panels
        for heading, commands in panels.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:{width}}", summary) for name, summary in commands.items()])
        if ctx.meta.get(_ALONE):
            formatter.write_paragraph()
            formatter.write_text(f"What a command takes: {ctx.command_path} COMMAND --help")
        else:
            _write_options(_options(self, ctx), formatter)

    def _summaries(self, ctx: Any) -> dict[str, str]:
        return {name: (self.commands[name].help or "").split("\n")[0] for name in self.list_commands(ctx)}


def _narrow() -> int | None:
    """The width where Typer, which takes help to need 50 columns, has to be told; it leaves two free otherwise."""
    columns = shutil.get_terminal_size().columns - 2
    return max(columns, 20) if columns < 50 else None


def _write_examples(path: str, formatter: Any) -> None:
    lines = EXAMPLES.get(path.removeprefix("powermem").strip(), ())
    if lines:
        with formatter.section("Examples"):
            for line in lines:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _options(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Heading → names and explanations."""
    groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], OPTIONS: []}
    for parameter in command.get_params(ctx):
        heading = "Arguments" if parameter.param_type_name == "argument" else parameter.rich_help_panel or OPTIONS
        record = parameter.get_help_record(ctx)
        if record is not None:
            names, explanation = record
            # A number that is out of its range is told so; the help is no place for formulas.
            groups.setdefault(heading, []).append((names, _RANGE.sub("", explanation).replace("  []", "")))
    return groups


def _write_options(groups: Mapping[str, Sequence[tuple[str, str]]], formatter: Any) -> None:
    for heading, rows in groups.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=min(30, formatter.width // 2))


def _write_names(names: Sequence[str], formatter: Any) -> None:
    indent = " " * formatter.current_indent
    line = "  ".join(name.replace(" ", _NO_BREAK) for name in names)
    filled = textwrap.fill(
        line, formatter.width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    formatter.write(filled.replace(_NO_BREAK, " ") + "\n")
