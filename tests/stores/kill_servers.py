"""The same kills as tests/crash/kill.py, with the memories on a database server; or kills of the server or its lines.

    python tests/stores/kill_servers.py postgres|oceanbase [--kills 50] [--records 1000] [--seed N]
    python tests/stores/kill_servers.py postgres|oceanbase --server|--lines [--kills 3] [--records 1000] [--processes 8]

Half of the inputs grow between one run and the next, and may end in the middle of a line. With --server so many
processes ingest an input each into one store, while the server is killed and started again (of OceanBase a release
that survives it, which pip fetches); with --lines all their connections are cut, again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from checker import Findings, acknowledged, wanted
from crash.kill import Figures, Trial
from engines import Postgres, Seekdb, Server, SteadySeekdb, running
from places import OceanBasePlace, Place, PostgresPlace
from program import PROGRAM, Powermem
from relay import Relay

CALIBRATED_FROM = 5
"""Kills. For fewer, it is not worth a run to learn how long one takes: all go by what was acknowledged."""

_numbers = itertools.count()


def new_place(server: Server) -> Place:
    name = f"killed{next(_numbers)}"
    return PostgresPlace(server, name) if isinstance(server, Postgres) else OceanBasePlace(server, name)


def settings(folder: Path, place: Place, options: dict[str, Any]) -> Path:
    """A file for --config that names the place."""
    path = folder / "config.json"
    path.write_text(json.dumps({"vector_store": {"provider": place.engine, "config": options}}), "utf-8")
    return path


def found_in(place: Place, trials: list[Trial], *, complete: bool = True) -> Findings:
    """What is wrong with the tables, looked at behind the store's back."""
    rows = asyncio.run(place.execute(f"SELECT id, user_id, memory FROM {place.collection}"))
    texts = {id: (None if user is None else _text(user), _text(memory)) for id, user, memory in rows}
    ledger = asyncio.run(place.execute(f"SELECT memory_ids FROM {place.collection}_ledger WHERE status = 'done'"))
    expected = set().union(*[wanted(trial.input)[0] for trial in trials])
    found = Findings()
    found.lost = sorted(expected - set(texts.values()), key=str) if complete else []
    found.doubled = [memory for memory, number in Counter(texts.values()).items() if number > 1]
    found.foreign = [memory for memory in texts.values() if memory not in expected]
    for trial in trials:
        promised = [(id, text) for id, text in acknowledged(trial.said) if texts.get(id, ("", ""))[1] != text]
        found.broken_promises += [f"{id}: {text}" for id, text in promised]
    noted = Counter(id for (ids,) in ledger for id in json.loads(ids) if id)
    found.damage = [f"memory {id} is in the ledger {noted[id]} times" for id in texts if noted[id] != 1]
    found.damage += [f"the ledger has memory {id}, the store has not" for id in noted if id not in texts]
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class ServerTrial(Trial):
    """A trial whose store is a place on a server, reached by *options*."""

    def __init__(
        self, folder: Path, records: int, dice: random.Random, place: Place, options: dict[str, Any] | None = None
    ) -> None:
        super().__init__(folder, records, dice)
        self.place = place
        self.command += ("--config", settings(folder, place, options or place.options()))
        self._held_back = b""

    def hold_back(self, dice: random.Random) -> None:
        """From now on the input ends somewhere, till it grows."""
        content = self.input.read_bytes()
        end = dice.randrange(len(content))
        self.input.write_bytes(content[:end])
        self._held_back = content[end:]

    def grow(self, size: int) -> None:
        with self.input.open("ab") as file:
            file.write(self._held_back[:size])
        self._held_back = self._held_back[size:]

    def _checked_copy(self) -> Findings:
        return found_in(self.place, [self], complete=False)

    def end(self, figures: Figures) -> None:
        self.grow(len(self._held_back))
        figures.trials += 1
        for options in ((), ("--no-resume",)):
            code = self.run(options=options)
            if code != 0:
                figures.unsound.append(f"{self.command} {options}: exit code {code}")
        figures.take(found_in(self.place, [self]), has_ledger=True)


def kill_the_program(server: Server, kills: int, records: int, seed: int) -> Figures:
    """As many trials as it takes to have killed so often; ends early when something was found."""
    dice, figures, duration = random.Random(seed), Figures(), 0.0
    if kills > CALIBRATED_FROM:
        duration = _duration(server, records, dice)
    while figures.clean and figures.kills < kills:
        with tempfile.TemporaryDirectory(prefix="powermem-kill-") as folder:
            trial = ServerTrial(Path(folder), records, dice, new_place(server))
            if figures.trials % 2 == 0:
                trial.hold_back(dice)
            for _ in range(min(dice.randint(1, 5), kills - figures.kills)):
                left = max(2, records - len(trial.said.read_bytes().splitlines()))
                moments: list[dict[str, Any]] = [{"lines": dice.randrange(1, left)}]
                if duration:
                    moments.append({"seconds": dice.uniform(0, 1.1 * duration) * (1 + left / records) / 2})
                trial.kill(figures, **dice.choice(moments))
                trial.grow(dice.randrange(100 * records))
            trial.end(figures)
    return figures


