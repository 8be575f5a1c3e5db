"""powermem search"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Optional

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import Pace, Selection
from powermem_cli.cli.session import Run, counted, error_as_json
from powermem_cli.cli.users import note_nothing
from powermem_cli.errors import PowerMemError, UsageError

Layout = Literal["table", "plain", "context", "json", "jsonl"]
Mode = Literal["hybrid", "vector", "keyword"]
AT_ONCE = 128  # questions of a file that are answered together: they are embedded in few calls, and read in parallel


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
    *,
    selection: Selection,
    limit: Annotated[int, typer.Option("-k", "--limit", metavar="N", min=1, help="At most so many.")] = 10,
    threshold: Annotated[
        Optional[float],
        typer.Option("--threshold", metavar="SCORE", min=0.0, max=1.0, help="Only hits with at least this score."),
    ] = None,
    mode: Annotated[
        Mode, typer.Option("--mode", help="By meaning and words, or by one alone; keyword embeds nothing.")
    ] = "hybrid",
    explain: Annotated[bool, typer.Option("--explain", help="Say how each score came about.")] = False,
    fail_if_empty: Annotated[bool, typer.Option("--fail-if-empty", help="Exit 1 if nothing is found.")] = False,
    layout: Annotated[
        Optional[Layout],
        typer.Option("--format", help="context: a block for a prompt, with the memories fenced as data."),
    ] = None,
    pace: Pace,
) -> Exit | None:
    """Find the memories that answer a question."""
    run.calling(**pace.limits())
    run.lay_out(layout)
    filters, scope = selection.filters(), selection.scope(run)
    shared = {"filters": filters, "limit": limit, "threshold": threshold, "mode": mode, "explain": explain}
    if file is not None:
        if query is not None:
            raise UsageError("a question and --file exclude each other")
        return _search_many(run, file, scope, shared, fail_if_empty)
    if query is None or not query.strip():
        raise UsageError("what do you want to know?", hint='powermem search "what does she drink?" --user anna')

    async def work(memory: Any) -> dict[str, Any]:
        found: dict[str, Any] = await memory.search(query, **scope, **shared)
        return found

    found = run.with_memory(work, "read")
    _show(run, found["results"], {"query": query, **found})
    if not found["results"]:
        note_nothing(run, "nothing found", selection.user, selection.where)
    return Exit.NEGATIVE if fail_if_empty and not found["results"] else None


def _search_many(
    run: Run, file: str, scope: dict[str, Any], shared: dict[str, Any], fail_if_empty: bool
) -> Exit | None:
    """One answer per line, in the order of the questions; a line that can't be answered says why."""
    import asyncio  # noqa: PLC0415 - `--help` does without

    from powermem_cli.feed import Feed  # noqa: PLC0415

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

    def put(answered: dict[str, Any]) -> None:
        nonlocal failed, hits
        failed += "error" in answered
        hits += bool(answered.get("results"))
        if run.form == "json":
            answers.append(answered)
        elif run.form == "jsonl":
            run.write_json(answered)
        else:
            _show_answer(run, answered)

    async def work(memory: Any) -> None:
        lines = Feed(_lines(run, file), size_of=lambda line: len(line[1]))
        try:
            async for ready in lines.lists():  # of a slow pipe, what has come so far
                for start in range(0, len(ready), AT_ONCE):
                    group = ready[start : start + AT_ONCE]
                    for answered in await asyncio.gather(*(answer(memory, line, text) for line, text in group)):
                        put(answered)
        finally:
            lines.stop()

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
    _show(run, answered.get("results", []))


def _show(run: Run, results: list[dict[str, Any]], document: dict[str, Any] | None = None) -> None:
    """Memories, and for people, of those that are explained, a line each of how their scores came about."""
    run.show(results, document)
    if run.form == "auto" and run.options.get("layout") != "context":
        for place, result in enumerate(results, 1):
            if "explanation" in result:
                run.say(f"{place:2d}. {_explained(result)}")


def _explained(result: dict[str, Any]) -> str:
    """As in `0.871 = likely(0.93): vector 0.58 (cosine 0.612) + keywords 0.31 (BM25 7.2) + speaker 0.15`."""
    parts = result["explanation"]
    said = []
    if parts["cosine"] is not None:
        said.append(f"vector {parts['vector']:.2f} (cosine {parts['cosine']:.3f})")
    if parts["bm25"] is not None:
        said.append(f"keywords {parts['keywords']:.2f} (BM25 {parts['bm25']:.1f})")
    said += [f"{reason} {amount:+.2f}" for reason, amount in parts["boosts"].items()]
    judged = f"; the reranker says {parts['reranker']:.3f}" if "reranker" in parts else ""
    return f"{result['score']:.3f} for {parts['value']:.2f}: {', '.join(said)}{judged}"


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
