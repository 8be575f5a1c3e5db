"""The same kills as tests/crash/kill.py, with the memories on a database server; or kills of the server itself.

    python tests/stores/kill_servers.py postgres|oceanbase [--kills 50] [--records 1000] [--seed N]
    python tests/stores/kill_servers.py postgres|oceanbase --server [--kills 3] [--records 1000] [--processes 8]

With --server so many processes ingest an input each into one store, while the server is killed and started again.
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
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from checker import Findings, acknowledged, wanted
from crash.kill import Figures, Trial
from engines import Postgres, Seekdb, Server, running
from places import OceanBasePlace, Place, PostgresPlace
from program import PROGRAM, Powermem

_numbers = itertools.count()


def server_of(engine: str) -> Server:
    return Postgres() if engine == "postgres" else Seekdb()


def new_place(server: Server) -> Place:
    name = f"killed{next(_numbers)}"
    return PostgresPlace(server, name) if isinstance(server, Postgres) else OceanBasePlace(server, name)


def settings(folder: Path, place: Place) -> Path:
    """A file for --config that names the place."""
    path = folder / "config.json"
    path.write_text(json.dumps({"vector_store": {"provider": place.engine, "config": place.options()}}), "utf-8")
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
    """A trial whose store is a place on a server."""

    def __init__(self, folder: Path, records: int, dice: random.Random, place: Place) -> None:
        super().__init__(folder, records, dice)
        self.place = place
        self.command += ("--config", settings(folder, place))

    def _checked_copy(self) -> Findings:
        return found_in(self.place, [self], complete=False)

    def end(self, figures: Figures) -> None:
        figures.trials += 1
        for options in ((), ("--no-resume",)):
            code = self.run(options=options)
            if code != 0:
                figures.unsound.append(f"{self.command} {options}: exit code {code}")
        figures.take(found_in(self.place, [self]), has_ledger=True)


def kill_the_program(engine: str, kills: int, records: int, seed: int) -> Figures:
    """As many trials as it takes to have killed so often; ends early when something was found."""
    dice, figures, duration = random.Random(seed), Figures(), 0.0
    with running(server_of(engine)) as server:
        while figures.clean and figures.kills < kills:
            with tempfile.TemporaryDirectory(prefix="powermem-kill-") as folder:
                trial = ServerTrial(Path(folder), records, dice, new_place(server))
                if not duration:  # the first is not killed: it shows how long a whole run takes here and now
                    started = time.monotonic()
                    trial.run()
                    duration = time.monotonic() - started
                for _ in range(min(dice.randint(1, 5), kills - figures.kills) if figures.trials else 0):
                    left = max(2, records - len(trial.said.read_bytes().splitlines()))
                    seconds = dice.uniform(0, 1.1 * duration) * (1 + left / records) / 2
                    trial.kill(figures, **dice.choice(({"seconds": seconds}, {"lines": dice.randrange(1, left)})))
                trial.end(figures)
    return figures


def kill_the_server(engine: str, kills: int, records: int, processes: int, seed: int) -> Figures:
    """All processes are run again until each has ended well: a server that is away makes them exit with 75."""
    dice, figures = random.Random(seed), Figures(trials=1)
    with running(server_of(engine)) as server, tempfile.TemporaryDirectory(prefix="powermem-kill-") as folder:
        place = new_place(server)
        trials = []
        for number in range(processes):
            home = Path(folder) / str(number)
            home.mkdir()
            trials.append(ServerTrial(home, records, dice, place))
        _other_keys(trials)
        left = list(trials)
        while left:
            left = _round(left, server if figures.kills < kills else None, dice, figures)
        figures.take(found_in(place, trials), has_ledger=True)
    return figures


def _other_keys(trials: list[ServerTrial]) -> None:
    """Users and keys of each its own: what two say alike is one memory, which is another test's matter."""
    for number, trial in enumerate(trials):
        lines = [json.loads(line) for line in trial.input.read_text("utf-8").splitlines()]
        named = [{**line, "user_id": f"{line['user_id']} of {number}"} for line in lines]
        trial.input.write_text("".join(f"{json.dumps(line)}\n" for line in named), "utf-8")


def _round(
    trials: list[ServerTrial], server: Server | None, dice: random.Random, figures: Figures
) -> list[ServerTrial]:
    """Run all at once, with the server killed in the middle of it; those that have to be run again."""
    with ExitStack() as stack:
        started = [(trial, stack.enter_context(_started(trial))) for trial in trials]
        if server is not None:
            time.sleep(dice.uniform(0.5, 2.5))
            server.kill()
            server.start()
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


def _started(trial: ServerTrial) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, *map(str, trial.command)]
    powermem: Powermem = trial.powermem
    with trial.said.open("ab") as said, (powermem.folder / "stderr").open("ab") as errors:
        return subprocess.Popen(
            command, env=powermem.environ, cwd=powermem.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=errors
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("postgres", "oceanbase"))
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")
    if chosen.server:
        figures = kill_the_server(chosen.engine, chosen.kills or 3, chosen.records, chosen.processes, chosen.seed)
    else:
        figures = kill_the_program(chosen.engine, chosen.kills or 50, chosen.records, chosen.seed)
    print(figures)
    return not figures.clean


if __name__ == "__main__":
    raise SystemExit(main())
