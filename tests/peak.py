"""How much memory a program held at most, with the processes it started: run through a launcher that watches it.

    [*LAUNCHER, FILE, PROGRAM, ARGUMENT …] as a command leaves the MiB in FILE and ends as PROGRAM did.

A process begins with the peak of the one that started it, and that may be a large one: so a small one starts it.
Where there is no /proc, it is the larger of its own peak and that of its largest child.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

_SCRIPT: Final = """
import os, sys, time
from pathlib import Path

def peaks(pid):
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if int(place.name) == pid or parent == pid:
                lines = (place / "status").read_text().splitlines()
                found.update({place.name: int(line.split()[1]) for line in lines if line.startswith("VmHWM")})
        except OSError:
            pass
    return found

pid = os.fork() or os.execv(sys.argv[2], sys.argv[2:])
seen = {}
ended = 0
while not ended:
    for process, size in peaks(pid).items():
        seen[process] = max(size, seen.get(process, 0))
    time.sleep(0.05)
    ended, status, used = os.wait4(pid, os.WNOHANG)
own = used.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
Path(sys.argv[1]).write_text(str(max(own, sum(seen.values()) / 1024)))
sys.exit(os.waitstatus_to_exitcode(status))
"""
LAUNCHER: Final = (sys.executable, "-S", "-c", _SCRIPT)


def peak_in(file: Path) -> float:
    """MiB, as the launcher left it."""
    return float(file.read_text("utf-8"))
