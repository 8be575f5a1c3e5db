"""What a run said until something ended it, and whether all of that is in the store."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from checker import check
from crash.kill import write_records
from program import Powermem

RECORDS = 1500  # more than a pipe holds acknowledgements of: a run nobody listens to can't end


def written(powermem: Powermem, records: int = RECORDS, seed: int = 5) -> Path:
    path = powermem.folder / "talks.jsonl"
    write_records(path, records, random.Random(seed))
    return path


def listen(process: subprocess.Popen[bytes], lines: int = 1) -> bytes:
    assert process.stdout is not None
    return b"".join(process.stdout.readline() for _ in range(lines))


def end_of(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """The rest of stdout (communicate() would forget what was read ahead), and stderr."""
    if process.stdin is not None:
        process.stdin.close()
    assert process.stdout is not None
    assert process.stderr is not None
    rest = process.stdout.read(), process.stderr.read()
    process.wait()
    return rest


def all_is_there(powermem: Powermem, talks: Path, *said: bytes | str, complete: bool = True) -> bool:
    """The checker finds nothing wrong with the store and what its runs *said*; half a line was never said."""
    heard = b"".join(part.encode() if isinstance(part, str) else part for part in said)
    acknowledged = powermem.folder / "acks.jsonl"
    acknowledged.write_bytes(b"".join(line for line in heard.splitlines(keepends=True) if line.endswith(b"\n")))
    found = check(powermem.database, acknowledged, talks, complete=complete)
    print(found)
    return not found
