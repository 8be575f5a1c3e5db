"""powermem search"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Optional

import typer

from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import (
    Agent,
    FilterJson,
    Retries,
    Rpm,
    RunId,
    Since,
    Tpm,
    Until,
    User,
    Where,
    parse_filters,
)
from powermem_cli.cli.session import Run, command, counted, error_as_json
from powermem_cli.errors import PowerMemError, UsageError

Layout = Literal["table", "plain", "context", "json", "jsonl"]
AT_ONCE = 16  # questions of a file that are answered together


@command
def search(
    run: Run,
    query: Annotated[
        Optional[str], typer.Argument(metavar="[QUESTION]", help="What you want to know, in your own words.")
    ] = None,
    file: Annotated[
        Optional[str],
        typer.Option(
            "-f",
            "--file",
            metavar="PATH",
            help='Many questions: {"query", "user_id", "key"} or text, a line each; - is stdin.',
        ),
    ] = None,
    user: User = None,
    agent: Agent = None,
    run_id: RunId = None,
    limit: Annotated[int, typer.Option("-k", "--limit", metavar="N", min=1, help="At most so many.")] = 10,
    threshold: Annotated[
        Optional[float],
        typer.Option("--threshold", metavar="SCORE", min=0.0, max=1.0, help="Only hits with at least this score."),
    ] = None,
    where: Where = None,
    filter_json: FilterJson = None,
    since: Since = None,
    until: Until = None,
    fail_if_empty: Annotated[bool, typer.Option("--fail-if-empty", help="Exit 1 if nothing is found.")] = False,
    layout: Annotated[
        Optional[Layout],
        typer.Option("--format", help="context: a block for a prompt, with the memories fenced as data."),
    ] = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    retries: Retries = None,
) -> Exit | None:
    """Find the memories that answer a question."""
    run.calling(rpm=rpm, tpm=tpm, retries=retries)
    run.lay_out(layout)
    shared = {"filters": parse_filters(where, filter_json, since, until), "limit": limit, "threshold": threshold}
    scope = {"user_id": run.user(user), "agent_id": agent, "run_id": run_id}
    if file is not None:
        if query is not None:
            raise UsageError("a question and --file exclude each other")
        return _search_many(run, file, scope, shared, fail_if_empty)
    if query is None:
        raise UsageError("what do you want to know?", hint='powermem search "what does she drink?" --user anna')

    async def work(memory: Any) -> dict[str, Any]:
        found: dict[str, Any] = await memory.search(query, **scope, **shared)
        return found

    found = run.with_memory(work, "read")
    run.show(found["results"], {"query": query, **found})
    if not found["results"]:
        run.note("nothing found")
    return Exit.NEGATIVE if fail_if_empty and not found["results"] else None


def _search_many(
    run: Run, file: str, scope: dict[str, Any], shared: dict[str, Any], fail_if_empty: bool
) -> Exit | None:
    """One answer per line, in the order of the questions; a line that can't be answered says why."""
    import asyncio  # noqa: PLC0415 - `--help` does without

    failed = hits = 0
    answers: list[dict[str, Any]] = []

    async def answer(memory: Any, line: int, text: str) -> dict[str, Any]:
        question: dict[str, Any] = {"query": text}
        try:
            question = _question(text)
            own = {name: question[name] for name in scope if question.get(name) is not None}
            found = await memory.search(question["query"], **{**scope, **own}, **shared)
        except PowerMemError as error:
            if not isinstance(error, UsageError):
                raise  # not this question's fault: the others would end the same
            return {**question, "line": line, "error": error_as_json(error)}
        return {**question, **found}

    async def work(memory: Any) -> None:
        nonlocal failed, hits
        for group in _groups(_lines(run, file), AT_ONCE):
            for answered in await asyncio.gather(*(answer(memory, line, text) for line, text in group)):
                failed += "error" in answered
                hits += bool(answered.get("results"))
                if run.form == "json":
                    answers.append(answered)
                elif run.form == "jsonl":
                    run.write_json(answered)
                else:
                    _show_answer(run, answered)

    run.with_memory(work, "read")
    if run.form == "json":
        run.write_json({"answers": answers})
    if failed:
        run.note(f"{counted(failed, 'question', 'questions')} could not be answered")
        return Exit.PARTIAL
    return Exit.NEGATIVE if fail_if_empty and not hits else None


def _show_answer(run: Run, answered: dict[str, Any]) -> None:
    from powermem_cli.output.console import encodable  # noqa: PLC0415
    from powermem_cli.output.safe import safe  # noqa: PLC0415

    said = [f"# {answered['query']}"]
    if "error" in answered:
        said.append(f"error: {answered['error']['message']}")
    for line in said:
        print(encodable(safe(line, single_line=True), run.stdout), file=run.stdout)
    run.show(answered.get("results", []))


def _lines(run: Run, file: str) -> Iterator[tuple[int, str]]:
    try:
        stream = run.stdin if file == "-" else open(file, encoding="utf-8-sig", newline="\n")  # noqa: PTH123, SIM115
    except OSError as error:
        raise UsageError(f"{file} can't be opened: {error.strerror}") from error
    with stream:
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from error
        except OSError as error:
            raise UsageError(f"{file} can't be read: {error.strerror}") from error


def _question(text: str) -> dict[str, Any]:
    """A line of questions: a JSON object with `query`, a JSON string, or the question itself. Raises UsageError."""
    if not text.startswith(("{", '"')):
        return {"query": text}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"not valid JSON: {error}") from None
    if isinstance(value, str):
        return {"query": value}
    if not isinstance(value.get("query"), str):
        raise UsageError("a question needs `query`, a string")
    return dict(value)


def _groups(items: Iterator[tuple[int, str]], size: int) -> Iterator[list[tuple[int, str]]]:
    group: list[tuple[int, str]] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
