"""What `powermem add` says while it runs and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from powermem_cli.accounts import as_json, in_words
from powermem_cli.batch import STATUSES, Handful
from powermem_cli.cli.exits import Exit, exit_of, gravest, gravest_error, stop_reason_of
from powermem_cli.cli.session import Run, counted, error_as_json
from powermem_cli.failed import PARKED_AFTER
from powermem_cli.ingestion import Ingestion, Report
from powermem_cli.model import Outcome, Record, Rejected
from powermem_cli.output.console import is_terminal, marks_for
from powermem_cli.output.json import write_lines
from powermem_cli.output.progress import Mode, progress_for
from powermem_cli.output.safe import safe

_STOPPED: Final = {
    "output": Exit.STORE,
    "deadline": Exit.LATER,
    "signal": Exit.LATER,
    "too_many_failures": Exit.NEGATIVE,
}


def exit_of_report(report: Report) -> Exit:
    """Of all that applies, the gravest."""
    read, by_status = report.tally.read, report.tally.by_status
    bad = by_status["rejected"] + by_status["failed"]
    applies = [_STOPPED.get(report.stop_reason, Exit.DONE)]
    # An input that can't be read, after others were: 2 would say that nothing was started.
    applies += [Exit.PARTIAL if code == Exit.USAGE and read else code for code in map(exit_of, report.errors)]
    if bad and report.stop_reason == "end":
        applies.append(Exit.NEGATIVE if bad == read else Exit.PARTIAL)
    return gravest(applies)


class Reporter:
    """The bar while it runs, a line per record for --jsonl, the summary at the end."""

    def __init__(self, run: Run, total_bytes: int | None, mode: Mode) -> None:
        self._run = run
        quiet = run.quiet > 0
        self._progress = progress_for("none" if quiet else mode, run.stderr, run.environ)
        self._total = total_bytes
        self._first_trouble: str | None = None
        self.lost: OSError | None = None
        """Why the standard output takes no more: its reader has gone, or the disk is full."""

    def __enter__(self) -> Reporter:
        self._progress.start(self._total)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.finish()

    def watch(self, ingestion: Ingestion, handful: Handful) -> None:
        tally = ingestion.tally
        self._progress.update(ingestion.bytes_read, {str(status): number for status, number in tally.by_status.items()})
        if self._first_trouble is None and (tally.by_status["rejected"] or tally.by_status["failed"]):
            self._first_trouble = _first_trouble(handful)
        if self._run.form == "jsonl" and self.lost is None:
            try:
                write_lines(_record_lines(handful), self._run.stdout)
            except OSError as error:
                # What is in flight is finished and kept, but nobody would hear of more.
                self.lost = error
                ingestion.stop("output")

    def stopping(self) -> None:
        """The first Ctrl-C may take a while."""
        if is_terminal(self._run.stderr):
            self._progress.message("stopping: what is in flight is finished first; once more to end at once")

    def summary(self, report: Report, summary: Mapping[str, Any], *, says_no_llm: bool) -> None:
        """*summary* is what `summary_of` made of the report. Raises OSError if stdout was lost, now or before."""
        run = self._run
        for warning in report.warnings:
            run.note(f"warning: {warning}")
        for error in report.errors:
            run.say_error(error)
        done = summary["exit_code"] == Exit.DONE
        if not run.quiet or not done:
            mark = marks_for(run.stderr).done if done else ""
            line = _summary_line(report, mark) + self._remarks(report, says_no_llm=says_no_llm)
            run.say(line + self._about_failed(report, summary["job"]) + self._about_rejects(report.rejects))
        if self.lost is not None:
            raise self.lost
        if run.form != "auto":
            run.write_json(summary)

    def _remarks(self, report: Report, *, says_no_llm: bool) -> str:
        """Lines of their own for a person, in brackets behind the one line that a log gets."""
        tally = report.tally
        said = [f"{tally.undated:,} came without a time: they got that of adding"] if tally.undated else []
        if says_no_llm and tally.memories:
            said.append("no LLM is configured: kept what users said")
        form = "\n  {}" if is_terminal(self._run.stderr) else " ({})"
        return "".join(form.format(remark) for remark in said)

    def _about_failed(self, report: Report, job: str) -> str:
        said = ""
        if report.to_retry:
            said = f" ({counted(report.to_retry, 'record', 'records')} to be tried again by the next run)"
        if report.parked:
            said += f" ({report.parked:,} parked, failed in {PARKED_AFTER} runs: powermem jobs retry {job})"
        return said

    def _about_rejects(self, path: Path | None) -> str:
        if path is None:
            return ""
        if is_terminal(self._run.stderr):
            return f"\n  {self._first_trouble}\n  set aside: {path}\n  mend them there, then: powermem add -f {path}"
        return f" ({safe(f'{self._first_trouble}; set aside in {path}', single_line=True)})"


def _first_trouble(handful: Handful) -> str | None:
    """Where the first record stands that was rejected or failed, and why; None if there is none."""
    outcomes = iter(handful.outcomes)
    for item in handful.items:
        where, why = item.source, item.message if isinstance(item, Rejected) else ""
        if isinstance(item, Record):
            error = next(outcomes).error
            if error is None:
                continue
            why = error.message
        return why if where is None else f"{where.file}:{where.line}{f':{where.column}' if where.column else ''}: {why}"
    return None


def _record_lines(handful: Handful) -> list[dict[str, Any]]:
    outcomes = iter(handful.outcomes)
    return [_outcome_line(next(outcomes)) if isinstance(item, Record) else _reject_line(item) for item in handful.items]


def _outcome_line(outcome: Outcome) -> dict[str, Any]:
    record = outcome.record
    line: dict[str, Any] = {"type": "record"}
    if record.source is not None:
        line |= {"file": record.source.file, "line": record.source.line}
    line |= {"key": record.key, "status": outcome.status}
    if outcome.effects:
        line["memories"] = [{"id": e.id, "event": e.event, "memory": e.memory} for e in outcome.effects]
    cost = outcome.cost
    if cost.attempts:  # of an LLM; embeddings are asked for many records at once
        tokens = {"prompt": cost.prompt_tokens, "completion": cost.completion_tokens}
        line |= {"attempts": cost.attempts, "tokens": tokens}
    line["ms"] = cost.ms
    if outcome.notes:
        line["notes"] = list(outcome.notes)
    if outcome.error is not None:
        line["error"] = error_as_json(outcome.error)
    return line


def _reject_line(item: Rejected) -> dict[str, Any]:
    where = item.source
    line: dict[str, Any] = {"type": "record", "file": where.file, "line": where.line, "status": "rejected"}
    if where.column is not None:
        line["column"] = where.column
    return {**line, "error": {"code": item.code, "message": item.message, "retryable": False}}


def summary_of(report: Report, job: str, *, signalled: int | None = None) -> dict[str, Any]:
    """The last JSON object of a run. A run that was *signalled* dies of that, which a shell sees as 128 + its number."""
    tally = report.tally
    summary: dict[str, Any] = {"type": "summary", "job": job, "read": tally.read}
    summary |= {status: tally.by_status[status] for status in STATUSES}
    summary |= {"memories": tally.memories, "undated": tally.undated, "seconds": round(report.seconds, 3)}
    summary |= {"to_retry": report.to_retry, "parked": report.parked}
    summary |= as_json(report.spent)
    summary["rejects"] = None if report.rejects is None else str(report.rejects)
    error = gravest_error(report.errors)
    if error is not None:
        summary["error"] = error_as_json(error)
    reason = report.stop_reason if error is None else stop_reason_of(error)
    code = int(exit_of_report(report))
    if signalled is not None:
        reason, code = "signal", 128 + signalled
    return {**summary, "stop_reason": reason, "exit_code": code}


def _summary_line(report: Report, mark: str) -> str:
    tally = report.tally
    if not tally.read and report.stop_reason == "end":
        return f"{mark} nothing new to read".strip()
    parts = [f"{tally.by_status['added']:,} added ({counted(tally.memories, 'memory', 'memories')})"]
    parts += [
        f"{tally.by_status[status]:,} {status.replace('_', ' ')}" for status in STATUSES[1:] if tally.by_status[status]
    ]
    rate = tally.read / report.seconds if report.seconds > 0 else 0.0
    stopped = "" if report.stop_reason == "end" else f" · stopped: {report.stop_reason.replace('_', ' ')}"
    if _STOPPED.get(report.stop_reason) == Exit.LATER:
        stopped += "; the same command does the rest"
    took = " · ".join(filter(None, [f"{report.seconds:.1f} s", f"{rate:,.0f}/s", in_words(report.spent)]))
    line = f"{mark} {' · '.join(parts)}   {took}{stopped}"
    return line.strip()
