"""powermem, which on SIGUSR1 says what it holds: a line of JSON for each, into the file named first.

python tests/endurance/watched.py FILE add - --jsonl
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
import time
from pathlib import Path


def say(file: Path) -> None:
    """Called between two steps of whatever runs, in the thread of the loop."""
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:  # no loop runs
        return
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    held = {
        "at": time.monotonic(),
        # Of its own: pages of the database that are mapped are the system's, which takes them back.
        "megabytes": int(status["RssAnon"].split()[0]) / 1000,
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "tasks": tasks,
        "threads": threading.active_count(),
    }
    with file.open("a") as said:
        said.write(f"{json.dumps(held)}\n")


if __name__ == "__main__":
    said = Path(sys.argv.pop(1))
    signal.signal(signal.SIGUSR1, lambda _number, _frame: say(said))
    said.touch()  # from now on the signal does no harm
    from powermem_cli.__main__ import main

    main()
