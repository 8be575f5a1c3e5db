"""What a job has read and set aside: never too much, whatever happened to the files, and one run at a time."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from powermem_cli.checkpoint import EDGE, Job, LowWater, Mark, check_job_name, job_name
from powermem_cli.errors import Locked, StoreError, UsageError
from powermem_cli.files import write_atomically
from powermem_cli.model import Record, Source

STORE = "store-1"


def item(file: str, line: int, size: int = 10, lines: int = 1) -> Record:
    return Record(memory="x", source=Source(file, line, (line - 1) * 10, None, lines), size=size)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "jobs" / "chats"


@pytest.fixture
def log(tmp_path):
    """A file of 200 lines of 50 bytes."""
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b"".join(b"%049d\n" % i for i in range(200)))
    return path


def job(folder: Path, store: str = STORE, reading: str = "jsonl", **options) -> Job:
    return Job(folder, "chats", store, reading, **options)


def saved(folder: Path, log: Path, byte: int = 5000, line: int = 101) -> None:
    """A run that came as far as this."""
    with job(folder) as run:
        run.begun(str(log))
        run.save({str(log): Mark(byte, line)}, now=True)


def resumed(folder: Path, log: Path, **options) -> tuple[Mark | None, list[str]]:
    with job(folder, **options) as run:
        return run.resume_at(str(log)), run.warnings


class TestLowWater:
    @pytest.mark.parametrize("order", list(permutations(range(4))))
    def test_it_moves_over_what_has_ended_without_a_gap(self, order):
        low_water, ended = LowWater(), set()
        for number in order:
            low_water.ended(number, [item("a", 2 * number + 1), item("a", 2 * number + 2)])
            ended.add(number)
            whole = next(n for n in range(5) if n not in ended)
            assert low_water.marks == ({"a": Mark(20 * whole, 2 * whole + 1)} if whole else {})

    @given(st.permutations(range(12)))
    def test_every_file_has_its_own_mark(self, order):
        """Handful n holds the last lines of one file and the first of the next."""
        low_water = LowWater()
        for number in order:
            low_water.ended(number, [item(f"f{number // 3}", number % 3 + 1), item(f"f{number // 3}", number % 3 + 2)])
        assert low_water.marks == {f"f{file}": Mark(40, 5) for file in range(4)}

    def test_a_line_without_its_end_is_still_the_same_line_on_the_next_run(self):
        low_water = LowWater()
        low_water.ended(0, [item("a", 1), item("a", 2, lines=0)])
        assert low_water.marks == {"a": Mark(20, 2)}

    def test_rows_of_several_lines_are_counted_whole(self):
        low_water = LowWater()
        low_water.ended(0, [item("a", 1, size=70, lines=7)])
        assert low_water.marks == {"a": Mark(70, 8)}

    def test_what_stood_nowhere_moves_nothing(self):
        low_water = LowWater()
        low_water.ended(0, [Record(memory="x")])
        low_water.ended(1, [])
        low_water.ended(2, [item("a", 1)])
        assert low_water.marks == {"a": Mark(10, 2)}


class TestResuming:
    def test_the_first_run_begins_at_the_start(self, folder, log):
        assert resumed(folder, log) == (None, [])

    def test_the_next_goes_on_where_the_last_one_ended(self, folder, log):
        saved(folder, log)
        assert resumed(folder, log) == (Mark(5000, 101), [])

    def test_under_another_name_of_the_same_file_too(self, folder, log, tmp_path, monkeypatch):
        saved(folder, log)
        (tmp_path / "link.jsonl").symlink_to(log)
        monkeypatch.chdir(tmp_path)
        assert resumed(folder, Path("link.jsonl"))[0] == resumed(folder, Path(log.name))[0] == Mark(5000, 101)

    def test_what_grew_goes_on_where_the_last_run_ended(self, folder, log):
        saved(folder, log, 10_000, 201)
        with log.open("ab") as file:
            file.write(b"more\n")
        assert resumed(folder, log) == (Mark(10_000, 201), [])

    @pytest.mark.parametrize(
        "change",
        [
            lambda content: content[:4000],
            lambda content: b"",
            lambda content: content[:10] + b"!" + content[11:],
            lambda content: content[: EDGE - 1] + b"!" + content[EDGE:],
            lambda content: content[:4990] + b"!" + content[4991:],
            lambda content: content[: 5000 - EDGE] + b"!" + content[5001 - EDGE :],
            lambda content: content[5000:] * 2,
            lambda content: b"one line more at the top\n" + content,
            lambda content: content[50:],
        ],
        ids=[
            "cut",
            "emptied",
            "head",
            "end of head",
            "tail",
            "start of tail",
            "rotated",
            "line put in",
            "line taken out",
        ],
    )
    def test_what_is_no_longer_the_same_is_read_from_the_start_and_says_so(self, folder, log, change):
        saved(folder, log)
        log.write_bytes(change(log.read_bytes()))
        mark, warnings = resumed(folder, log)
        assert mark is None
        assert [str(log) in warning for warning in warnings] == [True]

    def test_what_is_gone_is_no_longer_the_same(self, folder, log):
        saved(folder, log)
        log.unlink()
        assert resumed(folder, log)[0] is None

    def test_what_changed_behind_the_mark_does_not_matter(self, folder, log):
        saved(folder, log)
        log.write_bytes(log.read_bytes()[:5000] + b"others\n")
        assert resumed(folder, log) == (Mark(5000, 101), [])

    def test_a_file_that_was_replaced_while_it_was_read_has_no_mark(self, folder, log):
        """As by logrotate: the mark belongs to what was read, not to what now has its name."""
        with job(folder) as run:
            run.begun(str(log))
            log.rename(log.with_suffix(".1"))
            log.write_bytes(b"".join(b"%049d\n" % (1000 + i) for i in range(200)))
            run.save({str(log): Mark(5000, 101)}, now=True)
        assert resumed(folder, log) == (None, [])

    @pytest.mark.parametrize("left", [b"", b"short\n"])
    def test_a_file_that_was_cut_while_it_was_read_has_no_mark(self, folder, log, left):
        with job(folder) as run:
            run.begun(str(log))
            log.write_bytes(left)
            run.save({str(log): Mark(5000, 101)}, now=True)
        assert resumed(folder, log) == (None, [])

    def test_a_mark_at_the_start_is_one(self, folder, log):
        saved(folder, log, 0, 1)
        assert resumed(folder, log) == (Mark(0, 1), [])

    def test_other_inputs_of_the_job_keep_their_marks(self, folder, log, tmp_path):
        other = tmp_path / "other.jsonl"
        other.write_bytes(log.read_bytes())
        saved(folder, log)
        saved(folder, other, 50, 2)
        assert resumed(folder, log)[0] == Mark(5000, 101)
        assert resumed(folder, other)[0] == Mark(50, 2)

    def test_read_in_another_way_nothing_was_read(self, folder, log):
        saved(folder, log)
        assert resumed(folder, log, reading="csv") == (None, [])
        assert resumed(folder, log)[0] == Mark(5000, 101)

    def test_a_checkpoint_of_another_store_is_refused_naming_both_and_the_lock_is_free_again(self, folder, log):
        saved(folder, log)
        with pytest.raises(UsageError, match=r"store-1.*store-2"), job(folder, store="store-2"):
            pass
        assert resumed(folder, log)[0] == Mark(5000, 101)


class TestAbout:
    def test_a_job_belongs_to_one_store_and_says_what_it_is_about(self, folder):
        with job(folder, about={"database": "a.db"}):
            pass
        kept = json.loads((folder / "job.json").read_text("utf-8"))
        assert (kept["store"], kept["database"]) == (STORE, "a.db")
        with pytest.raises(UsageError, match=r"chats belongs to the store store-1.*store-2"), job(folder, "store-2"):
            pass
        with job(folder):  # asking nothing changes nothing
            pass
        assert json.loads((folder / "job.json").read_text("utf-8")) == kept

    def test_a_summary_is_written_whole_and_for_nobody_else(self, folder):
        with job(folder) as run:
            for number in (1, 2):
                run.keep_summary({"read": number})
        assert json.loads((folder / "summary.json").read_text("utf-8")) == {"read": 2}
        assert stat.S_IMODE((folder / "summary.json").stat().st_mode) == 0o600

    def test_without_marks_those_of_earlier_runs_stay(self, folder, log):
        saved(folder, log)
        with job(folder, reading="of a retry") as run:
            run.save({}, now=True)
        assert resumed(folder, log)[0] == Mark(5000, 101)


class TestDamage:
    """Only the ledger decides what is done: a checkpoint that can't be trusted costs reading time and nothing else."""

    def test_no_cut_and_no_changed_byte_is_ever_believed(self, folder, log):
        saved(folder, log)
        path = folder / "checkpoint.json"
        whole = path.read_bytes()
        mutants = [whole[:length] for length in range(len(whole))]
        mutants += [
            whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :] for i in range(len(whole)) for flip in (1, 32, 128)
        ]
        for mutant in mutants:
            path.write_bytes(mutant)
            mark, warnings = resumed(folder, log)
            if mark is None:
                assert [f"{path} is" in warning for warning in warnings] == [True]
                assert not path.exists()
            else:  # white space between the values says nothing
                assert json.loads(mutant) == json.loads(whole)

    @given(
        junk=st.binary(max_size=200)
        | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
        | st.just(b"[" * 200_000)
        | st.just(b"9" * 10_000)
    )
    def test_junk_is_set_aside_and_kept(self, tmp_path_factory, junk):
        folder = tmp_path_factory.mktemp("job")
        (folder / "checkpoint.json").write_bytes(junk)
        assert resumed(folder, Path("chats.jsonl"))[0] is None
        (kept,) = folder.glob("checkpoint.json.corrupt-*")
        assert kept.read_bytes() == junk

    def test_a_newer_schema_is_set_aside(self, folder, log):
        saved(folder, log)
        path = folder / "checkpoint.json"
        path.write_text(path.read_text("utf-8").replace('"schema": 1', '"schema": 2'), "utf-8")
        mark, warnings = resumed(folder, log)
        assert mark is None
        assert "schema 2" in warnings[0]

    def test_a_write_that_breaks_off_leaves_the_old_one(self, folder, log):
        saved(folder, log)
        path = folder / "checkpoint.json"
        before = path.read_bytes()
        code = f"""
import os, signal
from pathlib import Path
from powermem_cli import files
files.os.fsync = lambda _number: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(Path({str(path)!r}), b"new")
"""
        assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
        assert path.read_bytes() == before
        saved(folder, log, 50, 2)
        assert resumed(folder, log)[0] == Mark(50, 2)

    def test_an_atomic_write_replaces_all_of_it_and_is_private(self, tmp_path):
        path = tmp_path / "x"
        for content in (b"a long first content", b"second"):
            write_atomically(path, content)
            assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == [path]


