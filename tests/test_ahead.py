"""Records made by another process: the same ones, in the same order, whatever becomes of that process."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from powermem_cli import ahead, ingestion
from powermem_cli.ahead import PIPE, UNDER_WAY, Ahead, is_worth_it
from powermem_cli.batch import Limits
from powermem_cli.blocks import Block
from powermem_cli.checkpoint import Job
from powermem_cli.identity import digest, identify
from powermem_cli.ingestion import Ingestion
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record, Rejected, Scope
from powermem_cli.plan import said
from powermem_cli.providers import built_in_model
from powermem_cli.readers import Reading, open_input
from powermem_cli.terms import distinct_terms

SECONDS = 30  # after which something hangs
LINES = 128  # sent at a time

STRANGE = [
    {"messages": "Anna likes tea", "user_id": "anna", "id": 7, "metadata": {"n": [1, 2.5, None, {"é": "ü"}]}},
    {"memory": "Besançon, 14. März", "agent_id": "a", "run_id": "r", "created_at": "2026-01-02T03:04:05Z"},
    {"messages": [{"role": "user", "content": "two"}, {"role": "user", "content": "texts"}], "infer": True},
    {"messages": [{"role": "assistant", "content": "only heard"}], "user": "anna"},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "all"}], "infer": False},
    {"memory": "日本語のメモ 🍵", "expires_at": 1_800_000_000, "key": "k\u00e9y"},
    {"memory": "", "user_id": "anna"},
    {"memory": "a", "user_id": ["no", "id"]},
    {"code": "input.json", "raw": '{"memory": "once rejected"}', "message": "m", "file": "f", "line": 1},
    "a text alone",
    7,
]
BROKEN = [
    '{"memory": "cut',
    '{"memory": "twice", "memory": "twice"}',
    "",
    "   ",
    '{"memory": "\\ud800"}',
    '{"memory": NaN}',
]


@pytest.fixture(autouse=True)
def short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "LINES", LINES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Enough for every list of lines that may be under way; an odd line here and there; and an end without newline."""
    lines = []
    for i in range(LINES * (UNDER_WAY + 4)):
        lines.append(json.dumps({"memory": f"memory {i}", "user_id": f"u{i % 7}"}))
        if i % 50 == 0:
            lines.append(json.dumps(STRANGE[i // 50 % len(STRANGE)], ensure_ascii=False))
        if i % 90 == 0:
            lines.append(BROKEN[i // 90 % len(BROKEN)])
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join([*lines, '{"memory": "the last has no newline"}']), "utf-8", newline="\n")
    return path


def items(file: Path, reading: Reading, process: Ahead | None = None) -> Iterator[Record | Rejected]:
    with open_input(str(file), reading) as source:
        if process is None:
            yield from source
            return
        for piece in source.read_ahead(process.blocks):
            yield from piece if isinstance(piece, Block) else (piece,)


def blocks(file: Path, process: Ahead) -> list[Block]:
    with open_input(str(file), Reading("jsonl")) as source:
        return [piece for piece in source.read_ahead(process.blocks) if isinstance(piece, Block)]


def at_work(reading: Reading) -> Ahead:
    process = Ahead(reading)
    process.start()
    assert process.is_up.wait(SECONDS)
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="no other system has pipes whose size can be set")
def test_a_pipe_holds_a_whole_list() -> None:
    process = at_work(Reading(format="jsonl"))
    try:
        assert process._process is not None
        for pipe in (process._process.stdin, process._process.stdout):
            assert fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ) == PIPE
    finally:
        process.close()


@pytest.mark.parametrize(
    "reading",
    [
        Reading("jsonl"),
        Reading("jsonl", scope=Scope("everybody"), metadata={"from": "a test"}, infer=False, key="content"),
        Reading("jsonl", mapping={"memory": "raw"}, key="id"),
        Reading("powermem"),
    ],
    ids=["plain", "defaults", "mapped", "ready facts"],
)
def test_the_same_items_come_in_the_same_order(file: Path, reading: Reading) -> None:
    process = at_work(reading)
    try:
        made = list(items(file, reading, process))
    finally:
        process.close()
    assert made == list(items(file, reading))
    records = [item for item in made if isinstance(item, Record)]
    assert sum(record.worked_out is not None for record in records) > len(records) // 2


def test_what_was_worked_out_is_what_would_be_worked_out_here(file: Path) -> None:
    process = at_work(Reading("jsonl"))
    try:
        made = list(items(file, Reading("jsonl"), process))
    finally:
        process.close()
    embed = built_in_model()
    for record in made:
        if isinstance(record, Record) and record.worked_out is not None:
            alone = replace(record, worked_out=None)
            texts = said(alone).texts
            assert tuple(record.worked_out) == (
                *identify(alone),
                *said(alone),
                tuple(map(digest, texts)),
                tuple(map(distinct_terms, texts)),
                tuple(embed(texts)),
            )


@pytest.mark.parametrize("thorough", [True, False])
def test_the_columns_of_a_block_are_what_its_records_hold(file: Path, thorough: bool) -> None:
    process = at_work(Reading("jsonl"))
    process.thorough = thorough
    try:
        made = blocks(file, process)
    finally:
        process.close()
    assert sum(map(len, made)) > LINES
    for block in made:
        records, of = list(block), block.columns
        assert block.is_worked_out is thorough
        assert block.size == sum(record.size for record in records)
        assert [block.identity(place) for place in range(len(block))] == list(map(identify, records))
        assert list(of.own_keys) == [record.key for record in records]
        assert block.own_keys == [record.key for record in records if record.key is not None]
        assert list(of.scopes) == [record.scope for record in records]
        assert list(of.created_at) == [record.created_at for record in records]
        if thorough:
            about = [None if column is None else json.loads(column) for column in of.metadata]
            assert about == [record.metadata or None for record in records]
            assert list(of.expires_at) == [record.expires_at for record in records]
        part = block[1:3]
        assert (list(part), part.columns) == (records[1:3], of.part(slice(1, 3)))


def test_records_of_one_key_are_in_no_block_together(tmp_path: Path) -> None:
    path = tmp_path / "versions.jsonl"
    keys = ["a", "b", None, "a", "c", "a", None]
    keys += [None] * (LINES - len(keys))  # or nothing is sent
    path.write_text("".join(json.dumps({"memory": f"m{i}", "id": key}) + "\n" for i, key in enumerate(keys)))
    process = at_work(Reading("jsonl"))
    try:
        made = [record.key for block in blocks(path, process) for record in block]
        assert made == ["a", "b", None, "c", *keys[6:]]
        assert list(items(path, Reading("jsonl"), process)) == list(items(path, Reading("jsonl")))
    finally:
        process.close()


def test_of_records_that_are_known_no_more_is_worked_out_than_what_they_say(file: Path) -> None:
    process = at_work(Reading("jsonl"))
    process.thorough = False
    try:
        made = list(items(file, Reading("jsonl"), process))
    finally:
        process.close()
    assert made == list(items(file, Reading("jsonl")))
    assert all(item.worked_out is None for item in made if isinstance(item, Record))


@pytest.mark.parametrize("after", [0, 1, LINES, LINES + 100])  # then not all has been sent
def test_when_the_process_is_killed_the_rest_is_read_here(file: Path, after: int) -> None:
    process = at_work(Reading("jsonl"))
    made = []
    try:
        for item in items(file, Reading("jsonl"), process):
            made.append(item)
            if len(made) == after + 1:
                assert process._process is not None
                process._process.kill()
    finally:
        process.close()
    assert made == list(items(file, Reading("jsonl")))
    assert not process.is_up.is_set()


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_without_another_process_all_is_read_here(file: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "executable", program)
    process = Ahead(Reading("jsonl"))
    process.start()
    try:
        assert list(items(file, Reading("jsonl"), process)) == list(items(file, Reading("jsonl")))
    finally:
        process.close()


def test_without_another_thread_all_is_read_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    process = Ahead(Reading("jsonl"))
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", start)
        process.start()
    assert list(items(file, Reading("jsonl"), process)) == list(items(file, Reading("jsonl")))
    assert process._process is not None
    assert process._process.returncode is not None


def test_a_line_too_long_to_send_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"memory": text}) + "\n" for text in ("a", "b" * (1 << 18), "c")))
    process = at_work(Reading("jsonl"))
    try:
        assert list(items(path, Reading("jsonl"), process)) == list(items(path, Reading("jsonl")))
    finally:
        process.close()


