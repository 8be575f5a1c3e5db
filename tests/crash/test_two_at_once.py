"""Two runs at the same time: of one job, the second steps back at once; of two jobs, both get through."""

from __future__ import annotations

import random
import subprocess

import pytest
from checker import check, conserved, summaries
from crash.kill import write_records
from program import Powermem


@pytest.fixture
def powermem(tmp_path):
    return Powermem(tmp_path)


def test_the_second_run_of_a_job_names_the_first_and_starts_nothing(powermem):
    talks = powermem.folder / "talks.jsonl"
    write_records(talks, 2000, random.Random(3))
    with powermem.started("add", "-f", talks, "--jsonl", stdin=subprocess.DEVNULL) as first:
        said = first.stdout.readline()  # and no more for now: the first run waits with a full pipe
        second = powermem("add", "-f", talks, "--json")
        assert second.code == 75
        assert f"process {first.pid}" in second.err
        assert second.json["code"] == "job.locked"
        assert second.json["retryable"]
        with_a_name = powermem("add", "-f", powermem.write("one.jsonl", {"memory": "one"}), "--job", "another", "-q")
        assert with_a_name.code == 0  # the store is free for others
        said += first.stdout.read()
        assert first.wait() == 0
    acknowledgements = powermem.folder / "acks.jsonl"
    acknowledgements.write_bytes(said)
    found = check(powermem.database, acknowledgements, talks)
    assert found.foreign == [(None, "one")]
    assert not found.lost + found.doubled + found.broken_promises


def test_two_jobs_that_share_records_write_each_once(powermem):
    everything = powermem.folder / "all.jsonl"
    write_records(everything, 1500, random.Random(4))
    lines = everything.read_text("utf-8").splitlines()
    halves = [powermem.write(name, *part) for name, part in (("a.jsonl", lines[:1000]), ("b.jsonl", lines[500:]))]
    acknowledgements = powermem.folder / "acks.jsonl"
    commands = [("add", "-f", half, "--jsonl", "--batch-size", 64) for half in halves]
    with (
        acknowledgements.open("ab") as said,
        powermem.started(*commands[0], stdin=subprocess.DEVNULL, stdout=said) as first,
        powermem.started(*commands[1], stdin=subprocess.DEVNULL, stdout=said) as second,
    ):
        ends = [(process.communicate()[1], process.returncode) for process in (first, second)]
    assert [code for _, code in ends] == [0, 0]
    assert not any(b"lock" in err for err, _ in ends)
    said_at_the_end = summaries(acknowledgements)
    assert [conserved(summary) for summary in said_at_the_end] == [True, True]
    assert not check(powermem.database, acknowledgements, everything)
