"""From files to memories: nothing lost, nothing twice, nothing said to be done that is not. Real files, a real store."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from memories import config, held

from powermem_cli.batch import Limits
from powermem_cli.checkpoint import Job, job_name
from powermem_cli.errors import Locked, ProviderRefused, UsageError
from powermem_cli.ingestion import Ingestion, Report, total_bytes, until_stopped
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Scope
from powermem_cli.readers import Reading

pytestmark = pytest.mark.anyio


def line(text: str, **fields: Any) -> str:
    return json.dumps({"memory": text, "user_id": "anna", **fields}) + "\n"


class Place:
    """A folder with inputs, a store, and the state of jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "memories.db"
        self.events: list[str] = []

    def write(self, name: str, *lines: str) -> Path:
        path = self.folder / name
        path.write_text("".join(lines), "utf-8")
        return path

    async def ingest(self, *inputs: Path | str, reading: Reading | None = None, **options: Any) -> Report:
        moods = {name: options.pop(name) for name in ("refuses", "poison") if name in options}
        async with AsyncMemory(config(self.database, **{"refuses": False, **moods})) as memory:
            return await self.ingest_into(memory, *inputs, reading=reading or Reading(), **options)

    async def ingest_into(
        self,
        memory: AsyncMemory,
        *inputs: Path | str,
        reading: Reading,
        seconds: float | None = None,
        started: Callable[[Ingestion], None] = lambda _ingestion: None,
        revive: bool = False,
        **options: Any,
    ) -> Report:
        names = [str(name) for name in inputs]
        store = await memory.store_identity()
        name = job_name(names, store)
        with Job(self.folder / "jobs" / name, name, store, repr(reading)) as job:
            if revive:
                job.failed.revive()
            ingestion = Ingestion(memory, names, reading, job, **options)
            started(ingestion)
            return await until_stopped(ingestion, seconds)

    async def texts(self) -> list[str]:
        async with AsyncMemory(config(self.database, refuses=False)) as memory:
            return await held(memory)

    def rejects(self) -> list[dict[str, Any]]:
        paths = self.folder.glob("jobs/*/rejects.jsonl")
        return [json.loads(one) for path in paths for one in path.read_text("utf-8").splitlines()]


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def counts(report: Report) -> dict[str, int]:
    report.tally.check()
    return dict(+report.tally.by_status)


FACTS = [f"fact {i}" for i in range(300)]
LINES = [line(fact) for fact in FACTS]


