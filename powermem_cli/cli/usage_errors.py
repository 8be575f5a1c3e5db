"""What Typer could not read, in the words of this program: what is wrong, and what may have been meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final

_NO_COMMAND: Final = re.compile(r"No such command '(.*?)'")
_TOO_MANY: Final = re.compile(r"Got unexpected extra argument\S* \((.*)\)")
_NO_NUMBER: Final = re.compile(r"(.*) is not a valid (int|float)")
_NOT_AMONG: Final = re.compile(r"'(.*)' is not one of (.*)", re.DOTALL)
_NUMBERS: Final = {"int": "a whole number", "float": "a number"}
_OUTSIDE: Final = re.compile(r"(\S+) is not in the range (?:(\S+?)<=)?x(?:>=(\S+)|<=(\S+))?")


def explained(error: Any) -> tuple[str, str | None]:
    """Message and hint for an exception of Typer's."""
    context = getattr(error, "ctx", None)
    message = str(error.message).rstrip(".")
    help_line = None if context is None else f"{context.command_path} --help shows what there is"
    if context is None:
        return _lowered(error.format_message()), None
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        known = [name for one in context.command.get_params(context) for name in (*one.opts, *one.secondary_opts)]
        return f"there is no option {error.option_name}", _near(error.option_name, known, help_line)
    if found := _NO_COMMAND.match(message):
        return f"there is no command {found[1]!r}", _near(found[1], context.command.list_commands(context), help_line)
    if found := _TOO_MANY.match(message):
        return f"what is {found[1]!r} for?", "a text of several words stands in quotes"
    if getattr(error, "param", None) is not None and message:
        return _about_value(_name(error.param), message, help_line)
    return _lowered(error.format_message()), help_line


def _about_value(name: str, message: str, help_line: str | None) -> tuple[str, str | None]:
    if found := _NO_NUMBER.match(message):
        return f"{name} takes {_NUMBERS[found[2]]}, not {found[1]}", help_line
    if found := _OUTSIDE.match(message):
        least, most = found[2] or found[3], found[4]
        wanted = f"from {least} up" if most is None else f"from {least} to {most}"
        return f"{name} takes a number {wanted}, not {found[1]}", help_line
    if found := _NOT_AMONG.match(message):
        known = re.findall(r"'([^']*)'", found[2])
        return f"{name} is one of {', '.join(known)}, not {found[1]!r}", _near(found[1], known, None)
    return f"{name}: {_lowered(message)}", help_line


def _name(parameter: Any) -> str:
    return str(max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.human_readable_name)


def _near(word: str, known: Iterable[str], help_line: str | None) -> str | None:
    """Compared without dashes: two options have more in common than those."""
    names = {name.strip("-"): name for name in known}
    near = difflib.get_close_matches(word.strip("-").lower(), names, 1)
    parts = (f"did you mean {names[near[0]]}?" if near else None, help_line)
    return " ".join([part for part in parts if part]) or None


def _lowered(message: str) -> str:
    message = message.rstrip(".")
    return message[:1].lower() + message[1:]
