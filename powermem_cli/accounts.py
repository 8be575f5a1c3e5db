"""What was asked of providers, stage by stage: of one run, and of all runs on one store."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal

from powermem_cli.files import make_folder, open_private, write_all
from powermem_cli.providers.base import Usage

Stage = Literal["extract", "decide", "embed", "rerank"]
Spent = Mapping[str, Usage]
"""Stage → what it asked for. A stage that asked for nothing need not be in it."""

FOLDER: Final = "spent"
_NUMBERS: Final = ("calls", "retries", "rate_limited", "prompt_tokens", "completion_tokens")


def since(before: Spent, after: Spent) -> dict[str, Usage]:
    """What lies between two looks at one account."""
    between = {stage: usage - before.get(stage, Usage()) for stage, usage in after.items()}
    return {stage: usage for stage, usage in between.items() if usage.calls}


def total(spent: Spent) -> Usage:
    return sum(spent.values(), Usage())


def as_json(spent: Spent) -> dict[str, Any]:
    """`http` and `tokens` of all stages together, and of each."""
    usage = total(spent)
    return {**_as_json(usage), "stages": {stage: _as_json(usage) for stage, usage in spent.items()}}


def in_words(spent: Spent) -> str:
    """`1,190 calls (900 extract, 290 embed; 311 again) · ~2,900,000 tokens`; empty if nobody was asked."""
    usage = total(spent)
    if not usage.calls:
        return ""
    mark = "~" if usage.estimated else ""
    calls = f"{usage.calls:,} call{'' if usage.calls == 1 else 's'}"
    asked = [f"{one.calls:,} {stage}" for stage, one in spent.items() if one.calls]
    notes = [", ".join(asked)] if len(asked) > 1 else []
    notes += [f"{usage.retries:,} again"] if usage.retries else []
    calls += f" ({'; '.join(notes)})" if notes else ""
    return f"{calls} · {mark}{usage.prompt_tokens + usage.completion_tokens:,} tokens"


def note(state: Path, store: str, spent: Spent) -> None:
    """Add what a run spent to the account of *store*, a file in the folder *state*. Raises OSError.

    One line, written at once: runs at the same time do not disturb each other. A file of each month bounds its size.
    """
    stages = {stage: asdict(usage) for stage, usage in spent.items() if usage.calls}
    if not stages:
        return
    folder = _folder(state, store)
    make_folder(folder)
    line = json.dumps({"at": round(time.time()), "stages": stages}, separators=(",", ":"))
    with open_private(folder / time.strftime("%Y-%m.jsonl", time.gmtime()), "a") as file:
        write_all(file, line.encode() + b"\n")


def noted(state: Path, store: str) -> dict[str, Usage]:
    """All that was noted for *store*. A line that was never written whole counts as nothing. Raises OSError."""
    spent: dict[str, Usage] = {}
    with suppress(FileNotFoundError):
        for file in sorted(_folder(state, store).iterdir()):
            for line in file.read_bytes().splitlines():
                for stage, usage in _read(line):
                    spent[stage] = spent.get(stage, Usage()) + usage
    return spent


def _folder(state: Path, store: str) -> Path:
    """*store* is what a database says of itself: whatever that is, it names a folder below ours."""
    is_name = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", store) is not None
    return (
        state / FOLDER / (store if is_name else blake2b(store.encode("utf-8", "replace"), digest_size=16).hexdigest())
    )


def _as_json(usage: Usage) -> dict[str, Any]:
    return {
        "http": {"calls": usage.calls, "retries": usage.retries, "rate_limited": usage.rate_limited},
        "tokens": {
            "prompt": usage.prompt_tokens,
            "completion": usage.completion_tokens,
            "estimated": usage.estimated,
        },
    }


def _read(line: bytes) -> Iterable[tuple[str, Usage]]:
    try:
        stages = json.loads(line)["stages"]
        return [
            (stage, Usage(**{name: int(usage[name]) for name in _NUMBERS}, estimated=bool(usage["estimated"])))
            for stage, usage in stages.items()
        ]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return ()
