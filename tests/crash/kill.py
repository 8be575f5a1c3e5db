"""Kill `powermem add --file` with SIGKILL at random moments, run it again to its end, and let the checker judge.

    python tests/crash/kill.py --kills 50 --records 5000 [--seed N] [--per-trial N] [--no-infer] [--without-ledger]

Every trial has a store and an input of its own. The moments are spread over the whole run: over its time, from the
start of the process to its end, or over what it has acknowledged. Some trials are killed more than once before they
may end.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from checker import Findings, check, conserved, summaries
from program import PROGRAM, Powermem
from trials import options_of

WITHOUT_LEDGER = (sys.executable, str(Path(__file__).with_name("without_ledger.py")))
"""The negative control: the same program with the checkpoint alone. Kills must make it lose or double something."""
USERS = 7
SHAPES = ((4, 512), (4, 64), (16, 32), (1, 128))  # concurrency, batch size
SIXTEEN = ((16, 512), (16, 64), (16, 16), (16, 1))
WORDS = ("tea", "train", "river", "garden", "letter", "cousin", "winter", "piano", "harbour", "bread", "lamp", "bridge")


def write_records(path: Path, number: int, dice: random.Random, repeats: float = 0.05) -> None:
    """Talks and ready memories of several users, with keys and without; some stand there twice."""
    lines: list[str] = []
    for i in range(number):
        said = f"{i} {' '.join(dice.choices(WORDS, k=dice.randint(3, 12)))}"
        record: dict[str, Any] = {"user_id": f"user {dice.randrange(USERS)}"}
        if dice.random() < 0.5:
            record["id"] = f"talk-{i}"
        if dice.random() < 0.5:
            record["memory"] = said
        else:
            answer = {"role": "assistant", "content": "I see."}
            also = {"role": "user", "content": f"and also {said}"}
            record["messages"] = [{"role": "user", "content": said}, answer, *([also] if dice.random() < 0.3 else [])]
        lines.append(dice.choice(lines) if lines and dice.random() < repeats else json.dumps(record))
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


@dataclass
class Figures:
    """What many trials came to."""

    kills: int = 0
    early: int = 0
    """Kills before anything was acknowledged."""
    late: int = 0
    """Runs that had ended when their moment came; no kills."""
    trials: int = 0
    acknowledged: list[int] = field(default_factory=list)
    """Per kill that was not early: records acknowledged by the run that was killed."""
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    broken_promises: int = 0
    damage: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    """Runs that ended with another code than 0, with sums that do not add up, or that added something again."""

    def take(self, found: Findings, *, has_ledger: bool) -> None:
        self.lost += len(found.lost)
        self.doubled += len(found.doubled)
        self.foreign += len(found.foreign)
        self.broken_promises += len(found.broken_promises)
        self.damage += found.damage if has_ledger else []

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.foreign or self.broken_promises or self.damage or self.unsound)

    def __str__(self) -> str:
        span = f"{min(self.acknowledged)} to {max(self.acknowledged)}" if self.acknowledged else "no"
        return "\n".join(
            [
                f"{self.kills} kills in {self.trials} trials, {self.late} runs had ended before their moment",
                f"{self.early} kills before the first acknowledgement, the others after {span} of them",
                f"lost {self.lost} · doubled {self.doubled} · foreign {self.foreign}",
                f"acknowledged but missing {self.broken_promises}",
                f"damage {len(self.damage)} · unsound runs {len(self.unsound)}",
                *self.damage[:5],
                *self.unsound[:5],
            ]
        )


class Trial:
    """One store and one input, killed and run again until it may end."""

    def __init__(
        self,
        folder: Path,
        records: int,
        dice: random.Random,
        program: tuple[str, ...] = PROGRAM,
        shapes: tuple[tuple[int, int], ...] = SHAPES,
        *,
        infer: bool = True,
    ) -> None:
        self.powermem = Powermem(folder)
        self.input = folder / "talks.jsonl"
        self.said = folder / "acks.jsonl"
        self.said.touch()
        self.program = program
        self.has_ledger = program != WITHOUT_LEDGER
        self.infer = infer
        concurrency, batch = dice.choice(shapes)
        self.command = ("add", "-f", self.input, "--jsonl", "-c", concurrency, "--batch-size", batch)
        self.command += () if infer else ("--no-infer",)
        write_records(self.input, records, dice, repeats=0.05 if self.has_ledger else 0)

    def run(self, *, seconds: float | None = None, lines: int | None = None, options: tuple[str, ...] = ()) -> int:
        """Run the command; kill it after *seconds*, or when it has said so many *lines*. The exit code."""
        with (
            (self.powermem.folder / "stderr").open("w") as err,
            self.powermem.started(
                *self.command, *options, wrapper=self.program, stdin=subprocess.DEVNULL, stderr=err
            ) as process,
        ):
            assert process.stdout is not None
            timer = threading.Timer(seconds or 0, process.kill)
            if seconds is not None:
                timer.start()
            # A pipe that nobody reads on fills up: the run can't end before it is killed.
            said = list(_first(process.stdout, lines))
            if lines is not None:
                process.kill()
                said += process.stdout
            code = process.wait()
            timer.cancel()
        with self.said.open("ab") as file:
            file.writelines(line for line in said if line.endswith(b"\n"))
        self.last_said = len(said)
        return code

    def kill(self, figures: Figures, **moment: Any) -> None:
        """Then look, on a copy, whether all that was acknowledged is there: the program itself must mend the rest."""
        if self.run(**moment) >= 0:
            figures.late += 1
            return
        figures.kills += 1
        if self.last_said:
            figures.acknowledged.append(self.last_said)
        else:
            figures.early += 1
        if self.said.stat().st_size:
            figures.take(self._checked_copy(), has_ledger=self.has_ledger)

    def end(self, figures: Figures) -> None:
        """Run to the end, and once more, which must add nothing."""
        figures.trials += 1
        # Without a ledger, reading all once more would double all, killed or not.
        for options in ((), ("--no-resume",) if self.has_ledger else ()):
            code = self.run(options=options)
            (summary,) = summaries(self.said)[-1:] or [None]
            if code != 0 or summary is None or not conserved(summary):
                err = (self.powermem.folder / "stderr").read_text()[-2000:]
                figures.unsound.append(f"{self.command} {options}: exit code {code}, {summary}, {err}")
                return
            if options and summary["read"] != summary["unchanged"]:
                figures.unsound.append(f"once more: {summary}")
        found = check(self.powermem.database, self.said, self.input, infer=self.infer)
        figures.take(found, has_ledger=self.has_ledger)

    def _checked_copy(self) -> Findings:
        copy = self.powermem.folder / "copy"
        copy.mkdir()
        for path in self.powermem.folder.glob("memories.db*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, copy)
        found = check(copy / "memories.db", self.said, self.input, complete=False, infer=self.infer)
        shutil.rmtree(copy)
        return found


def _first(stream: Any, number: int | None) -> Iterator[bytes]:
    for at, line in enumerate(stream, 1):
        yield line
        if at == number:
            return


def many(
    kills: int,
    records: int,
    seed: int,
    program: tuple[str, ...] = PROGRAM,
    per_trial: Sequence[int] = range(1, 6),
    *,
    infer: bool = True,
) -> Figures:
    """As many trials as it takes to have killed so often; ends early when something was found."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    figures = Figures()
    duration = 0.0
    while figures.clean and figures.kills < kills:
        with tempfile.TemporaryDirectory(prefix="powermem-kill-") as folder:
            trial = Trial(Path(folder), records, dice, program, SHAPES if infer else SIXTEEN, infer=infer)
            if duration:
                for _ in range(min(dice.choice(per_trial), kills - figures.kills)):
                    left = max(2, records - len(trial.said.read_bytes().splitlines()))
                    seconds = dice.uniform(0, 1.1 * duration) * (1 + left / records) / 2
                    trial.kill(figures, **dice.choice(({"seconds": seconds}, {"lines": dice.randrange(1, left)})))
                trial.end(figures)
            else:  # the first is not killed: it shows how long a whole run takes here and now
                started = time.monotonic()
                trial.run()
                duration = time.monotonic() - started
                trial.end(figures)
    return figures


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--per-trial", type=int, default=5, help="most kills of one run before it may end")
    parser.add_argument("--no-infer", action="store_true", help="every record as it is, 16 in flight")
    parser.add_argument("--without-ledger", action="store_true", help="the negative control: this must find something")
    options = parser.parse_args()
    program = WITHOUT_LEDGER if options.without_ledger else PROGRAM
    per_trial = range(1, options.per_trial + 1)
    figures = many(options.kills, options.records, options.seed, program, per_trial, infer=not options.no_infer)
    print(figures)
    return 0 if figures.clean else 1


if __name__ == "__main__":
    sys.exit(main())