class TestOnce:
    async def test_a_file_becomes_memories(self, place):
        report = await place.ingest(place.write("a.jsonl", *LINES))
        assert (counts(report), report.stop_reason, report.error) == ({"added": 300}, "end", None)
        assert (report.rejects, report.warnings) == (None, ())
        assert sorted(await place.texts()) == sorted(FACTS)

    async def test_the_same_again_reads_nothing(self, place):
        path = place.write("a.jsonl", *LINES)
        await place.ingest(path)
        report = await place.ingest(path)
        assert (report.tally.read, report.stop_reason, report.warnings) == (0, "end", ())

    async def test_a_file_that_grew_costs_its_new_lines(self, place):
        path = place.write("a.jsonl", *LINES[:200])
        await place.ingest(path)
        with path.open("a") as file:
            file.writelines(LINES[200:])
        assert counts(await place.ingest(path)) == {"added": 100}
        assert sorted(await place.texts()) == sorted(FACTS)

    @pytest.mark.parametrize(
        "change",
        [
            lambda lines: list(reversed(lines)),
            lambda lines: lines[100:],
            lambda lines: [line("new"), *lines],
            lambda lines: lines[:150] + lines[151:] + [line("new")],
            lambda lines: [one.replace('", "', '",   "') for one in lines],
        ],
        ids=["sorted anew", "rotated", "line put in", "line taken out", "spelled otherwise"],
    )
    async def test_a_file_that_changed_is_read_again_and_adds_only_what_is_new(self, place, change):
        await place.ingest(place.write("a.jsonl", *LINES))
        report = await place.ingest(place.write("a.jsonl", *change(LINES)))
        new = set(await place.texts()) - set(FACTS)
        assert counts(report).get("added", 0) == len(new) == len(change(LINES)) - counts(report)["unchanged"]
        assert sorted(await place.texts()) == sorted([*FACTS, *new])
        assert "not the file it was" in report.warnings[0]

    async def test_under_another_name_or_compressed_it_is_known(self, place):
        await place.ingest(place.write("a.jsonl", *LINES))
        packed = place.folder / "b.jsonl.gz"
        packed.write_bytes(gzip.compress("".join(LINES).encode()))
        for other in (place.write("c.jsonl", *LINES), packed, packed):
            assert counts(await place.ingest(other)) == {"unchanged": 300}
        piped = await place.ingest("-", stdin=io.BytesIO("".join(LINES).encode()))
        assert counts(piped) == {"unchanged": 300}
        assert len(await place.texts()) == 300

    async def test_without_resuming_all_is_read_and_nothing_is_added(self, place):
        path = place.write("a.jsonl", *LINES)
        await place.ingest(path)
        assert counts(await place.ingest(path, resume=False)) == {"unchanged": 300}

    async def test_several_files_are_one_job_and_each_is_gone_on_with_by_itself(self, place):
        paths = [place.write(f"{i}.jsonl", *LINES[100 * i : 100 * i + 100]) for i in range(3)]
        assert counts(await place.ingest(*paths)) == {"added": 300}
        with paths[1].open("a") as file:
            file.write(line("new"))
        assert counts(await place.ingest(*paths)) == {"added": 1}

    async def test_the_last_line_is_left_while_it_is_being_written(self, place):
        path = place.write("a.jsonl", *LINES[:2], LINES[2][:20])
        report = await place.ingest(path)
        assert counts(report) == {"added": 2}
        assert "a.jsonl:3" in report.warnings[0]
        with path.open("a") as file:
            file.write(LINES[2][20:])
        assert counts(await place.ingest(path)) == {"added": 1}
        assert await place.texts() == FACTS[:3]

    async def test_a_last_line_that_is_whole_but_for_its_newline_is_taken_and_lines_are_still_counted_right(
        self, place
    ):
        path = place.write("a.jsonl", LINES[0], LINES[1].rstrip("\n"))
        assert counts(await place.ingest(path)) == {"added": 2}
        with path.open("a") as file:
            file.write("\n" + LINES[2] + "broken\n")
        # The line that has grown is looked at once more: only so is a plain text that goes on not torn in two.
        assert counts(await place.ingest(path)) == {"unchanged": 1, "added": 1, "rejected": 1}
        assert [reject["line"] for reject in place.rejects()] == [4]
        assert await place.texts() == FACTS[:3]

    async def test_a_plain_text_that_goes_on_in_its_last_line_is_not_torn_in_two(self, place):
        path = place.write("a.txt", "I like tea\n", "I like rain")
        await place.ingest(path)
        with path.open("a") as file:
            file.write(" and snow\n")
        await place.ingest(path)
        assert await place.texts() == ["I like tea", "I like rain", "I like rain and snow"]

    async def test_one_key_twice_in_a_file_ends_with_what_was_said_last(self, place):
        lines = [line(f"version {i} of {i % 3}", id=str(i % 3)) for i in range(30)]
        report = await place.ingest(place.write("a.jsonl", *lines), limits=Limits(concurrency=4, handful=2))
        assert counts(report) == {"added": 3, "updated": 27}
        assert sorted(await place.texts()) == ["version 27 of 0", "version 28 of 1", "version 29 of 2"]

    async def test_the_order_of_a_file_is_that_of_its_memories(self, place):
        await place.ingest(place.write("a.jsonl", *LINES), limits=Limits(concurrency=4, handful=16))
        assert await place.texts() == FACTS


