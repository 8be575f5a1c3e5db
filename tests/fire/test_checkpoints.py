"""Damaged checkpoints: no traceback, nothing lost, nothing doubled; what is set aside is said."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from checker import check
from fire.damage import flip, flip_a_run, truncate
from program import Powermem
from trials import a_seed

RECORDS = 60


def emptied(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def other_json(path: Path, rng: random.Random) -> None:
    path.write_text(rng.choice(["[]", "null", "{}", '"x"', "[" * 5000, '{"version": 999}', "1e999"]))


def noise(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.randrange(1, 5000)))


def small_flip(path: Path, rng: random.Random) -> None:
    (flip if path.stat().st_size < 5000 or rng.random() < 0.5 else flip_a_run)(path, rng)


MUTATIONS = (small_flip, small_flip, small_flip, truncate, emptied, other_json, noise)


def damaged(folder: Path, mutants: int, seed: int) -> None:
    """A file half of which was added; then, with each damaged checkpoint, all of it."""
    rng = random.Random(seed)
    base = Powermem(folder / "base")
    base.folder.mkdir()
    lines = [{"memory": f"note {number}"} for number in range(RECORDS)]
    file = folder / "in.jsonl"
    base.write("in.jsonl", *lines[: RECORDS // 2]).rename(file)
    first = base.inside("add", "-f", file, "--no-infer", "--jsonl")
    assert first.code == 0, first.err
    file.write_text(base.write("all.jsonl", *lines).read_text("utf-8"), "utf-8")
    for number in range(mutants):
        place = folder / "mutant"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base.folder, place)
        (checkpoint,) = place.rglob("checkpoint.json")
        mutation = MUTATIONS[number % len(MUTATIONS)]
        mutation(checkpoint, rng)
        powermem = Powermem(place)
        said = powermem.inside("add", "-f", file, "--no-infer", "--jsonl")
        assert said.code == 0, (seed, number, mutation.__name__, said.err)
        (place / "acks").write_text(first.out + said.out, "utf-8")
        assert not check(powermem.database, place / "acks", file), (seed, number, mutation.__name__)


def test_forty_damaged_checkpoints(tmp_path):
    damaged(tmp_path, 40, a_seed())


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_thousand_damaged_checkpoints(tmp_path):
    damaged(tmp_path, 2000, 1)
    print("2,000 damaged checkpoints: 0 records lost, 0 doubled, every run ended with 0")
