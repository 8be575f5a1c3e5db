"""A log that grows, rotates and breaks off in the middle of a line, while `powermem add` reads it again and again.

    python tests/growing/log.py [--rounds 1000] [--rotate 50] [--seed N]

Each round the writer appends some bytes, wherever in a line they end, and `add` runs on the file; every tenth time it
is this writer that goes on while `add` reads. Rotation is by renaming or by copying and cutting, as logrotate does it;
the rotated file is read once more, as its configuration advises. At the end: nothing lost, nothing doubled, and nothing
rejected, since every line was whole once it had its end.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from checker import check, conserved
from program import Powermem, Result
from trials import options_of

USERS = 5
WORDS = ("tea", "Füße", "河", "garden", "🎹", "letter\\n", "winter", "\u2028", "bridge")


@dataclass
class Figures:
    rounds: int = 0
    rotations: int = 0
    records: int = 0
    halves: int = 0
    """Rounds that ended in the middle of a line."""
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = f"{self.rounds} rounds, {self.halves} in the middle of a line, {self.rotations} rotations"
        return "\n".join([f"{said}, {self.records} records: {len(self.wrong)} wrong", *self.wrong[:5]])


class Writer:
    """Appends records in pieces of any size; the rest of a line waits for the next piece."""

    def __init__(self, log: Path, everything: Path, dice: random.Random) -> None:
        self.log, self._everything, self._dice = log, everything, dice
        self.records = 0
        self._waiting = b""
        log.touch()
        everything.touch()

    def append(self, *, to_the_end: bool = False) -> None:
        while len(self._waiting) < 4000:
            self._waiting += self._record()
        size = self._dice.choice((0, 1, self._dice.randrange(200), self._dice.randrange(4000)))
        if to_the_end:
            size = self._waiting.index(b"\n") + 1
        with self.log.open("ab", buffering=0) as log:
            log.write(self._waiting[:size])
        self._waiting = self._waiting[size:]

    def has_half_a_line(self) -> bool:
        content = self.log.read_bytes()
        return bool(content) and not content.endswith(b"\n")

    def finish(self) -> None:
        with self.log.open("ab") as log:
            log.write(self._waiting)
        self._waiting = b""

    def _record(self) -> bytes:
        said = " ".join(self._dice.choices(WORDS, k=self._dice.randint(1, 20)))
        record = {"user_id": f"user {self.records % USERS}", "memory": f"{self.records} {said}".strip()}
        self.records += 1
        line = f"{json.dumps(record, ensure_ascii=False)}\n".encode()
        with self._everything.open("ab") as everything:
            everything.write(line)
        return line


class Follower:
    """Runs `add` on a file and keeps what it said."""

    def __init__(self, powermem: Powermem, figures: Figures) -> None:
        self._powermem, self._figures = powermem, figures
        self.said = powermem.folder / "acks.jsonl"

    def follow(self, log: Path) -> None:
        done: Result = self._powermem.inside("add", "-f", log, "--no-infer", "--jsonl", "--job", "log")
        with self.said.open("a", encoding="utf-8") as said:
            said.write(done.out)
        if done.code != 0 or not conserved(done.summary) or done.summary["rejected"]:
            self._figures.wrong.append(f"round {self._figures.rounds}: {done.code} {done.out[-300:]} {done.err[-300:]}")


def rotate(log: Path, number: int, dice: random.Random) -> Path:
    """By another name and a new file, or by a copy of what is there and cutting it."""
    old = log.with_name(f"log-{number}.jsonl")
    if dice.random() < 0.5:
        log.rename(old)
        log.touch()
    else:
        shutil.copy(log, old)
        with log.open("r+b") as file:
            file.truncate(0)
    return old


def go_on(writer: Writer, stop: threading.Event) -> None:
    while not stop.is_set():
        writer.append()
        time.sleep(0.001)


def follow(rounds: int, rotate_every: int, seed: int) -> Figures:
    print(f"seed {seed}")
    dice, figures = random.Random(seed), Figures()
    with tempfile.TemporaryDirectory(prefix="powermem-log-") as name:
        powermem = Powermem(Path(name))
        log, everything = powermem.folder / "log.jsonl", powermem.folder / "everything"
        writer, follower = Writer(log, everything, dice), Follower(powermem, figures)
        for number in range(1, rounds + 1):
            figures.rounds = number
            writer.append()
            if number % 10 == 0:
                stop = threading.Event()
                thread = threading.Thread(target=go_on, args=(writer, stop))
                thread.start()
                follower.follow(log)
                stop.set()
                thread.join()
            else:
                figures.halves += writer.has_half_a_line()
                follower.follow(log)
            if number % rotate_every == 0:
                # A program ends its line before it lets go of its file; the line itself may be unread by then.
                writer.append(to_the_end=True)
                figures.rotations += 1
                old = rotate(log, figures.rotations, dice)
                writer.append()
                follower.follow(log)
                follower.follow(old)
        writer.finish()
        follower.follow(log)
        figures.records = writer.records
        found = check(powermem.database, follower.said, everything, infer=False)
        figures.wrong += [str(found)] if found else []
    return figures


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--rotate", type=int, default=50)
    options = parser.parse_args()
    figures = follow(options.rounds, options.rotate, options.seed)
    print(figures)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