class TestSetAside:
    BAD = ("not json\n", '{"user_id": "anna"}\n', line("", id="k"), line("ok").replace('"anna"', "7.5"))

    async def test_a_bad_line_is_set_aside_and_the_others_are_added(self, place):
        lines = [*LINES[:10], self.BAD[0], *LINES[10:20], *self.BAD[1:], *LINES[20:30]]
        report = await place.ingest(place.write("a.jsonl", *lines))
        assert counts(report) == {"added": 30, "rejected": 4}
        assert [(one["line"], bool(one["code"] and one["message"])) for one in place.rejects()] == [
            (number, True) for number in (11, 22, 23, 24)
        ]
        assert sorted(await place.texts()) == sorted(FACTS[:30])
        assert report.rejects is not None

    async def test_what_was_mended_is_added_and_nothing_twice(self, place):
        path = place.write("a.jsonl", *LINES[:5], *self.BAD, *LINES[5:10])
        report = await place.ingest(path)
        mended = [
            {**one, "record": {"memory": f"mended {i}", "user_id": "anna"}} for i, one in enumerate(place.rejects())
        ]
        again = place.write("mended.jsonl", *[json.dumps(one) + "\n" for one in mended])
        assert counts(await place.ingest(again)) == {"added": 4}
        assert counts(await place.ingest(path)) == {}
        assert counts(await place.ingest(again)) == {}
        assert sorted(await place.texts()) == sorted([*FACTS[:10], *(f"mended {i}" for i in range(4))])
        assert report.rejects.exists()

    async def test_a_record_that_failed_is_set_aside_as_it_was_and_can_be_added_again(self, place):
        path = place.write("a.jsonl", *LINES[:3], line("poison", id="k", metadata={"a": 1}), *LINES[3:6])
        report = await place.ingest(path)
        assert counts(report) == {"added": 6, "failed": 1}
        (reject,) = place.rejects()
        assert reject["code"] == "provider.rejected"
        assert reject["record"] == {"memory": "poison", "user_id": "anna", "key": "k", "metadata": {"a": 1}}
        assert counts(await place.ingest(report.rejects)) == {"failed": 1}

    async def test_a_grown_file_adds_to_its_rejects_one_read_anew_replaces_them(self, place):
        path = place.write("a.jsonl", LINES[0], "bad 1\n")
        await place.ingest(path)
        with path.open("a") as file:
            file.write("bad 2\n")
        await place.ingest(path)
        assert [one["line"] for one in place.rejects()] == [2, 3]
        await place.ingest(place.write("a.jsonl", "bad 3\n", LINES[0]))
        assert [one["line"] for one in place.rejects()] == [1]

    async def test_rejects_of_a_file_that_is_gone_on_with_stay_although_another_is_read_anew(self, place):
        first, second = place.write("1.jsonl", "bad 1\n"), place.write("2.jsonl", LINES[0], "bad 2\n")
        await place.ingest(first, second)
        first.write_text("other\n" + LINES[1])
        await place.ingest(first, second)
        assert {(Path(one["file"]).name, one["line"]) for one in place.rejects()} >= {("2.jsonl", 2), ("1.jsonl", 1)}

    async def test_what_is_read_is_never_written_over(self, place):
        report = await place.ingest(place.write("a.jsonl", "bad\n"))
        before = report.rejects.read_bytes()
        async with AsyncMemory(config(place.database, refuses=False)) as memory:
            opened = Job(report.rejects.parent, "a", await memory.store_identity(), "r")
            with opened as job, pytest.raises(UsageError, match=r"rejects\.jsonl") as caught:
                Ingestion(memory, [str(report.rejects)], Reading(), job)
        assert "--rejects" in caught.value.hint
        assert report.rejects.read_bytes() == before

    async def test_rejects_of_a_compressed_file_are_written_anew(self, place):
        packed = place.folder / "a.jsonl.gz"
        packed.write_bytes(gzip.compress((LINES[0] + "bad\n").encode()))
        for status in ("added", "unchanged"):
            assert counts(await place.ingest(packed)) == {status: 1, "rejected": 1}
            assert len(place.rejects()) == 1

    async def test_rejects_of_a_pipe_say_how_it_was_read(self, place):
        reading = Reading(format="csv", scope=Scope(user_id="anna"))
        report = await place.ingest("-", reading=reading, stdin=io.BytesIO(b"memory,topic\ntea,drinks\nrain\n"))
        assert counts(report) == {"added": 1, "rejected": 1}
        (reject,) = place.rejects()
        assert (reject["line"], reject["options"]) == (3, {"format": "csv", "user_id": "anna"})


