"""One `powermem add` that is fed for a whole day, while one call in twenty to its provider fails.

    python tests/endurance/day.py [--hours 24] [--rate 58] [--faults 0.05] [--seed N]

What it holds must not grow: memory (but for what it keeps of every record by design), open files, tasks, threads, the
-wal. At its end what it acknowledged is compared with the store. With 58 records a second a day has five million; the
checker then wants some 4 GB of memory.
"""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).parents[1]))

from checker import check, conserved, summaries
from fake_api import DIMS, FakeApi, Reply, Request
from program import PROGRAM, Powermem, Result
from trials import options_of

WATCHED = (sys.executable, str(Path(__file__).with_name("watched.py")))
USERS = 20
WORDS = ("tea", "train", "river", "garden", "letter", "cousin", "winter", "piano", "harbour", "bread", "lamp", "bridge")
HELD_OF_A_RECORD = 32e-6  # MB: two hashes and the rows they lead to, in memory as long as the store is open
MOST_MEGABYTES = 1.0
"""How much more an hour may bring."""
MOST = {"files": 64, "tasks": 64, "threads": 16}
"""At any time: connections and calls in flight come and go."""
TELLING = 2
"""Hours that a run has to take for its memory to be judged,"""
SETTLING = 0.5
"""without the first of them, in which the allocator and the last of the caches settle."""
WARM_UP = 60_000
"""Records that are sent as fast as they are taken, before anything is measured: by then SQLite's caches are full."""
LARGEST_WAL = 64e6
AT_ONCE = 50  # lines: a look is due though the program may be slower than the rate
RETRIES = 20  # runs, after which what failed should have got through
FAULTS = (
    Reply(500),
    Reply(503, headers={"Retry-After": "0"}),
    Reply(429, headers={"Retry-After": "0"}),
    Reply(raw=b""),
    Reply(cut=20),
    Reply(cut=5, reset=True),
    Reply(body=b"<html>one moment</html>"),
    Reply(delay=3),
)


@dataclass
class Trend:
    """A line through what was seen, per hour; *error* is its standard error."""

    rise: float
    error: float
    first: float
    last: float

    def __str__(self) -> str:
        return f"{self.first:.1f} → {self.last:.1f} ({self.rise:+.2f} ± {self.error:.2f} an hour)"


def trend(seconds: list[float], values: list[float]) -> Trend:
    """By least squares."""
    hours = [(one - seconds[0]) / 3600 for one in seconds]
    middle, mean = sum(hours) / len(hours), sum(values) / len(values)
    spread = sum((hour - middle) ** 2 for hour in hours)
    pairs = list(zip(hours, values, strict=True))
    rise = sum((hour - middle) * (value - mean) for hour, value in pairs) / spread
    left = sum((value - mean - rise * (hour - middle)) ** 2 for hour, value in pairs)
    return Trend(rise, math.sqrt(left / max(1, len(pairs) - 2) / spread), values[0], values[-1])


@dataclass
class Figures:
    hours: float = 0
    read: int = 0
    calls: int = 0
    faults: int = 0
    searches: int = 0
    retried: int = 0
    """Records that failed in the long run and got through in a later one."""
    largest_wal: int = 0
    trends: dict[str, Trend] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = f"{self.hours:.2f} h, {self.read:,} records, {self.calls:,} calls, {self.faults:,} of them failed"
        more = f"{self.searches} searches meanwhile, {self.retried} records in a later run"
        held = [f"{name}: {seen}" for name, seen in self.trends.items()]
        wal = f"largest -wal: {self.largest_wal / 1e6:.1f} MB"
        return "\n".join([said, more, *held, f"{wal}: {len(self.wrong)} wrong", *self.wrong[:5]])


def lines(dice: random.Random) -> Iterator[tuple[bytes, bool]]:
    """Records, and whether they are some; now and then one that was there before."""
    number, before = 0, b'{"memory": "the first"}\n'
    while True:
        number += 1
        said = f"{number} {' '.join(dice.choices(WORDS, k=dice.randint(3, 12)))}"
        if dice.random() < 0.01:
            yield b'{"memory": "' + said.encode() + b"\n", False
        elif dice.random() < 0.01:
            yield before, True
        else:
            talk = [{"role": "user", "content": said}, {"role": "assistant", "content": "I see."}]
            content = {"memory": said} if dice.random() < 0.5 else {"messages": talk}
            before = json.dumps({"user_id": f"user {number % USERS}", **content}).encode() + b"\n"
            yield before, True