def _duration(server: Server, records: int, dice: random.Random) -> float:
    """Seconds that a whole run takes here and now."""
    with tempfile.TemporaryDirectory(prefix="powermem-kill-") as folder:
        started = time.monotonic()
        ServerTrial(Path(folder), records, dice, new_place(server)).run()
        return time.monotonic() - started


def kill_the_server(server: Server, kills: int, records: int, processes: int, seed: int) -> Figures:
    """*server* runs, and is killed and started again while so many processes write to it."""

    def strike() -> None:
        server.kill()
        server.start()

    place = new_place(server)
    return _ingested_by_many(place, place.options(), strike, kills, records, processes, seed)


def cut_the_lines(server: Server, cuts: int, records: int, processes: int, seed: int) -> Figures:
    """As often, every connection of all these processes is cut at once."""
    place = new_place(server)
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as folder:
        listening = Path(folder) / place.socket.name
        relay = Relay(listening, place.socket)
        with relay.running():
            return _ingested_by_many(place, place.options_at(listening), relay.cut, cuts, records, processes, seed)


def _ingested_by_many(
    place: Place,
    options: dict[str, Any],
    strike: Callable[[], object],
    strikes: int,
    records: int,
    processes: int,
    seed: int,
) -> Figures:
    """All processes are run again until each has ended well: a server that is away makes them exit with 75."""
    dice, figures = random.Random(seed), Figures(trials=1)
    with tempfile.TemporaryDirectory(prefix="powermem-kill-") as folder:
        trials = []
        for number in range(processes):
            home = Path(folder) / str(number)
            home.mkdir()
            trials.append(ServerTrial(home, records, dice, place, options))
        _other_keys(trials)
        left = list(trials)
        while left or figures.kills < strikes:
            left = _round(left or trials, strike if figures.kills < strikes else None, dice, figures)
        figures.take(found_in(place, trials), has_ledger=True)
    return figures


def _other_keys(trials: list[ServerTrial]) -> None:
    """Users and keys of each its own: what two say alike is one memory, which is another test's matter."""
    for number, trial in enumerate(trials):
        lines = [json.loads(line) for line in trial.input.read_text("utf-8").splitlines()]
        named = [{**line, "user_id": f"{line['user_id']} of {number}"} for line in lines]
        trial.input.write_text("".join(f"{json.dumps(line)}\n" for line in named), "utf-8")


def _round(
    trials: list[ServerTrial], strike: Callable[[], object] | None, dice: random.Random, figures: Figures
) -> list[ServerTrial]:
    """Run all at once, with a strike in the middle of it; those that have to be run again."""
    with ExitStack() as stack:
        started = [(trial, stack.enter_context(_started(trial))) for trial in trials]
        if strike is not None:
            said = _lines_of(trials)
            _wait_for(lambda: _lines_of(trials) > said or _all_ended(started))
            time.sleep(dice.uniform(0, 0.3))
            figures.acknowledged.append(_lines_of(trials) - said)
            strike()
            figures.kills += 1
        again = []
        for trial, process in started:
            code = process.wait(180)
            if code in {5, 75}:
                again.append(trial)
            elif code:
                figures.unsound.append(
                    f"exit code {code}: {(trial.powermem.folder / 'stderr').read_text('utf-8')[-500:]}"
                )
        return again


def _lines_of(trials: list[ServerTrial]) -> int:
    """Records acknowledged by all of them."""
    return sum(trial.said.read_bytes().count(b"\n") for trial in trials)


def _started(trial: ServerTrial) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, *map(str, trial.command)]
    powermem: Powermem = trial.powermem
    with trial.said.open("ab") as said, (powermem.folder / "stderr").open("ab") as errors:
        return subprocess.Popen(
            command, env=powermem.environ, cwd=powermem.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=errors
        )


def _wait_for(moment: Callable[[], bool]) -> None:
    while not moment():
        time.sleep(0.01)


def _all_ended(started: list[tuple[ServerTrial, subprocess.Popen[bytes]]]) -> bool:
    return all(process.poll() is not None for _, process in started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("postgres", "oceanbase"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--server", action="store_true")
    what.add_argument("--lines", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    oceanbase = SteadySeekdb if chosen.server else Seekdb
    with running(Postgres() if chosen.engine == "postgres" else oceanbase()) as server:
        if chosen.server or chosen.lines:
            strike = kill_the_server if chosen.server else cut_the_lines
            figures = strike(server, chosen.kills or 3, chosen.records, chosen.processes, chosen.seed)
        else:
            figures = kill_the_program(server, chosen.kills or 50, chosen.records, chosen.seed)
    print(figures)
    return not figures.clean


if __name__ == "__main__":
    raise SystemExit(main())