class TestFailed:
    """Records that failed: tried again first by every run, parked after five, and never twice in the store."""

    async def test_the_next_run_does_it_and_goes_on_where_the_last_one_ended(self, place):
        path = place.write("a.jsonl", *LINES[:3], line("poison", id="k", metadata={"a": 1}), *LINES[3:6])
        first = await place.ingest(path)
        assert (counts(first), first.to_retry, first.parked) == ({"added": 6, "failed": 1}, 1, 0)
        with path.open("a") as file:
            file.write(LINES[6])
        seen: list[tuple[str, int, str]] = []

        def watch(_ingestion: Ingestion, handful: Any) -> None:
            seen.extend((Path(o.record.source.file).name, o.record.source.line, o.status) for o in handful.outcomes)

        second = await place.ingest(path, poison="none", watch=watch)
        assert seen == [("a.jsonl", 4, "added"), ("a.jsonl", 8, "added")]
        assert (counts(second), second.to_retry) == ({"added": 2}, 0)
        assert await place.texts() == [*FACTS[:6], "poison", FACTS[6]]
        assert counts(await place.ingest(path)) == {}
        assert not list(place.folder.glob("jobs/*/failed.jsonl"))

    async def test_after_five_runs_it_is_parked_and_a_new_version_of_it_is_tried(self, place):
        path = place.write("a.jsonl", line("poison", id="k"), LINES[0])
        reports = [await place.ingest(path) for _ in range(6)]
        assert [counts(report).get("failed", 0) for report in reports] == [1, 1, 1, 1, 1, 0]
        assert [(report.to_retry, report.parked) for report in reports] == [(1, 0)] * 4 + [(0, 1)] * 2
        assert len(place.rejects()) == 1  # told once, however often it failed
        again = await place.ingest(path, resume=False, poison="none")
        assert counts(again) == {"failed": 1, "unchanged": 1}  # read again, and still not tried
        assert (again.to_retry, again.parked) == (0, 1)
        place.write("a.jsonl", line("mended", id="k"), LINES[0])
        mended = await place.ingest(path)
        assert (counts(mended), mended.parked) == ({"added": 1, "unchanged": 1}, 0)

    async def test_read_again_in_the_same_run_it_is_asked_for_once(self, place):
        path = place.write("a.jsonl", line("poison"), LINES[0])
        await place.ingest(path)
        async with AsyncMemory(config(place.database, refuses=False)) as memory:
            report = await place.ingest_into(memory, path, reading=Reading(), resume=False)
            calls = memory._embedder.calls
        assert (counts(report), report.to_retry) == ({"failed": 2, "unchanged": 1}, 1)
        assert calls == [["poison"]]

    async def test_an_old_version_never_takes_the_place_of_a_newer_one(self, place):
        path = place.write("a.jsonl", line("poison", id="k"), line("newer", id="k"))
        assert counts(await place.ingest(path, limits=Limits(handful=1))) == {"failed": 1, "added": 1}
        assert counts(await place.ingest(path, poison="none")) == {}
        assert await place.texts() == ["newer"]

    async def test_what_failed_before_says_nothing_about_what_comes_next(self, place):
        path = place.write("a.jsonl", *[line(f"poison {i}") for i in range(60)])
        await place.ingest(path, limits=Limits(failures=None))
        with path.open("a") as file:
            file.writelines(LINES[:100])
        report = await place.ingest(path, limits=Limits(failures=0.2))
        assert (report.stop_reason, counts(report)) == ("end", {"failed": 60, "added": 100})

    async def test_how_it_was_read_the_first_time_is_how_it_is_added(self, place):
        path = place.write("a.csv", "memory,topic\npoison,drinks\n")
        reading = Reading(scope=Scope(user_id="anna"), infer=False)
        await place.ingest(path, reading=reading)
        assert counts(await place.ingest(path, reading=replace(reading, infer=True), poison="none"))["added"] == 1
        async with AsyncMemory(config(place.database, refuses=False)) as memory:
            (row,) = (await memory.get_all("anna"))["results"]
        assert row["metadata"] == {"topic": "drinks"}
        assert counts(await place.ingest(path, reading=reading, resume=False)) == {"unchanged": 1}

    async def test_what_a_killed_run_left_is_gone_on_from(self, place):
        path = place.write("a.jsonl", line("poison 1"), line("poison 2"), LINES[0])
        await place.ingest(path)
        (failed,) = place.folder.glob("jobs/*/failed.jsonl")
        one, two = failed.read_text("utf-8").splitlines()
        one_more = one.replace('"runs": 1', '"runs": 2')
        # As if killed after the second attempt at the first, in the middle of noting the second.
        failed.write_text(f"{one}\n{two}\n{one_more}\n{two[:50]}", "utf-8")
        report = await place.ingest(path)
        assert (counts(report), report.to_retry, report.warnings) == ({"failed": 2}, 2, ())
        runs = [json.loads(text)["runs"] for text in failed.read_text("utf-8").splitlines()]
        assert sorted(runs) == [2, 3]
        assert counts(await place.ingest(path, poison="none")) == {"added": 2}

    @pytest.mark.parametrize("damage", ['"record"', "poison", "{", '"runs"', '"content": "'])
    async def test_what_is_damaged_is_never_added_and_never_lost(self, place, damage):
        path = place.write("a.jsonl", LINES[0], line("poison"), line("poison 2"))
        await place.ingest(path)
        (failed,) = place.folder.glob("jobs/*/failed.jsonl")
        failed.write_text(failed.read_text("utf-8").replace(damage, damage[:-1] + "~", 1), "utf-8")
        report = await place.ingest(path, poison="none")
        again = await place.ingest(path, poison="none", resume=False)
        assert set(await place.texts()) == {FACTS[0], "poison", "poison 2"}
        assert len(await place.texts()) == 3
        assert report.warnings or counts(report)["rejected"] == 1
        assert counts(again)["added" if not report.warnings else "unchanged"]