class TestLock:
    def test_a_second_run_is_told_who_holds_it(self, folder, log):
        with job(folder), pytest.raises(Locked, match=rf"chats .*process {os.getpid()}"), job(folder):
            pass
        assert resumed(folder, log) == (None, [])

    def test_other_jobs_are_not_kept_waiting(self, folder):
        with job(folder), job(folder.with_name("notes")):
            pass

    def test_it_is_free_again_after_kill_9(self, folder, log):
        code = f"""
import time
from pathlib import Path
from powermem_cli.checkpoint import Job
with Job(Path({str(folder)!r}), "chats", {STORE!r}, "jsonl"):
    print("locked", flush=True)
    time.sleep(60)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "locked\n"
            with pytest.raises(Locked, match=f"process {process.pid}"), job(folder):
                pass
            process.kill()
        assert resumed(folder, log) == (None, [])


class TestRejects:
    @staticmethod
    def lines(folder: Path) -> list[str]:
        return (folder / "rejects.jsonl").read_text("utf-8").splitlines()

    def test_a_run_from_the_start_writes_them_anew(self, folder, log):
        for line in ("first", "second"):
            with job(folder) as run:
                run.set_aside([line])
                run.set_aside([line, "ünïcode \udcff"])
        assert (folder / "rejects.jsonl").read_bytes().splitlines()[:2] == [b"second", b"second"]

    def test_a_resumed_run_adds_to_them(self, folder, log):
        with job(folder) as run:
            run.begun(str(log))
            run.set_aside(["first"])
            run.save({str(log): Mark(5000, 101)}, now=True)
        with job(folder) as run:
            assert run.resume_at(str(log))
            run.set_aside(["second"])
        assert self.lines(folder) == ["first", "second"]

    def test_a_run_without_any_leaves_them_as_they_were(self, folder):
        with job(folder) as run:
            run.set_aside(["first"])
        with job(folder) as run:
            run.set_aside([])
        assert self.lines(folder) == ["first"]

    def test_they_are_on_disk_before_the_checkpoint_says_so(self, folder, log):
        with job(folder) as run:
            run.begun(str(log))
            run.set_aside(["first"])
            run.save({str(log): Mark(5000, 101)}, now=True)
            assert self.lines(folder) == ["first"]

    def test_they_can_lie_elsewhere(self, folder, tmp_path):
        elsewhere = tmp_path / "elsewhere.jsonl"
        with job(folder, rejects=elsewhere) as run:
            run.set_aside(["first"])
        assert elsewhere.read_text("utf-8") == "first\n"

    def test_a_full_disk_is_an_error_that_names_the_file_and_nothing_more_goes_wrong(self, folder):
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        with job(folder, rejects=Path("/dev/full")) as run:
            with pytest.raises(StoreError, match="/dev/full") as caught:
                run.set_aside(["first"])
            assert caught.value.code == "store.full"


class TestFolder:
    def test_it_and_its_files_are_private(self, folder, log):
        saved(folder, log)
        with job(folder) as run:
            run.set_aside(["x"])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}

    @pytest.mark.parametrize("name", ["lock", "rejects.jsonl"])
    def test_no_link_that_somebody_put_there_is_followed(self, folder, tmp_path, name):
        folder.mkdir(parents=True)
        victim = tmp_path / "victim"
        victim.write_text("precious", "utf-8")
        (folder / name).symlink_to(victim)
        with pytest.raises(StoreError, match=name if name != "lock" else "chats"), job(folder) as run:
            run.set_aside(["x"])
        assert victim.read_text("utf-8") == "precious"

    def test_one_that_cannot_be_made_is_an_error_that_names_it(self, tmp_path):
        (tmp_path / "jobs").write_text("a file", "utf-8")
        with pytest.raises(StoreError, match="jobs") as caught, job(tmp_path / "jobs" / "chats"):
            pass
        assert caught.value.hint

    def test_saving_is_rare_unless_it_must_be_now(self, folder, log):
        with job(folder) as run:
            run.begun(str(log))
            run.save({str(log): Mark(50, 2)}, now=True)
            run.save({str(log): Mark(100, 3)})
        assert resumed(folder, log)[0] == Mark(50, 2)


class TestNames:
    def test_the_same_inputs_into_the_same_store_are_the_same_job(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        name = job_name(["chats.jsonl"], STORE)
        assert name == job_name([str(tmp_path / "chats.jsonl")], STORE)
        others = [
            job_name(["chats.jsonl"], "store-2"),
            job_name(["x.jsonl"], STORE),
            job_name(["chats.jsonl", "x"], STORE),
        ]
        assert len({name, *others}) == 4

    @pytest.mark.parametrize("path", ["-", "a b/ü&.csv", "..", ".hidden", "x" * 300, "a/\udcff.jsonl", "--rejects"])
    def test_they_can_be_folders_whatever_the_input_is_called(self, path):
        assert check_job_name(job_name([path], STORE))

    @pytest.mark.parametrize("name", ["", "..", ".", "a/b", "/a", "a\0", "a\n", "-a", "x" * 65, "ü", "a b"])
    def test_a_name_that_is_no_folder_is_refused(self, name):
        with pytest.raises(UsageError):
            check_job_name(name)
