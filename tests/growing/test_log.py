"""Logs as they are in life: they grow, break off, rotate, are replaced and removed, or are no files at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from growing.log import follow
from program import Powermem
from trials import a_seed


@pytest.fixture
def powermem(tmp_path):
    return Powermem(tmp_path)


def lines(*numbers: int) -> str:
    return "".join(f'{{"memory": "line {number}"}}\n' for number in numbers)


def texts(*numbers: int) -> list[str]:
    return [f"line {number}" for number in numbers]


def read(powermem, log, code=0):
    done = powermem.inside("add", "-f", log, "--no-infer", "--json", "--job", "log")
    assert done.code == code, done.err
    return done.json


@pytest.mark.timeout(300)  # a busy machine takes its time
def test_forty_rounds_and_four_rotations():
    figures = follow(40, 10, a_seed())
    assert not figures.wrong, figures
    assert figures.halves
    assert figures.rotations == 4


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_rounds():
    figures = follow(1000, 50, a_seed())
    print(figures)
    assert not figures.wrong, figures


@pytest.fixture
def log(powermem) -> Path:
    """Its first three lines are known."""
    path = powermem.folder / "log.jsonl"
    path.write_text(lines(1, 2, 3))
    assert read(powermem, path)["added"] == 3
    return path


def test_half_a_line_waits_for_its_other_half(powermem, log):
    with log.open("a") as file:
        file.write('{"memory": "li')
    half = read(powermem, log)
    assert (half["added"], half["rejected"]) == (0, 0)
    with log.open("a") as file:
        file.write('ne 4"}\n')
    whole = read(powermem, log)
    assert (whole["read"], whole["added"]) == (1, 1)
    assert powermem.memories() == texts(1, 2, 3, 4)


def test_truncated(powermem, log):
    log.write_text(lines(1))
    assert read(powermem, log)["unchanged"] == 1
    log.write_text(lines(1, 4))
    read(powermem, log)
    assert powermem.memories() == texts(1, 2, 3, 4)


def test_replaced_by_a_longer_file_with_other_lines(powermem, log):
    new = log.with_name("new")
    new.write_text(lines(*range(4, 14)))
    new.replace(log)
    assert read(powermem, log)["added"] == 10


def test_replaced_by_one_of_the_same_size(powermem, log):
    log.write_text(lines(4, 5, 6))
    assert read(powermem, log)["added"] == 3


def test_copied_cut_and_grown_beyond_where_it_was(powermem, log):
    shutil.copy(log, log.with_suffix(".1"))
    with log.open("r+") as file:
        file.truncate(0)
        file.write(lines(*range(4, 10)))
    assert read(powermem, log)["added"] == 6
    assert read(powermem, log.with_suffix(".1"))["unchanged"] == 3


def test_renamed_with_lines_that_nobody_has_read(powermem, log):
    with log.open("a") as file:
        file.write(lines(4))
    old = log.rename(log.with_suffix(".1"))
    log.write_text(lines(5))
    assert read(powermem, log)["added"] == 1
    last = read(powermem, old)
    assert (last["added"], last["unchanged"]) == (1, 3)


def test_a_link_to_another_file_every_day(powermem, tmp_path):
    monday, tuesday, today = (tmp_path / name for name in ("monday.jsonl", "tuesday.jsonl", "today.jsonl"))
    monday.write_text(lines(1, 2))
    tuesday.write_text(lines(3, 4, 5))
    for day, added in ((monday, 2), (tuesday, 3), (monday, 0)):
        today.unlink(missing_ok=True)
        today.symlink_to(day)
        assert read(powermem, today)["added"] == added
    assert powermem.memories() == texts(1, 2, 3, 4, 5)


@pytest.mark.parametrize("harm", ["deleted", "renamed", "truncated at its end"])
def test_in_the_middle_of_reading(powermem, harm):
    log = powermem.folder / "log.jsonl"
    log.write_text(lines(*range(3000)))
    with powermem.started("add", "-f", log, "--no-infer", "--jsonl", stdin=subprocess.DEVNULL) as process:
        process.stdout.readline()  # and no more for now: it waits with a full pipe
        if harm == "deleted":
            log.unlink()
        elif harm == "renamed":
            log.rename(log.with_suffix(".1"))
        else:
            with log.open("a") as file:
                file.truncate(file.tell() - 5)
        said = process.stdout.read()
        err = process.stderr.read()
        process.wait()
    assert b"Traceback" not in err
    assert process.returncode == 0, err
    assert said.count(b'"status": "added"') >= 2998
    assert set(powermem.memories()) <= set(texts(*range(3000)))
    assert len(set(powermem.memories())) >= 2999


def test_a_hole_is_one_line_that_is_no_record(powermem):
    log = powermem.folder / "log.jsonl"
    log.write_text(lines(*range(5000)))
    read(powermem, log)
    with log.open("r+b") as file:  # what a writer leaves that does not know that its log was cut
        file.seek(1 << 20)
        file.write(b"\n" + lines(5000).encode())
    after = read(powermem, log, code=3)
    assert (after["rejected"], after["added"]) == (1, 1)


@pytest.mark.parametrize("size", [5000, 20 << 20])
@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_a_hole_instead_of_the_old_lines_is_one_reject(powermem, log, size, newline):
    """What is left of a log that was copied and cut, if its writer goes on where it was: a sparse file."""
    with log.open("r+b") as file:
        file.truncate(0)
        file.seek(size)
        file.write(newline + lines(4).encode())
    after = read(powermem, log, code=3)
    assert (after["rejected"], after["added"]) == (1, 1)
    assert powermem.memories() == texts(1, 2, 3, 4)
    assert read(powermem, log)["read"] == 0


def test_a_pipe_with_a_name(powermem):
    fifo = powermem.folder / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=fifo.write_text, args=(lines(1, 2),), daemon=True).start()
    done = powermem("add", "-f", fifo, "--no-infer", "--json", "--format", "jsonl")
    assert (done.code, done.json["added"]) == (0, 2), done.err


def test_stdin_by_its_name(powermem):
    for content, added in ((lines(1, 2), 2), (lines(1, 2, 3), 1)):
        done = powermem("add", "-f", "/dev/stdin", "--no-infer", "--json", "--format", "jsonl", stdin=content)
        assert (done.code, done.json["added"]) == (0, added), done.err


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="there is no /proc")
def test_a_file_that_says_it_is_empty(powermem):
    assert Path("/proc/version").stat().st_size == 0
    for added in (1, 0):
        done = powermem.inside("add", "-f", "/proc/version", "--format", "text", "--no-infer", "--json")
        assert (done.code, done.json["added"]) == (0, added), done.err
    assert powermem.memories() == [Path("/proc/version").read_text().strip()]