class TestEndings:
    async def test_a_refused_key_ends_the_run_after_one_call_and_the_next_run_does_it_all(self, place):
        path = place.write("a.jsonl", *LINES)
        report = await place.ingest(path, refuses=True)
        assert isinstance(report.error, ProviderRefused)
        assert report.stop_reason == "error"
        assert set(counts(report)) == {"not_started"}
        assert counts(await place.ingest(path)) == {"added": 300}

    async def test_an_input_that_is_not_there_leaves_what_was_read_before_it_done(self, place):
        path = place.write("a.jsonl", *LINES)
        report = await place.ingest(path, place.folder / "missing.jsonl")
        assert isinstance(report.error, UsageError)
        assert counts(report) == {"added": 300}
        assert len(await place.texts()) == 300

    async def test_a_limit_is_gone_on_from(self, place):
        path = place.write("a.jsonl", *LINES)
        for expected in (120, 120, 60):
            report = await place.ingest(path, limits=Limits(records=120, handful=32))
            assert counts(report)["added"] == expected
        assert report.stop_reason == "end"
        assert sorted(await place.texts()) == sorted(FACTS)

    async def test_a_run_that_is_stopped_keeps_what_is_done_and_the_next_goes_on(self, place):
        path = place.write("a.jsonl", *LINES)

        def watch(ingestion: Ingestion, handful: Any) -> None:
            if ingestion.tally.by_status["added"] > 100:
                ingestion.stop("signal")

        report = await place.ingest(path, watch=watch, limits=Limits(handful=10))
        assert report.stop_reason == "signal"
        done = counts(report)["added"]
        assert 100 < done < 300
        rest = counts(await place.ingest(path))
        assert rest == {"added": 300 - done}
        assert sorted(await place.texts()) == sorted(FACTS)

    async def test_a_deadline_starts_nothing_new(self, place):
        report = await place.ingest(place.write("a.jsonl", *LINES), seconds=0)
        assert report.stop_reason == "deadline"
        assert set(counts(report)) <= {"added", "not_started"}
        assert counts(await place.ingest(place.folder / "a.jsonl"))["added"] + counts(report).get("added", 0) == 300

    async def test_a_deadline_that_is_not_reached_changes_nothing(self, place):
        report = await place.ingest(place.write("a.jsonl", *LINES), seconds=60)
        assert (report.stop_reason, counts(report)) == ("end", {"added": 300})

    async def test_too_many_failures_end_it(self, place):
        lines = [line(f"poison {i}") for i in range(100)]
        report = await place.ingest(
            place.write("a.jsonl", *lines), limits=Limits(failures=5.0, handful=1, concurrency=1)
        )
        assert report.stop_reason == "too_many_failures"
        assert counts(report) == {"failed": 6, "not_started": 94}

    async def test_a_second_run_of_the_job_is_locked_out_and_does_nothing(self, place):
        path = place.write("a.jsonl", *LINES)
        refused: list[Locked] = []

        def started(ingestion: Ingestion) -> None:
            with pytest.raises(Locked) as caught:
                Job(ingestion.job.folder, ingestion.job.name, "s", "r").__enter__()
            refused.append(caught.value)

        assert counts(await place.ingest(path, started=started)) == {"added": 300}
        assert len(refused) == 1

    async def test_a_file_that_is_replaced_while_it_is_read_loses_no_line_of_either(self, place):
        """As by logrotate, in the middle of a run."""
        path = place.write("a.jsonl", *[line(f"old {i}") for i in range(5000)])

        def watch(ingestion: Ingestion, _handful: Any) -> None:
            if not (place.folder / "a.jsonl.1").exists():
                path.rename(place.folder / "a.jsonl.1")
                place.write("a.jsonl", *[line(f"new {i}") for i in range(6000)])

        report = await place.ingest(path, watch=watch)
        assert counts(report) == {"added": 5000}
        assert counts(await place.ingest(path)) == {"added": 6000}

    @pytest.mark.parametrize("kept", [0, 40])
    async def test_a_file_that_is_cut_and_filled_again_while_it_is_read_loses_no_line_of_either(self, place, kept):
        """As by logrotate's copytruncate: the same file, other content, and longer than before at the end."""
        old = [line(f"old {i:04}") for i in range(5000)]
        path = place.write("a.jsonl", *old)

        def watch(_ingestion: Ingestion, _handful: Any) -> None:
            if path.stat().st_size and b"new" not in path.read_bytes():
                with path.open("r+") as file:
                    file.truncate(0)
                    file.writelines([*old[:kept], *[line(f"new {i:04}") for i in range(6000)]])

        report = await place.ingest(path, watch=watch)
        read = counts(report)["added"]
        await place.ingest(path)
        texts = set(await place.texts())
        assert {f"new {i:04}" for i in range(6000)} <= texts
        assert len(texts) == len(await place.texts()) >= read


