"""Too little of everything: room, file size, open files, memory, threads. An error that says so, and nothing half."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from checker import check
from program import PROGRAM, Powermem, Result

RECORDS = 300
CLEAN = {0, 3, 5, 75}

SMALL_ROOM = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'


@pytest.fixture
def powermem(tmp_path) -> Powermem:
    return Powermem(tmp_path)


def records(powermem: Powermem, number: int = RECORDS, words: int = 20) -> Path:
    return powermem.write("in.jsonl", *({"memory": f"note {i} " + f"word{i} " * words} for i in range(number)))


def limited(kind: int, limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (limit, limit))


def is_clean(said: Result, powermem: Powermem) -> None:
    """An error that was meant, or success; and whatever was written is written whole."""
    assert said.code in CLEAN, (said.code, said.err)
    assert "Traceback" not in said.err
    assert "bug" not in said.err
    for rejects in powermem.folder.rglob("rejects.jsonl"):
        assert all(json.loads(line) for line in rejects.read_bytes().split(b"\n")[:-1])
        assert rejects.read_bytes()[-1:] in {b"", b"\n"}


def runs_again(powermem: Powermem, file: Path, said: Result) -> None:
    """Without the limit the same command ends well, and the checker finds nothing wrong with both together."""
    again = powermem("add", "-f", file, "--no-infer", "--jsonl")
    assert again.code == 0, again.err
    acknowledged = powermem.folder / "acks"
    acknowledged.write_text(said.out + again.out, "utf-8")
    assert not check(powermem.database, acknowledged, file)


@pytest.mark.parametrize("kilobytes", [0, 4, 64, 200, 400])
def test_files_that_may_not_grow(powermem, kilobytes):
    file = records(powermem)
    said = powermem(
        "add", "-f", file, "--no-infer", "--jsonl", preexec_fn=limited(resource.RLIMIT_FSIZE, kilobytes * 1024)
    )
    is_clean(said, powermem)
    assert said.code == 5
    runs_again(powermem, file, said)


@pytest.mark.parametrize(
    "files", [8, 12, 16, *(pytest.param(files, marks=pytest.mark.soak) for files in (10, 14, 24, 64))]
)
def test_few_open_files(powermem, files):
    file = records(powermem)
    said = powermem("add", "-f", file, "--no-infer", "--jsonl", preexec_fn=limited(resource.RLIMIT_NOFILE, files))
    is_clean(said, powermem)
    runs_again(powermem, file, said)
    found = powermem("search", "note 7", preexec_fn=limited(resource.RLIMIT_NOFILE, files))
    is_clean(found, powermem)


# Not where just a thread too many is started: CPython waits for one that found no memory to begin, for ever.
@pytest.mark.parametrize("megabytes", [220, 600])
def test_little_memory(powermem, megabytes):
    file = records(powermem)
    limit = limited(resource.RLIMIT_AS, megabytes << 20)
    env = {"OPENBLAS_NUM_THREADS": "1"}
    said = powermem("add", "-f", file, "--no-infer", "--jsonl", preexec_fn=limit, env=env)
    is_clean(said, powermem)
    runs_again(powermem, file, said)
    is_clean(powermem("search", "note 7", preexec_fn=limit, env=env), powermem)


NOBODY_ELSE = 54321  # a user who runs nothing: the limit is on all the tasks of a user
AS_NOBODY_ELSE = (
    *("setpriv", f"--reuid={NOBODY_ELSE}", f"--regid={NOBODY_ELSE}", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"),  # wherever Python is installed
)
"""Root does not feel the limit."""


# Where others run under our name, any thread at all may be one too many: only one is certain to be.
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="the limit is on processes elsewhere")
@pytest.mark.parametrize(
    "tasks",
    (1, 3, *(pytest.param(tasks, marks=pytest.mark.soak) for tasks in (2, 4, 5, 6))) if os.getuid() == 0 else (1,),
)
def test_few_threads(powermem, tasks):
    file = records(powermem)
    if os.getuid() == 0:
        os.chown(powermem.folder, NOBODY_ELSE, NOBODY_ELSE)
    wrapper = (*AS_NOBODY_ELSE, *PROGRAM) if os.getuid() == 0 else PROGRAM
    options = {"wrapper": wrapper, "preexec_fn": limited(resource.RLIMIT_NPROC, tasks)}
    for command in (("add", "x", "--db", "other.db", "--json"), ("add", "-f", file, "--no-infer", "--jsonl")):
        said = powermem(*command, env={"OPENBLAS_NUM_THREADS": "1"}, **options)
        is_clean(said, powermem)
        assert (said.code == 5) == ("can't start new thread" in said.err)
        assert said.code == 5 or tasks > 1
    runs_again(powermem, file, said)


def may_mount() -> bool:
    if os.getuid() != 0:
        return False
    probe = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not may_mount(), reason="only root can mount a small disk")


def on_a_small_disk(powermem: Powermem, place: Path, size: str, file: Path) -> tuple[Result, Path]:
    """`add` with *place* a disk of that size, and a copy of what was on it at the end."""
    kept = powermem.folder / "kept"
    kept.mkdir()
    place.mkdir(parents=True, exist_ok=True)
    then = f'"$@"; code=$?; cp -a {place}/. {kept}/; exit $code'
    said = powermem(
        *("-c", SMALL_ROOM, "sh", size, place, "sh", "-c", then, "sh", *PROGRAM),
        *("add", "-f", file, "--no-infer", "--jsonl"),
        wrapper=("unshare", "-m", "sh"),
    )
    return said, kept


SOAK = [pytest.param(size, marks=[pytest.mark.soak, pytest.mark.timeout(300)]) for size in ("2m", "8m", "32m", "64m")]


def megabytes_of(size: str) -> int:
    return int(size[:-1]) if size.endswith("m") else 0


@needs_mount
@pytest.mark.parametrize("size", ["200k", "1m", *SOAK])
def test_a_full_disk_under_the_store(powermem, size):
    file = records(powermem, 600 + 900 * megabytes_of(size), 60)
    data = powermem.folder / "data"
    powermem.environ["SQLITE_PATH"] = str(data / "memories.db")
    said, kept = on_a_small_disk(powermem, data, size, file)
    is_clean(said, powermem)
    assert said.code == 5
    assert "store.full" in said.out
    assert "bytes free" in said.out
    for part in kept.iterdir():
        part.rename(data / part.name)
    powermem.database = data / "memories.db"
    runs_again(powermem, file, said)


@needs_mount
@pytest.mark.parametrize("size", ["4k", "8k", "16k", *SOAK])
def test_a_full_disk_under_the_state_of_jobs(powermem, size):
    powermem.write("in.jsonl", *({"memory": ""} for _ in range(200 if "k" in size else 8000 * megabytes_of(size))))
    file = powermem.folder / "in.jsonl"
    said, kept = on_a_small_disk(powermem, powermem.folder / "state", size, file)
    is_clean(said, powermem)
    assert said.code == 5, said.err
    for rejects in kept.rglob("rejects.jsonl"):
        assert rejects.read_bytes()[-1:] in {b"", b"\n"}
