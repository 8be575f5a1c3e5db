"""The reference of the Python API, made of signatures and docstrings: `powermem help api`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final, is_typeddict

_WIDE: Final = 100  # columns; a longer signature has a line for each parameter


def entries() -> Iterator[tuple[str, str]]:
    """(signature, docstring) of every public name, methods behind their class; then results, and errors as a tree."""
    import powermem_cli  # noqa: PLC0415 - what is explained is loaded for that alone
    from powermem_cli import errors  # noqa: PLC0415

    yield "powermem", inspect.getdoc(powermem_cli) or ""
    public = {name: getattr(powermem_cli, name) for name in powermem_cli.__all__}
    for name, thing in public.items():
        if is_typeddict(thing):
            continue
        yield _signature(name, thing), inspect.getdoc(thing) or ""
        if name == "AsyncMemory":  # those of Memory are the same
            for member, value in _members(thing):
                yield f"{name}.{_signature(member, value)}", inspect.getdoc(value) or ""
    for name, thing in public.items():
        if is_typeddict(thing):
            yield _fields(name, thing), thing.__doc__ or ""
    yield "powermem_cli.errors", inspect.getdoc(errors) or ""


def as_markdown() -> str:
    parts = [f"# The Python API\n\n{_FOREWORD}"]
    for signature, text in entries():
        name = signature.partition("(")[0]
        shown = "" if signature == name else f"```python\n{signature}\n```\n\n"
        body = f"```text\n{text}\n```" if "──" in text else text
        parts.append(f"{'###' if '.' in name.removeprefix('powermem_cli.') else '##'} {name}\n\n{shown}{body}")
    return "\n\n".join(parts) + "\n"


_FOREWORD: Final = (
    "Made of the docstrings: `powermem help api > samples/api.md`. The methods of `AsyncMemory` are awaited; those of\n"
    "`Memory` are the same without `await`."
)


def _fields(name: str, kind: Any) -> str:
    """The keys of a typed dict, each with the type of its value as it stands in the source; those always there first."""
    sure = kind.__required_keys__
    keys = sorted(kind.__annotations__.items(), key=lambda item: item[0] not in sure)
    types = [(key, getattr(value, "__forward_arg__", value)) for key, value in keys]
    lines = "".join(f"    {key}: {type_},{'' if key in sure else '  # where there is one'}\n" for key, type_ in types)
    return f"{name}(\n{lines})"


def _members(kind: type) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    ]


def _signature(name: str, thing: Any) -> str:
    """As it stands in the source, which is the same under every Python."""
    if isinstance(thing, property):
        return name
    found = inspect.signature(thing)
    parts = []
    for parameter in found.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        if parameter.name != "self":
            parts.append(_parameter(parameter))
    result = "" if inspect.isclass(thing) else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parts)}){result}"
    if len(line) <= _WIDE:
        return line
    lines = "".join(f"    {part},\n" for part in parts)
    return f"{name}(\n{lines}){result}"


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {parameter.annotation}{default}"
