"""powermem help: what is true of every command. Each topic is read from the place in the code that decides it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Optional

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.session import Run
from powermem_cli.errors import UsageError, did_you_mean

Rows = list[tuple[str, str]]


def exit_codes() -> Rows:
    """What a script learns from how a command ended."""
    from powermem_cli.cli.exits import MEANINGS  # noqa: PLC0415

    return [
        *((str(int(code)), MEANINGS[code]) for code in Exit),
        ("signal", "after Ctrl-C, TERM or HUP it finishes what is in flight, and dies of the signal"),
    ]


def environment() -> Rows:
    """Names that are read from the environment and from .env; flags come before both, an empty value is none."""
    from powermem_cli.variables import NAMES, VARIABLES  # noqa: PLC0415

    def described(name: str) -> str:
        places = [v for v in VARIABLES if v.name == name]
        goes_to = dict.fromkeys(".".join(part for part in v.path if part != "config") for v in places)
        providers = dict.fromkeys(v.provider for v in places if v.provider)
        of = f" of {', '.join(providers)}" if providers else ""
        return f"{', '.join(goes_to)}{of}{', secret' if places[0].kind == 'secret' else ''}"

    return [(name, described(name)) for name in NAMES]


def formats() -> Rows:
    """What `add --file` reads, with --format or found out by suffix and content; all of it plain or gzip."""
    from powermem_cli.readers import FORMATS  # noqa: PLC0415

    return [(name, _FORMATS[name]) for name in FORMATS]


def errors() -> Rows:
    """The stable codes of errors, as --json and the files of rejected and failed records show them."""
    from powermem_cli.cli.error_codes import ERROR_CODES  # noqa: PLC0415

    return list(ERROR_CODES.items())


def filters() -> Rows:
    """--filter takes JSON: {"field": value}, {"field": {"operator": value}}, AND, OR, NOT."""
    from powermem_cli.filters import COLUMNS, OPERATORS, WORDS  # noqa: PLC0415

    return [
        ("fields", ", ".join(COLUMNS)),
        ("metadata", "a path with dots: topic, address.city; with metadata. in front if it has the name of a field"),
        *((operator, _OPERATORS[operator]) for operator in OPERATORS),
        *((word, _WORDS[word]) for word in WORDS),
        ("example", '{"year": {"gte": 2024}, "NOT": {"topic": {"in": ["work", "travel"]}}}'),
    ]


def api() -> Rows:
    """The Python API, made of its docstrings; in a pipe as Markdown."""
    from powermem_cli.cli.reference import entries  # noqa: PLC0415

    return list(entries())


TOPICS: Final[dict[str, Callable[[], Rows]]] = {
    "exit-codes": exit_codes,
    "env": environment,
    "formats": formats,
    "errors": errors,
    "filters": filters,
    "api": api,
}

_FORMATS: Final = {
    "jsonl": "one JSON object per line",
    "json": "an array of objects, or one object",
    "csv": "a header and rows, columns by name; --map for other names",
    "tsv": "the same with tabs",
    "text": "a memory per line",
    "chatgpt": "conversations.json of ChatGPT's export",
    "claude": "conversations.json of Claude's export",
    "mem0": 'what mem0\'s get_all gives: an array, or {"results": [...]}',
    "powermem": "what `powermem list --jsonl` gives",
}
_OPERATORS: Final = {
    "eq": "is this value; the same as {field: value}",
    "ne": "is not this value, or has none",
    "in": "is one of a list",
    "nin": "is none of a list",
    "gt": "is greater: numbers, texts, times",
    "gte": "is greater, or the same",
    "lt": "is less",
    "lte": "is less, or the same",
    "like": "the whole text matches a pattern: % any characters, _ one",
    "ilike": "the same in any case",
    "contains": "a text holds this one, a list holds this value",
    "exists": "true: there is a value; false: there is none",
}
_WORDS: Final = {
    "AND": "a list of filters: all hold",
    "OR": "a list of filters: one at least holds",
    "NOT": "a filter, or a list: none holds",
}


def complete_topic(incomplete: str) -> list[str]:
    return [name for name in TOPICS if name.startswith(incomplete)]


@command
def help(
    run: Run,
    topic: Annotated[
        Optional[str],
        typer.Argument(metavar="[TOPIC]", help=f"One of {', '.join(TOPICS)}.", autocompletion=complete_topic),
    ] = None,
) -> Exit | None:
    """Explain exit-codes, env, formats, errors, filters or the api."""
    if topic is None:
        rows = [(name, (read.__doc__ or "").strip()) for name, read in TOPICS.items()]
        _show(run, "topics", "powermem help TOPIC, where TOPIC is one of:", rows)
    elif topic not in TOPICS:
        raise UsageError(f"there is no help about {topic!r}", hint=did_you_mean(topic, TOPICS))
    else:
        _show(run, topic, (TOPICS[topic].__doc__ or "").strip(), TOPICS[topic]())
    return None


def _show(run: Run, topic: str, heading: str, rows: Rows) -> None:
    import textwrap  # noqa: PLC0415

    from powermem_cli.output.cells import write_cells  # noqa: PLC0415
    from powermem_cli.output.console import encodable, is_terminal, width_of  # noqa: PLC0415

    if run.form != "auto":
        run.write_json({"topic": topic, "entries": [{"name": name, "text": text} for name, text in rows]})
        return
    if is_terminal(run.stdout) and topic != "api":
        print(textwrap.fill(heading, width_of(run.stdout, run.environ)) + "\n", file=run.stdout)
    if topic == "api":
        from powermem_cli.cli.reference import as_markdown  # noqa: PLC0415

        print(encodable(as_markdown(), run.stdout), end="", file=run.stdout)
    else:
        write_cells(("", ""), rows, run.stdout, run.environ)