class Day:
    """The program under way, and what is seen of it."""

    def __init__(self, folder: Path, api: FakeApi, faults: float, seed: int, warm_up: int = WARM_UP) -> None:
        self.powermem = Powermem(folder)
        self.powermem.environ |= {
            "EMBEDDING_PROVIDER": "openai",
            "EMBEDDING_API_KEY": "sk-test",
            "EMBEDDING_MODEL": "fake",
            "EMBEDDING_DIMS": str(DIMS),
            "OPENAI_EMBEDDING_BASE_URL": api.url,
            "POWERMEM_TIMEOUT": "2",
        }
        self.figures = Figures()
        self.said, self.input, self._held = (folder / name for name in ("acks.jsonl", "in.jsonl", "held.jsonl"))
        self._dice, self._faults, self._api = random.Random(seed), faults, api
        self._broken = 0
        self._warm_up = warm_up
        self._sent: list[tuple[float, int]] = []  # when it was looked, records sent by then
        api.rule = self._answer

    def _answer(self, _request: Request) -> Reply | None:
        self.figures.calls += 1
        if self._dice.random() >= self._faults:
            return None
        self.figures.faults += 1
        return self._dice.choice(FAULTS)

    def pass_by(self, hours: float, rate: float) -> None:
        err = self.powermem.folder / "err"
        options = ("add", "-", "--format", "jsonl", "--job", "day", "--no-infer", "--jsonl", "--progress", "none")
        with (
            self.said.open("wb") as said,
            err.open("wb") as talk,
            self.powermem.started(*options, wrapper=(*WATCHED, str(self._held)), stdout=said, stderr=talk) as process,
        ):
            assert process.stdin is not None
            self._feed(process, process.stdin, hours, rate)
            process.stdin.close()
            code = process.wait()
        self._judge_end(code, err.read_text("utf-8"))

    def _feed(self, process: subprocess.Popen[bytes], stdin: BinaryIO, hours: float, rate: float) -> None:
        while not self._held.exists():
            time.sleep(0.01)
        source = lines(random.Random(self._dice.random()))
        every = min(60.0, max(1.0, hours * 3600 / 600))
        looks = 0
        with self.input.open("wb") as kept:

            def send(number: int) -> None:
                for line, is_record in islice(source, number):
                    kept.write(line if is_record else b"")
                    self._broken += not is_record
                    stdin.write(line)
                    self.figures.read += 1
                stdin.flush()

            send(self._warm_up)
            started = time.monotonic()
            while (passed := time.monotonic() - started) < hours * 3600 and process.poll() is None:
                send(max(0, min(AT_ONCE, self._warm_up + int(passed * rate) - self.figures.read)))
                if passed >= looks * every:
                    looks += 1
                    self._look(process, ask=looks % 60 == 0)
                time.sleep(0.05)
        self.figures.hours = (time.monotonic() - started) / 3600

    def _look(self, process: subprocess.Popen[bytes], *, ask: bool) -> None:
        process.send_signal(signal.SIGUSR1)
        self._api.requests.clear()
        self._sent.append((time.monotonic(), self.figures.read))
        wal = self.powermem.database.with_name(f"{self.powermem.database.name}-wal")
        self.figures.largest_wal = max(self.figures.largest_wal, wal.stat().st_size if wal.exists() else 0)
        if ask:
            found = self.powermem("search", "tea in winter", "--mode", "keyword", "--json")
            self.figures.searches += 1
            if found.code or not found.json["results"]:
                self.figures.wrong.append(f"search: {found.code} {found.err[-300:]}")

    def _judge_end(self, code: int, err: str) -> None:
        figures = self.figures
        (summary,) = summaries(self.said)[-1:] or [None]
        if code not in {0, 3} or summary is None or not conserved(summary) or "Traceback" in err:
            figures.wrong.append(f"exit code {code}, {summary}, {err[-2000:]}")
            return
        if (summary["read"], summary["rejected"]) != (figures.read, self._broken):
            figures.wrong.append(f"{figures.read} were sent, {self._broken} of them broken: {summary}")
        self._until_nothing_fails(summary["to_retry"])
        found = check(self.powermem.database, self.said, self.input, infer=False)
        figures.wrong += [str(found)] if found else []

    def _until_nothing_fails(self, to_retry: int) -> None:
        self.figures.retried = to_retry
        for _ in range(RETRIES):
            if not to_retry:
                return
            done: Result = self.powermem("jobs", "retry", "day", "--jsonl", wrapper=PROGRAM)
            with self.said.open("a", encoding="utf-8") as said:
                said.write(done.out)
            to_retry = done.summary["to_retry"]
        self.figures.wrong.append(f"{to_retry} records never got through")

    def judge_what_it_held(self) -> None:
        """Of memory, what is not the hashes of ever more records."""
        held = [json.loads(line) for line in self._held.read_text("utf-8").splitlines()]
        if self.figures.hours >= TELLING:
            held = [one for one in held if one["at"] - held[0]["at"] >= SETTLING * 3600]
        seconds = [one["at"] for one in held]  # by the same clock; a look may have come to nothing
        sent = [self._sent[max(0, bisect(self._sent, (at, 0)) - 1)][1] for at in seconds]
        for name in ("megabytes", *MOST):
            own = HELD_OF_A_RECORD if name == "megabytes" else 0
            values = [one[name] - own * records for one, records in zip(held, sent, strict=True)]
            self.figures.trends[name] = trend(seconds, values)
            if name in MOST and (most := max(one[name] for one in held)) > MOST[name]:
                self.figures.wrong.append(f"{most} {name} at once")
        memory = self.figures.trends["megabytes"]
        if self.figures.hours >= TELLING and memory.rise - 3 * memory.error > MOST_MEGABYTES:
            self.figures.wrong.append(f"memory grows: {memory}")
        if self.figures.largest_wal > LARGEST_WAL:
            self.figures.wrong.append(f"the -wal had {self.figures.largest_wal:,} bytes")


def endure(hours: float, rate: float, faults: float, seed: int, warm_up: int = WARM_UP) -> Figures:
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="powermem-day-") as folder, FakeApi(latency=0.02) as api:
        day = Day(Path(folder), api, faults, seed, warm_up)
        day.pass_by(hours, rate)
        day.judge_what_it_held()
    return day.figures


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--rate", type=float, default=58, help="records a second")
    parser.add_argument("--faults", type=float, default=0.05, help="share of the calls that fail")
    options = parser.parse_args()
    figures = endure(options.hours, options.rate, options.faults, options.seed)
    print(figures)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