def test_it_is_worth_it_for_many_lines_of_a_file_where_python_has_two_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"memory": "x" * 1000}) + "\n"
    few, many, cells = tmp_path / "few.jsonl", tmp_path / "many.jsonl", tmp_path / "many.csv"
    few.write_text(line * 10)
    many.write_text(line * (ahead.WORTH_IT // 1000))
    cells.write_text("memory\n" + f"{'x' * 1000}\n" * (ahead.WORTH_IT // 1000))

    def worth_it(path: Path) -> bool:
        with open_input(str(path), Reading()) as source:
            return is_worth_it(source)

    monkeypatch.setattr(ahead, "_cores", lambda: 2)
    assert [worth_it(path) for path in (few, many, cells)] == [False, True, False]
    with monkeypatch.context() as alone:
        alone.setattr(ahead, "_cores", lambda: 1)
        assert not worth_it(many)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not worth_it(many)


@pytest.mark.skipif(sys.platform != "linux", reason="os.pidfd_open tells the end of somebody else's child on Linux")
def test_it_ends_with_the_program_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os\nfrom powermem_cli.ahead import Ahead\nfrom powermem_cli.readers import Reading\n"
        "process = Ahead(Reading('jsonl'))\nprocess.start()\nprocess.is_up.wait()\n"
        "print(process._process.pid, flush=True)\ninput()\nos.kill(os.getpid(), 9)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdin is not None
    with program:
        ending = os.pidfd_open(int(program.stdout.readline()))
        program.stdin.write(b"\n")
        program.stdin.flush()
        assert select.select([ending], [], [], SECONDS)[0]
        os.close(ending)


@pytest.mark.anyio
async def test_a_job_adds_each_record_once_with_and_without_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Watched(Ahead):
        def start(self) -> None:
            super().start()
            self.is_up.wait(SECONDS)
            started.append(self)

    async def kept(name: str) -> list[tuple[object, ...]]:
        store = {"provider": "sqlite", "config": {"path": str(tmp_path / f"{name}.db")}}
        async with AsyncMemory({"vector_store": store}) as memory:
            with Job(tmp_path / name, name, await memory.store_identity(), "") as job:
                report = await Ingestion(memory, [str(file)], Reading("jsonl"), job, limits=Limits(failures=None)).run()
                again = Ingestion(
                    memory, [str(file)], Reading("jsonl"), job, limits=Limits(failures=None), resume=False
                )
                assert (await again.run()).tally.memories == 0
            assert report.error is None
            rows = (await memory.get_all(limit=10_000))["results"]
            found = (await memory.search("the last newline", user_id="u3"))["results"]
        tally = (report.tally.read, dict(report.tally.by_status), report.tally.memories)
        said = sorted((row["memory"], str(row["user_id"]), str(row["metadata"]), str(row["source"])) for row in rows)
        return [tally, *said, *[(hit["memory"], hit["score"]) for hit in found]]

    without = await kept("alone")
    monkeypatch.setattr(ahead, "WORTH_IT", 0)
    monkeypatch.setattr(ahead, "_cores", lambda: 2)
    monkeypatch.setattr(ingestion, "Ahead", Watched)
    job_names = str(await kept("ahead")).replace("'ahead'", "'alone'")
    assert job_names == str(without)
    assert [process.thorough for process in started] == [True, False]
    assert all(process._process is not None and process._process.returncode is not None for process in started)
