"""However a file is read, in one go or after seven kills, in one lane or 32, in whatever order or pieces: the same memories."""

from __future__ import annotations

import gzip
import random
import subprocess
from collections import Counter

import pytest
from crash.kill import write_records
from program import Powermem

RECORDS = 600


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "talks.jsonl"
    write_records(path, RECORDS, random.Random(8))
    return path.read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def expected(lines, tmp_path_factory):
    powermem = Powermem(tmp_path_factory.mktemp("one-go"))
    powermem.inside("add", "-f", powermem.write("in.jsonl", *lines), "--no-infer", "-q")
    return held(powermem)


@pytest.fixture
def powermem(tmp_path):
    return Powermem(tmp_path)


def held(powermem: Powermem) -> Counter[tuple[str, str]]:
    rows = powermem.inside("list", "--all", "--json").json["results"]
    return Counter((row["user_id"], row["memory"]) for row in rows)


def add(powermem: Powermem, *arguments: object) -> None:
    done = powermem.inside("add", "--no-infer", "-q", *arguments)
    assert done.code == 0, done.err


def test_one_go_holds_every_record_once(lines, expected):
    assert len(set(lines)) == len(expected) == sum(expected.values())


def test_after_seven_kills(powermem, lines, expected):
    path = powermem.write("in.jsonl", *lines)
    for kill in range(1, 8):
        command = ("add", "-f", path, "--no-infer", "--jsonl", "--batch-size", 16)
        with powermem.started(*command, stdin=subprocess.DEVNULL) as process:
            for _ in range(5 * kill):
                process.stdout.readline()
            process.kill()
    add(powermem, "-f", path)
    assert held(powermem) == expected


@pytest.mark.parametrize("how", [("-c", 1), ("-c", 32), ("--batch-size", 1), ("--batch-size", 4096)])
def test_in_so_many_lanes(powermem, lines, expected, how):
    add(powermem, "-f", powermem.write("in.jsonl", *lines), *how)
    assert held(powermem) == expected


def test_shuffled(powermem, lines, expected):
    add(powermem, "-f", powermem.write("in.jsonl", *random.Random(1).sample(lines, len(lines))))
    assert held(powermem) == expected


def test_in_ten_files(powermem, lines, expected):
    files = [powermem.write(f"in-{at}.jsonl", *lines[at::10]) for at in range(10)]
    add(powermem, *(part for file in files for part in ("-f", file)))
    assert held(powermem) == expected


def test_in_ten_runs(powermem, lines, expected):
    for at in range(10):
        add(powermem, "-f", powermem.write(f"in-{at}.jsonl", *lines[at::10]))
    assert held(powermem) == expected


def test_compressed_and_then_not(powermem, lines, expected):
    plain = powermem.write("in.jsonl", *lines)
    packed = powermem.folder / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    add(powermem, "-f", packed)
    assert held(powermem) == expected
    add(powermem, "-f", plain)
    assert held(powermem) == expected
