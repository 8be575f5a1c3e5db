"""From a function with options to a command: what every command has is added, and an error becomes an exit code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Final, get_type_hints

import typer

from powermem_cli.cli.everywhere import Everywhere
from powermem_cli.cli.exits import Exit, die_of_a_closed_pipe
from powermem_cli.cli.session import Run
from powermem_cli.errors import PowerMemError, UsageError

IN_FRONT: Final = "powermem.options"  # where the context keeps the options that stand before the command


def command(function: Callable[..., Exit | None]) -> Callable[..., None]:
    """Make a command of `function(run, its own options…)`: adds the global options, opens a Run, sets the exit code.

    A parameter whose type is a dataclass stands for the options that are its fields. This is the only place that
    catches PowerMemError. Docstring and options stay those of *function*.
    """
    bundles, parameters = _laid_out([*_parameters(function), _bundle("everywhere", Everywhere)])

    @functools.wraps(function)
    def wrapper(context: typer.Context, **values: Any) -> None:
        together = _gathered(bundles, values)
        options = asdict(together.pop("everywhere"))
        run = Run(_both(context.meta.get(IN_FRONT, {}), options))
        raise typer.Exit(int(_logged(run, function.__name__.strip("_"), lambda: function(run, **together))))

    return _with_parameters(wrapper, parameters)


def with_global_options(function: Callable[..., None]) -> Callable[..., None]:
    """*function*, called before any command, also takes the global options and keeps them for that command's Run."""
    bundles, parameters = _laid_out([*_parameters(function), _bundle("everywhere", Everywhere)])

    @functools.wraps(function)
    def wrapper(context: typer.Context, **values: Any) -> None:
        together = _gathered(bundles, values)
        context.meta[IN_FRONT] = asdict(together.pop("everywhere"))
        function(**together)

    return _with_parameters(wrapper, parameters)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    # eval_str and not get_type_hints: that one wraps what has the default None once more, up to Python 3.10.
    return [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "run"]


def _bundle(name: str, kind: type) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind)


def _laid_out(parameters: Sequence[inspect.Parameter]) -> tuple[dict[str, type], list[inspect.Parameter]]:
    """The bundles among them by name, and what Typer shall see: their fields in their place."""
    bundles: dict[str, type] = {}
    shown = [_bundle("context", typer.Context)]
    for one in parameters:
        if isinstance(one.annotation, type) and is_dataclass(one.annotation):
            bundles[one.name] = one.annotation
            hints = get_type_hints(one.annotation, include_extras=True)
            shown += [
                _bundle(field.name, hints[field.name]).replace(default=field.default)
                for field in fields(one.annotation)
            ]
        else:
            shown.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    return bundles, shown


def _gathered(bundles: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The *values* that Typer gives, those of a bundle in one."""
    left = dict(values)
    made = {
        name: kind(**{field.name: left.pop(field.name) for field in fields(kind)}) for name, kind in bundles.items()
    }
    return {**left, **made}


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