class TestProgress:
    async def test_bytes_are_those_on_the_disk(self, place):
        plain = place.write("a.jsonl", *LINES)
        packed = place.folder / "b.jsonl.gz"
        packed.write_bytes(gzip.compress("".join(line(f"other {i}") for i in range(300)).encode()))
        names = [str(plain), str(packed)]
        seen: list[int] = []
        await place.ingest(*names, watch=lambda ingestion, _handful: seen.append(ingestion.bytes_read))
        assert seen[-1] == total_bytes(names) == plain.stat().st_size + packed.stat().st_size
        assert seen == sorted(seen)
        assert total_bytes([*names, "-"]) is None

    async def test_each_handful_is_told_once_it_is_durable(self, place):
        path = place.write("a.jsonl", *LINES)
        async with AsyncMemory(config(place.database, refuses=False)) as memory:
            told: list[Sequence[int]] = []

            def watch(_ingestion: Ingestion, handful: Any) -> None:
                told.append([effect.id for outcome in handful.outcomes for effect in outcome.effects])

            await place.ingest_into(memory, path, reading=Reading(), watch=watch)
            flat = [id for some in told for id in some]
            assert [(await memory.get(id))["id"] for id in flat] == flat
            assert len(flat) == 300


class Log:
    """A file that somebody writes to: line by line, now and then only half a line so far."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.said: list[str] = []
        self.lines: list[str] = []
        self.half = ""
        """What of the last line is written already."""

    def take(self, step: str) -> None:
        if step == "append poison":
            self.said.append(line(f"poison {len(self.said)}"))
            self.lines.append(self.said[-1])
            self.half = ""
        elif step == "append":
            new = [line(f"fact {len(self.said) + i}") for i in range(2)]
            self.said += new
            self.lines += new
            self.half = ""
        elif step == "append half":
            self.half = line(f"fact {len(self.said)}")[:25]
        elif step == "append bad":
            self.lines.append("not json\n")
        elif step == "rotate":
            self.lines = self.lines[-2:]
        elif step == "sort":
            self.lines.sort()
        self.path = self.place.write("log.jsonl", *self.lines, self.half)

    @property
    def facts(self) -> set[str]:
        """In the file now."""
        return {json.loads(one)["memory"] for one in self.lines if one.startswith("{")}


STEPS = st.sampled_from(["append", "append bad", "append half", "rotate", "sort", "run", "run a little"])


@settings(max_examples=25)
@given(st.lists(STEPS, max_size=12))
def test_whatever_happens_to_a_log_between_runs_every_whole_line_becomes_one_memory(tmp_path_factory, steps):
    async def main() -> None:
        place = Place(tmp_path_factory.mktemp("log"))
        log = Log(place)
        for step in ("append", *steps, "run"):
            log.take(step)
            if not step.startswith("run"):
                continue
            report = await place.ingest(log.path, limits=Limits(handful=2, records=None if step == "run" else 3))
            report.tally.check()
            assert report.error is None
            texts = await place.texts()
            assert len(texts) == len(set(texts))
            assert set(texts) <= {json.loads(one)["memory"] for one in log.said}
            assert log.facts <= set(texts) or step == "run a little"

    asyncio.run(main())


FAILING_STEPS = st.sampled_from(["append", "append poison", "rotate", "sort", "run", "run", "run a little"])


@settings(max_examples=25)
@given(st.lists(FAILING_STEPS, max_size=14))
def test_whatever_failed_on_the_way_is_there_once_when_it_can_be(tmp_path_factory, steps):
    async def main() -> None:
        place = Place(tmp_path_factory.mktemp("log"))
        log = Log(place)
        seen: set[str] = set()
        for step in ("append", "append poison", *steps, "run"):
            log.take(step)
            if not step.startswith("run"):
                continue
            limits = Limits(handful=2, records=None if step == "run" else 3, failures=None)
            report = await place.ingest(log.path, limits=limits)
            report.tally.check()
            assert report.error is None
            texts = await place.texts()
            assert len(texts) == len(set(texts))
            assert not any("poison" in text for text in texts)
            seen |= log.facts if step == "run" else set()
            failing = {text for text in seen if "poison" in text}
            assert len(failing) <= report.to_retry + report.parked
        last = await place.ingest(log.path, poison="none", revive=True)
        assert (last.to_retry, last.parked) == (0, 0)
        texts = await place.texts()
        assert len(texts) == len(set(texts))
        assert seen <= set(texts)

    asyncio.run(main())
