"""What a job kept of a record that failed, as the record it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from powermem_cli.errors import InvalidInput
from powermem_cli.identity import identify
from powermem_cli.model import Rejected, Retried, Source
from powermem_cli.readers.base import Reading
from powermem_cli.readers.record import RecordMaker


def as_retried(line: Mapping[str, Any], kept_in: str) -> Retried | Rejected:
    """The record of a line that `as_reject_line` made, where it stood and as it was. What it holds has been read once:
    no option of a later run changes it.

    If it is another now it is Rejected, and stands in the file that it was *kept_in*.
    """
    try:
        source = Source(str(line["file"]), int(line["line"] or 0), int(line["byte"] or 0), line["column"])
        record = RecordMaker(Reading(format="jsonl")).make(line["record"], source, 0)
        if identify(record).content.hex() == line["content"]:
            return Retried(*[getattr(record, field.name) for field in fields(record)])
        problem = "it is not what it was"
    except (InvalidInput, KeyError, TypeError, ValueError) as error:
        problem = str(error)
    stood = f"{line.get('file')}:{line.get('line')}"
    raw = json.dumps(line.get("record"), ensure_ascii=False)
    message = f"what was kept of a record that failed ({stood}) is damaged: {problem}"
    return Rejected("job.damaged", message, Source(kept_in, 1, 0), raw)
