"""What `--help` looks like: what it is for, examples, then commands and options in groups; plain text, so it is quick."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

from powermem_cli.cli.examples import EXAMPLES

OPTIONS: Final = "Options"


class Command(TyperCommand):
    """A command whose options stand under the headings they were given, and its examples before them."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        _write_examples(ctx.command_path, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)


class Group(TyperGroup):
    """The same for what has commands of its own; what each is for is never cut short."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        _write_examples(ctx.command_path, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        rows = [(name, (one.help or "").split("\n")[0]) for name, one in commands if not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        _write_options(self, ctx, formatter)


def _write_examples(path: str, formatter: Any) -> None:
    lines = EXAMPLES.get(path.removeprefix("powermem").strip(), ())
    if lines:
        with formatter.section("Examples"):
            for line in lines:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], OPTIONS: []}
    for parameter in command.get_params(ctx):
        heading = "Arguments" if parameter.param_type_name == "argument" else parameter.rich_help_panel or OPTIONS
        record = parameter.get_help_record(ctx)
        if record is not None:
            groups.setdefault(heading, []).append(record)
    for heading, rows in groups.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)
