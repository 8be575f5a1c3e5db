"""powermem jobs: what is said about past batches, and that what failed in them is tried again where it belongs."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3

import memories  # noqa: F401 - registers the embedder that does not take every text
import pytest
from checker import conserved

OK = {"user_id": "anna", "memory": "Anna likes tea"}
POISON = {"user_id": "anna", "memory": "poison"}


def moody(powermem, **options) -> str:
    """A settings file with an embedder that will not take the word "poison", or what *options* say."""
    settings = {
        "vector_store": {"provider": "sqlite", "config": {"path": str(powermem.database)}},
        "embedder": {"provider": "moody", "config": {"refuses": False, **options}},
    }
    path = powermem.folder / "moody.json"
    path.write_text(json.dumps(settings), "utf-8")
    return str(path)


@pytest.fixture
def failing(powermem):
    """A job, "chats", with one record that failed. Adding it again fails as long as nobody calls `moody` again."""
    powermem.environ.pop("SQLITE_PATH")
    path = powermem.write("chats.jsonl", OK, POISON, "{")
    said = powermem.inside("add", "-f", path, "--job", "chats", "--config", moody(powermem), "--json")
    assert (said.code, said.json["failed"], said.json["to_retry"]) == (3, 1, 1)
    return path


def texts(powermem) -> list[str]:
    with contextlib.closing(sqlite3.connect(powermem.database)) as database:
        return [row[0] for row in database.execute("SELECT text FROM memories ORDER BY id")]


def jobs_folder(powermem):
    return powermem.folder / "state/powermem/jobs"


# ── what is said ──


def test_no_jobs_no_rows(powermem):
    said = powermem.inside("jobs", "list")
    assert (said.code, said.out, said.err) == (0, "", "no jobs here\n")
    assert powermem.inside("jobs", "list", "--json").json == {"results": []}


def test_every_job_has_its_row(powermem, failing):
    powermem.inside("add", "-", "--job", "piped", "--config", moody(powermem), stdin='{"memory": "x"}')
    chats, piped = powermem.inside("jobs", "list").rows
    assert (chats[0], chats[1], chats[3:]) == ("chats", "done", ["1", "1", "1", "0"])
    assert (piped[0], piped[1], piped[3:]) == ("piped", "done", ["1", "0", "0", "0"])
    assert [row["job"] for row in powermem.inside("jobs", "list", "--json").json["results"]] == ["chats", "piped"]
    assert [row["to_retry"] for row in powermem.inside("jobs", "list", "--jsonl").jsonl] == [1, 0]


def test_what_was_never_started_is_no_job(powermem):
    elf = powermem.folder / "elf.jsonl"
    elf.write_bytes(b"\x7fELF" + bytes(range(256)))
    assert powermem.inside("add", "-f", elf, "--job", "mine").code == 2
    assert powermem.inside("jobs", "list", "--json").json["results"] == []
    assert powermem.inside("add", "-f", powermem.write("good.jsonl", OK), "--job", "mine").code == 0
    assert powermem.inside("add", "-f", elf, "--job", "mine").code == 2
    (job,) = powermem.inside("jobs", "list", "--json").json["results"]
    assert (job["job"], job["state"], job["summary"]["added"]) == ("mine", "end", 1)


def test_a_checkpoint_of_another_store_starts_no_job(powermem):
    path, mark = powermem.write("in.jsonl", OK), powermem.folder / "mark.json"
    assert powermem.inside("add", "-f", path, "--job", "one", "--checkpoint", mark).code == 0
    said = powermem.inside("add", "-f", path, "--job", "two", "--checkpoint", mark, "--db", powermem.folder / "two.db")
    assert said.code == 2
    assert [row["job"] for row in powermem.inside("jobs", "list", "--json").json["results"]] == ["one"]


def test_one_job_in_full(powermem, failing):
    shown = powermem.inside("jobs", "show", "chats").rows
    told = {row[0]: row[1] for row in shown}
    assert told["reads"] == str(failing)
    assert told["store"] == str(powermem.database)
    assert told["ended"] == "1 added, 1 rejected, 1 failed"
    assert told["rejects"] == str(jobs_folder(powermem) / "chats/rejects.jsonl")
    assert told["failed"] == f"{failing}:2: moody: this text is not taken (1 run)"
    document = powermem.inside("jobs", "show", "chats", "--json").json
    assert document["summary"]["exit_code"] == 3
    assert conserved(document["summary"])
    (failed,) = document["failing"]
    assert (failed["code"], failed["runs"], failed["parked"]) == ("provider.rejected", 1, False)
    assert failed["record"]["memory"] == "poison"
    assert document["holder"] is None


def test_a_damaged_list_of_failures_is_said_and_the_next_run_finds_them_again(powermem, failing):
    (jobs_folder(powermem) / "chats/failed.jsonl").write_text("{\n", "utf-8")
    assert "damaged" in [row[0] for row in powermem.inside("jobs", "show", "chats").rows]
    again = powermem.inside(
        "add", "-f", failing, "--job", "chats", "--config", moody(powermem, poison="none"), "--json"
    )
    assert "failed.jsonl is damaged" in again.err
    assert (again.json["unchanged"], again.json["added"], again.json["rejected"]) == (1, 1, 1)


def test_the_summary_is_for_nobody_else(powermem, failing):
    path = jobs_folder(powermem) / "chats/summary.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text("utf-8"))["job"] == "chats"


def test_control_characters_do_not_reach_the_terminal(powermem):
    path = powermem.folder / "a\x1b[31m.jsonl"
    path.write_text(json.dumps(OK) + "\n", "utf-8")
    powermem.inside("add", "-f", path, "--job", "red")
    assert "\x1b" not in powermem.inside("jobs", "show", "red").out


@pytest.mark.parametrize("verb", ["show", "retry", "forget"])
def test_a_job_that_is_not_there(powermem, failing, verb):
    said = powermem.inside("jobs", verb, "chat", "--yes", "--json")
    assert said.code == 1
    assert (said.json["code"], said.json["exit_code"], said.json["stop_reason"]) == ("job.unknown", 1, "end")
    assert "did you mean chats?" in said.json["hint"]


@pytest.mark.parametrize("name", ["../chats", "..", "/etc", "a/b", ".", ""])
def test_no_name_leaves_the_folder_of_jobs(powermem, failing, name):
    for verb in ("show", "retry", "forget"):
        assert powermem.inside("jobs", verb, name, "--yes").code == 2
    assert (jobs_folder(powermem) / "chats").is_dir()


def test_a_link_is_no_job(powermem, failing, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "failed.jsonl").write_text("{}", "utf-8")
    (jobs_folder(powermem) / "link").symlink_to(precious)
    for verb in ("show", "retry", "forget"):
        assert powermem.inside("jobs", verb, "link", "--yes").code == 1
    assert powermem.inside("add", "-f", failing, "--job", "link", "--config", moody(powermem)).code == 5
    assert [path.name for path in precious.iterdir()] == ["failed.jsonl"]


# ── again ──


def test_the_next_run_tries_what_failed_first(powermem, failing):
    healthy = moody(powermem, poison="none")
    said = powermem.inside("add", "-f", failing, "--job", "chats", "--config", healthy, "--jsonl")
    (record,) = said.jsonl[:-1]
    assert (record["file"], record["line"], record["status"]) == (str(failing), 2, "added")
    assert (said.code, said.summary["read"], said.summary["to_retry"]) == (0, 1, 0)
    assert texts(powermem) == ["Anna likes tea", "poison"]
    assert powermem.inside("add", "-f", failing, "--job", "chats", "--config", healthy, "--json").json["read"] == 0


def test_after_five_runs_it_is_parked_and_retry_revives_it(powermem, failing):
    again = ("add", "-f", failing, "--job", "chats", "--config", powermem.folder / "moody.json", "--json")
    for runs in (2, 3, 4, 5):
        said = powermem.inside(*again).json
        assert (said["read"], said["failed"], said["parked"]) == (1, 1, int(runs == 5))
        assert conserved(said)
    idle = powermem.inside(*again)
    assert (idle.code, idle.json["read"], idle.json["parked"]) == (0, 0, 1)
    assert "1 parked, failed in 5 runs: powermem jobs retry chats" in idle.err
    assert powermem.inside("jobs", "show", "chats", "--json").json["failing"][0]["parked"]
    once_more = powermem.inside("jobs", "retry", "chats", "--config", powermem.folder / "moody.json", "--json")
    assert (once_more.code, once_more.json["failed"], once_more.json["to_retry"]) == (1, 1, 1)  # from the beginning
    done = powermem.inside("jobs", "retry", "chats", "--config", moody(powermem, poison="none"), "--json")
    assert (done.code, done.json["read"], done.json["added"], done.json["parked"]) == (0, 1, 1, 0)
    assert texts(powermem) == ["Anna likes tea", "poison"]
    assert powermem.inside(*again).json["read"] == 0  # the checkpoint is where it was


def test_retry_goes_to_the_store_of_the_job(powermem, failing):
    moody(powermem, poison="none")
    settings = powermem.folder / "moody.json"
    settings.write_text(settings.read_text("utf-8").replace("memories.db", "other.db"), "utf-8")
    assert powermem.inside("jobs", "retry", "chats", "--config", settings).code == 0
    assert texts(powermem) == ["Anna likes tea", "poison"]
    assert not (powermem.folder / "other.db").exists()


def test_retry_into_another_store_is_refused_naming_both(powermem, failing):
    said = powermem.inside(
        "jobs", "retry", "chats", "--config", moody(powermem, poison="none"), "--db", "other.db", "--json"
    )
    assert said.code == 2
    assert "the job chats belongs to the store" in said.json["message"]
    assert powermem.inside("jobs", "list").rows[0][5] == "1"


def test_retry_makes_no_store_where_there_was_one(powermem, failing):
    powermem.database.unlink()
    assert "is gone" in powermem.inside("jobs", "retry", "chats").err
    assert not powermem.database.exists()


def test_retry_with_nothing_to_do_and_as_a_dry_run(powermem, failing):
    assert powermem.inside("jobs", "retry", "chats", "-n", "--json").json["to_retry"] == 1
    assert texts(powermem) == ["Anna likes tea"]
    powermem.inside("add", "-f", powermem.write("ok.jsonl", OK), "--job", "fine", "--config", moody(powermem))
    said = powermem.inside("jobs", "retry", "fine")
    assert (said.code, said.err) == (0, "nothing failed: there is nothing to try again\n")


# ── forget ──


def test_forget_removes_the_folder_and_nothing_else(powermem, failing):
    before = texts(powermem)
    elsewhere = powermem.folder / "rejects.jsonl"
    elsewhere.write_text("kept", "utf-8")
    assert powermem.inside("jobs", "forget", "chats").code == 2  # there is nobody to ask
    assert powermem.inside("jobs", "forget", "chats", "-n").code == 0
    assert (jobs_folder(powermem) / "chats").is_dir()
    assert powermem.inside("jobs", "forget", "chats", "--yes", "--json").json == {
        "job": "chats",
        "dry_run": False,
        "forgotten": True,
    }
    assert list(jobs_folder(powermem).iterdir()) == []
    assert (texts(powermem), failing.exists(), elsewhere.exists()) == (before, True, True)
    healthy = moody(powermem, poison="none")
    again = powermem.inside("add", "-f", failing, "--job", "chats", "--config", healthy, "--json").json
    assert (again["unchanged"], again["added"], again["rejected"]) == (1, 1, 1)  # the ledger still knows


# ── while it runs ──


@pytest.fixture
def running(powermem):
    """A process that runs the job "pipe" and waits for more input."""
    with powermem.started("add", "-", "--job", "pipe", "--jsonl") as process:
        process.stdin.write(b'{"memory": "the first"}\n')
        process.stdin.flush()
        assert b"the first" in process.stdout.readline()
        yield process


def end(process):
    process.stdin.close()
    assert process.wait(30) == 0


def test_who_runs_it_is_said_and_it_is_not_forgotten(powermem, running):
    shown = powermem.inside("jobs", "show", "pipe", "--json").json
    assert shown["state"] == "running"
    assert f"process {running.pid} on {os.uname().nodename}, since 20" in shown["holder"]
    assert shown["holder"].endswith(": powermem add - --job pipe --jsonl")
    said = powermem.inside("jobs", "forget", "pipe", "--yes", "--json")
    assert (said.code, said.json["code"], said.json["stop_reason"]) == (75, "job.locked", "locked")
    assert (jobs_folder(powermem) / "pipe").is_dir()
    end(running)
    assert powermem.inside("jobs", "list").rows[0][1] == "done"


def test_four_processes_on_one_job_one_runs_and_three_step_back(powermem, running):
    path = powermem.write("in.jsonl", OK)
    arguments = ("add", "-f", path, "--job", "pipe", "--json")
    with powermem.started(*arguments) as a, powermem.started(*arguments) as b, powermem.started(*arguments) as c:
        ends = [(process.communicate()[0], process.returncode) for process in (a, b, c)]
    assert [code for _, code in ends] == [75, 75, 75]
    documents = [json.loads(out) for out, _ in ends]
    assert {(one["code"], one["stop_reason"], one["exit_code"]) for one in documents} == {("job.locked", "locked", 75)}
    assert all(f"process {running.pid} " in one["message"] for one in documents)
    end(running)
    assert texts(powermem) == ["the first"]


def test_skip_says_so_and_is_no_failure(powermem, running):
    path = powermem.write("in.jsonl", OK)
    said = powermem("add", "-f", path, "--job", "pipe", "--if-locked", "skip")
    assert (said.code, said.out, len(said.err.splitlines())) == (0, "", 1)
    assert f"process {running.pid} " in said.err
    quiet = powermem("add", "-f", path, "--job", "pipe", "--if-locked", "skip", "-q", "--json")
    assert (quiet.code, quiet.err, quiet.json["stop_reason"], quiet.json["exit_code"]) == (0, "", "locked", 0)


def test_wait_waits_until_it_is_free(powermem, running):
    path = powermem.write("in.jsonl", OK)
    with powermem.started("add", "-f", path, "--job", "pipe", "--if-locked", "wait", "--json") as waiting:
        assert b"waiting: another run of the job pipe" in waiting.stderr.readline()
        end(running)
        out, _ = waiting.communicate()
    assert (waiting.returncode, json.loads(out)["added"]) == (0, 1)


def test_wait_ends_at_the_deadline(powermem, running):
    path = powermem.write("in.jsonl", OK)
    said = powermem("add", "-f", path, "--job", "pipe", "--if-locked", "wait", "--deadline", "0.2s", "--json")
    assert (said.code, said.json["code"]) == (75, "job.locked")


def test_two_pipes_at_once_into_one_store_are_two_jobs(powermem):
    with powermem.started("add", "-", "--jsonl") as first:
        first.stdin.write(b'{"memory": "one"}\n')
        first.stdin.flush()
        first.stdout.readline()
        second = powermem("add", "-", "--json", stdin='{"memory": "one"}\n{"memory": "two"}\n')
        assert (second.code, second.json["added"], second.json["unchanged"]) == (0, 1, 1)
        end(first)
        third = powermem("add", "-", "--json", stdin='{"memory": "three"}\n')
    names = [row[0] for row in powermem.inside("jobs", "list").rows]
    assert names == [third.json["job"], second.json["job"]] == [names[0], f"{names[0]}-2"]
    assert sorted(powermem.memories()) == ["one", "three", "two"]
