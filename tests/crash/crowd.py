"""Many processes add to one store at once, each its own job; random ones are killed and started again; one reads meanwhile.

    python tests/crash/crowd.py [--processes 8] [--seconds 60] [--records 200] [--seed N]

A process that has ended gets the next file. The files overlap: what two of them hold must still be there once.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import apsw
from checker import check, conserved, summaries
from crash.kill import write_records
from program import PROGRAM, Powermem
from trials import options_of

SHARED = 4  # one record in so many is also in the file before


@dataclass
class Figures:
    kills: int = 0
    ended: int = 0
    """Runs that came to their end."""
    records: int = 0
    reads: list[float] = field(default_factory=list)
    """Seconds each."""
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        waits = sorted(self.reads)
        p99 = waits[int(len(waits) * 0.99)] * 1000 if waits else 0
        said = f"{self.ended} runs ended, {self.kills} were killed, {self.records} records"
        return "\n".join([f"{said}; {len(waits)} reads, p99 {p99:.1f} ms: {len(self.wrong)} wrong", *self.wrong[:5]])


class Worker:
    """One place in the crowd: a file, run until it has ended, killed on the way."""

    def __init__(self, powermem: Powermem, number: int, records: Path) -> None:
        self.input = records
        self.said = powermem.folder / f"acks-{number}.jsonl"
        self.err = powermem.folder / f"err-{number}"
        self._powermem = powermem
        self._command = [*PROGRAM, "add", "-f", str(records), "--no-infer", "--jsonl", "--batch-size", "32"]
        self.start()

    def start(self) -> None:
        with self.said.open("ab") as said, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                self._command,
                env=self._powermem.environ,
                cwd=self._powermem.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=err,
            )

    def kill(self) -> bool:
        """And start it again; False if it had ended."""
        self.process.kill()
        if self.process.wait() >= 0:
            return False
        whole = b"".join(line for line in self.said.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))
        self.said.write_bytes(whole)
        self.start()
        return True


def files(folder: Path, records: int, dice: random.Random) -> Iterator[Path]:
    """Records that no other file has, but for the last of the one before."""
    before: list[str] = []
    number = 0
    while True:
        path = folder / f"in-{number}.jsonl"
        write_records(path, records, dice, repeats=0)
        own = [line.replace('"user ', f'"file {number} user ') for line in path.read_text("utf-8").splitlines()]
        path.write_text("".join(f"{line}\n" for line in [*before, *own]), "utf-8")
        before = own[-records // SHARED :]
        number += 1
        yield path


def read(database: Path, stop: threading.Event, figures: Figures) -> None:
    """Ask again and again how many memories there are: never an error, never fewer."""
    seen = 0
    while not stop.wait(0.01):
        if not database.exists() or not database.stat().st_size:
            continue
        started = time.perf_counter()
        try:
            connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(30_000)  # whoever comes first after a kill mends the -wal, the others wait
            if next(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'memories'"))[0]:
                (now,) = next(connection.execute("SELECT count(*) FROM memories"))
                if now < seen:
                    figures.wrong.append(f"{seen} memories were there, then {now}")
                seen = now
            connection.close()
        except apsw.Error as error:
            figures.wrong.append(f"a reader got {error!r}")
        figures.reads.append(time.perf_counter() - started)


def crowd(processes: int, seconds: float, records: int, seed: int) -> Figures:
    """Let them work for *seconds*, then come to their ends."""
    print(f"seed {seed}")
    dice, figures = random.Random(seed), Figures()
    with tempfile.TemporaryDirectory(prefix="powermem-crowd-") as name:
        powermem, stop = Powermem(Path(name)), threading.Event()
        source = files(powermem.folder, records, dice)
        workers = [Worker(powermem, number, next(source)) for number in range(processes)]
        every = list(workers)
        reader = threading.Thread(target=read, args=(powermem.database, stop, figures))
        reader.start()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(dice.uniform(0, 2 / processes))
            at = dice.randrange(processes)
            if workers[at].process.poll() is None:
                figures.kills += workers[at].kill()
            for at, worker in enumerate(workers):
                if worker.process.poll() is not None:
                    workers[at] = Worker(powermem, len(every), next(source))
                    every.append(workers[at])
        for worker in every:
            worker.process.wait()
        stop.set()
        reader.join()
        judge(powermem, every, figures)
    return figures


def judge(powermem: Powermem, workers: list[Worker], figures: Figures) -> None:
    everything, said = powermem.folder / "all.jsonl", powermem.folder / "acks.jsonl"
    everything.write_bytes(b"".join(worker.input.read_bytes() for worker in workers))
    said.write_bytes(b"".join(worker.said.read_bytes() for worker in workers))
    figures.records = len(
        {json.dumps(json.loads(line)) for line in everything.read_text(encoding="utf-8").splitlines()}
    )
    for worker in workers:
        (last,) = summaries(worker.said)[-1:] or [None]
        figures.ended += worker.process.returncode == 0
        if worker.process.returncode != 0 or last is None or not conserved(last):
            figures.wrong.append(f"{worker.input.name}: {worker.process.returncode}, {worker.err.read_text()[-300:]}")
        if b"database is locked" in worker.err.read_bytes() or b"Traceback" in worker.err.read_bytes():
            figures.wrong.append(f"{worker.input.name}: {worker.err.read_text()[-300:]}")
    found = check(powermem.database, said, everything, infer=False)
    figures.wrong += [str(found)] if found else []


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--records", type=int, default=200)
    options = parser.parse_args()
    figures = crowd(options.processes, options.seconds, options.records, options.seed)
    print(figures)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
