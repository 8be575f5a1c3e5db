"""Four processes and one job: one runs, three step back with 75. How long that takes once a process has started up.

    python tests/crash/locked.py [--rounds 10] [--within 100]

A process has started up when Python and the modules of `add` are loaded, which takes what it takes with or without a
lock. What is measured is the rest: from there until it is about to end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

LOSERS = 3
JOB = ("--job", "one", "--no-infer", "--json")


def be_one(arguments: list[str]) -> None:
    """Be the program, and say on the last line of stderr how many milliseconds it had after its start-up."""
    import powermem_cli.cli
    from powermem_cli import checkpoint, ingestion, memory, readers  # noqa: F401 - they are what is loaded
    from powermem_cli.providers import local  # noqa: F401
    from powermem_cli.stores import sqlite  # noqa: F401

    powermem_cli.cli.build(["add"])
    started = time.perf_counter()
    try:
        powermem_cli.cli.main(["add", *arguments])
    finally:
        print(f"\n{(time.perf_counter() - started) * 1000:.1f}", file=sys.stderr)


def one_round(folder: Path) -> tuple[list[float], list[str]]:
    """Milliseconds of those that stepped back, and what was wrong."""
    from program import PROGRAM, Powermem

    powermem, pipe = Powermem(folder), folder / "pipe"
    file = powermem.write("in.jsonl", {"memory": "x"})
    os.mkfifo(pipe)
    options = {"env": powermem.environ, "cwd": folder, "stdin": subprocess.DEVNULL}
    holder = subprocess.Popen(
        [*PROGRAM, "add", "-f", pipe, *JOB], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options
    )
    times, wrong = [], []
    with pipe.open("w") as writer:  # which waits until the holder reads, and so has the lock
        writer.write('{"memory": "held"}\n')
        writer.flush()
        losers = [
            subprocess.Popen(
                [sys.executable, __file__, "--be", "-f", str(file), *JOB],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                **options,
            )
            for _ in range(LOSERS)
        ]
        for loser in losers:
            out, err = loser.communicate()
            said = json.loads(out) if out else {}
            if (
                loser.returncode != 75
                or said.get("code") != "job.locked"
                or f"process {holder.pid}" not in said["message"]
            ):
                wrong.append(f"one ended with {loser.returncode}: {said} {err.decode()[-300:]}")
            else:
                times.append(float(err.split()[-1]))
    out, _ = holder.communicate()
    if holder.returncode != 0 or json.loads(out)["added"] != 1:
        wrong.append(f"the one that ran ended with {holder.returncode}: {out.decode()[-300:]}")
    return times, wrong


def rounds(number: int) -> tuple[list[float], list[str]]:
    times, wrong = [], []
    for _ in range(number):
        with tempfile.TemporaryDirectory(prefix="powermem-locked-") as name:
            took, found = one_round(Path(name))
        times, wrong = times + took, wrong + found
    return times, wrong


def main() -> int:
    if sys.argv[1:2] == ["--be"]:
        be_one(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--within", type=float, default=100, help="milliseconds that are allowed")
    options = parser.parse_args()
    times, wrong = rounds(options.rounds)
    slow = [took for took in times if took > options.within]
    said = f"{options.rounds} rounds: {options.rounds} ran, {len(times)} of {options.rounds * LOSERS} ended with 75"
    when = f"{statistics.median(times):.0f} ms after their start-up, at most {max(times):.0f}" if times else "never"
    print("\n".join([f"{said}, {when}; {len(slow)} too late, {len(wrong)} wrong", *wrong[:5]]))
    return 1 if wrong or slow else 0


if __name__ == "__main__":
    sys.exit(main())
