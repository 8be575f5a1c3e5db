"""End `powermem add` at a chosen operation on its files, by SIGKILL or by a power cut, run it again, let the checker judge.

    python tests/crash/cut.py every [--step N] [--first N] [--without-ledger]  # SIGKILL before every write, sync …
    python tests/crash/cut.py power [--trials N] [--seed N] [--normal]  # power cuts at any of them

Both work on a job of 30 records (`every`) or 200 (`power`) in small transactions, with a checkpoint after each.
--without-ledger and --normal (`synchronous=NORMAL`) are the negative controls: they must find harm. Programs are
forked from this process, which has loaded them once.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import apsw
from checker import Findings, check, conserved, summaries
from crash.disk import LEFT, Disk
from crash.kill import write_records
from trials import options_of

import powermem_cli.cli
from powermem_cli import checkpoint
from powermem_cli.stores import sqlite_connection

USELESS = '{"memory": 7}\n'  # rejected, so that there is a file of rejects
DIED = -9


@dataclass
class Harm:
    """What went wrong in many trials, each with its operation."""

    trials: int = 0
    cuts: int = 0
    """Trials that did not end before their operation came."""
    promised: int = 0
    """Records acknowledged before a cut, in sum."""
    found: list[str] = field(default_factory=list)

    def take(self, where: str, found: Findings) -> None:
        self.found += [f"{where}: {found}"] if found else []

    def __str__(self) -> str:
        said = f"{self.cuts} cuts in {self.trials} trials, {self.promised} records acknowledged before them"
        return "\n".join([f"{said}: {len(self.found)} with harm", *self.found[:3]])


class Place:
    """A store, an input and what was said, in a folder of their own."""

    def __init__(self, folder: Path, records: int, *, repeats: float = 0.05) -> None:
        self.folder = folder
        self.database = folder / "memories.db"
        self.records = folder / "records.jsonl"
        self.input = folder / "input.jsonl"
        self.said = folder / "acks.jsonl"
        write_records(self.records, records, random.Random(1), repeats)
        lines = self.records.read_text("utf-8").splitlines(keepends=True)
        self.input.write_text(
            "".join(USELESS + line if at % 10 == 5 else line for at, line in enumerate(lines)), "utf-8"
        )
        self.rejected = self.input.read_text("utf-8").count(USELESS)

    def run(self, prepare: Callable[[], object] | None, *options: str) -> int:
        """The program in a fork of this process, its stdout behind what was said before. Its exit code, or -signal."""
        child = os.fork()
        if not child:
            _become(self, prepare, options)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def cut(self, disk: Disk) -> int:
        """Run until the disk says no more; after a power cut, put what it left in place of what was there."""
        code = self.run(disk.install)
        left = self.folder / LEFT
        if left.exists():
            self.restart(left)
        self.said.write_bytes(
            b"".join(line for line in self.said.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))
        )
        return code

    def restart(self, left: Path) -> None:
        os.truncate(self.said, int((left / "said").read_text()))
        for path in self.folder.glob("memories.db-shm"):
            path.unlink()
        files = left / "files"
        for path in filter(Path.is_file, files.rglob("*")):
            target = self.folder / path.relative_to(files)
            if path.suffix == ".gone":
                target.with_suffix("").unlink(missing_ok=True)
            else:
                path.replace(target)
        shutil.rmtree(left)

    def look(self) -> Findings:
        """At a copy, whether what was acknowledged is there: the program itself must mend the rest."""
        copy = self.folder / "copy"
        copy.mkdir()
        for path in self.folder.glob("memories.db*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, copy)
        found = check(copy / "memories.db", self.said, self.records, complete=False)
        shutil.rmtree(copy)
        return found

    def end(self, prepare: Callable[[], object] | None, *, has_ledger: bool) -> Iterator[str]:
        """Run to the end, and once more; what is wrong then."""
        for options in ((), ("--no-resume",) if has_ledger else ()):
            code = self.run(prepare, *options)
            (last,) = summaries(self.said)[-1:] or [None]
            if code not in {0, 3} or last is None or not conserved(last):
                yield f"ended with {code}: {last or (self.folder / 'stderr').read_text()[-400:]}"
                return
            if options and last["read"] != last["unchanged"] + last["rejected"]:
                yield f"once more: {last}"
        found = check(self.database, self.said, self.records)
        if not has_ledger:
            found.damage = []
        if found:
            yield str(found)
        rejects = {
            json.loads(line)["line"]
            for path in self.folder.rglob("rejects.jsonl")
            for line in path.read_text(encoding="utf-8").splitlines()
        }
        if len(rejects) != self.rejected:
            yield f"{self.rejected} lines are no records, {len(rejects)} were set aside"


def _become(place: Place, prepare: Callable[[], object] | None, options: tuple[str, ...]) -> None:
    """Be the program, to the end."""
    code = 70
    try:
        os.chdir(place.folder)
        os.environ.update(HOME=str(place.folder), XDG_STATE_HOME=str(place.folder), SQLITE_PATH=str(place.database))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for number, path in ((0, Path(os.devnull)), (1, place.said), (2, place.folder / "stderr")):
            os.dup2(os.open(path, flags if number else os.O_RDONLY, 0o600), number)
        apsw.randomness(0)  # or all of them would draw the same
        checkpoint.SAVE_EVERY = 0  # type: ignore[misc]
        if prepare is not None:
            prepare()
        powermem_cli.cli.main(["add", "-f", str(place.input), "--jsonl", "--batch-size", "8", *options])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def one(place: Place, disk: Disk, harm: Harm, where: str, prepare: Callable[[], object], *, has_ledger: bool) -> None:
    """One cut, a look, and the way to the end. *prepare* is done to the program that is cut and to the next."""
    install, disk.install = disk.install, lambda: (prepare(), install())  # type: ignore[method-assign]
    code = place.cut(disk)
    harm.trials += 1
    harm.cuts += code == DIED
    promised = len(place.said.read_bytes().splitlines())
    harm.promised += promised
    if code not in {DIED, 3}:
        harm.found.append(f"{where}: exit code {code}, {(place.folder / 'stderr').read_text()[-400:]}")
    if promised:
        found = place.look()
        found.damage = found.damage if has_ledger else []
        harm.take(where, found)
    harm.found += [f"{where}: {said}" for said in place.end(prepare, has_ledger=has_ledger)]


def operations(records: int, prepare: Callable[[], object]) -> int:
    """How many a job that nobody disturbs takes; a few more or less, as its transactions fall."""
    with tempfile.TemporaryDirectory(prefix="powermem-cut-") as folder:
        place = Place(Path(folder), records)
        counted = place.folder / "count"

        def counting() -> None:
            prepare()
            disk = Disk(place.folder)
            disk.install()
            leave = os._exit
            os._exit = lambda code: (counted.write_text(str(disk.count)), leave(code))  # type: ignore[assignment,misc]

        assert place.run(counting) == 3, (place.folder / "stderr").read_text()
        return int(counted.read_text())


def every(records: int = 30, step: int = 1, first: int = 0, *, without_ledger: bool = False) -> Harm:
    """SIGKILL before each operation, or each *step*th."""
    prepare = _without_ledger if without_ledger else _nothing
    number = operations(records, prepare)
    print(f"{number} operations", flush=True)
    harm = Harm()
    for at in range(first, number, step):
        with tempfile.TemporaryDirectory(prefix="powermem-cut-") as folder:
            place = Place(Path(folder), records, repeats=0 if without_ledger else 0.05)
            disk = Disk(place.folder, at=at)
            one(place, disk, harm, f"operation {at}", prepare, has_ledger=not without_ledger)
    return harm


def power(trials: int, seed: int, records: int = 200, *, normal: bool = False) -> Harm:
    """Power cuts at random operations."""
    print(f"seed {seed}", flush=True)  # or each fork would write it once more
    dice = random.Random(seed)
    prepare = _normal if normal else _nothing
    number = operations(records, prepare)
    harm = Harm()
    for trial in range(trials):
        with tempfile.TemporaryDirectory(prefix="powermem-cut-") as folder:
            place = Place(Path(folder), records)
            at = dice.randrange(number)
            disk = Disk(place.folder, at=at, power_cut=random.Random(dice.random()))
            one(place, disk, harm, f"trial {trial}, operation {at}", prepare, has_ledger=True)
    return harm


def _nothing() -> None:
    return


def _normal() -> None:
    """SQLite's own default in WAL mode: a commit is written, and synced some time later."""
    configure = sqlite_connection._configure

    def configured(connection: apsw.Connection, path: Path, *, readonly: bool) -> None:
        configure(connection, path, readonly=readonly)
        connection.execute("PRAGMA synchronous = NORMAL")

    sqlite_connection._configure = configured


def _without_ledger() -> None:
    from crash.without_ledger import switch_off

    switch_off()


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("which", choices=["every", "power"])
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--without-ledger", action="store_true")
    parser.add_argument("--normal", action="store_true", help="synchronous=NORMAL: commits that are not synced")
    options = parser.parse_args()
    powermem_cli.cli.build(["add"])
    if options.which == "every":
        harm = every(step=options.step, first=options.first, without_ledger=options.without_ledger)
    else:
        harm = power(options.trials, options.seed, normal=options.normal)
    print(harm)
    return 1 if harm.found else 0


if __name__ == "__main__":
    sys.exit(main())
