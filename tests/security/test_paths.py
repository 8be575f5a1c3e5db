"""Names of files and jobs that lead elsewhere, or belong to somebody else: nothing is written over, or through a link."""

from __future__ import annotations

import json

import pytest
from program import Powermem

from powermem_cli import accounts
from powermem_cli.providers.base import Usage

HOSTILE = ["../x", "a/b", "/x", "..", ".", "", "-x", "a\nb", "a b", "a\x01", "a\0b", "é", "x" * 65, "~", "$HOME"]
BAD = '{"memory": 7}\n'


def contents(powermem: Powermem) -> dict[str, bytes]:
    """Everything that a run could harm."""
    return {
        str(path.relative_to(powermem.folder)): path.read_bytes()
        for path in powermem.folder.rglob("*")
        if path.is_file() and "memories.db" not in path.name
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_a_job_of_such_a_name_is_refused(powermem, name):
    powermem.write("in.jsonl", {"memory": "x"})
    before = contents(powermem)
    said = powermem.inside("add", "-f", "in.jsonl", f"--job={name}")
    assert (said.code, "can't be the name of a job" in said.err) == (2, True)
    for command in ("show", "retry", "forget"):
        assert powermem.inside("jobs", command, f"--db={powermem.database}", "-y", "--", name).code in {1, 2}
    assert contents(powermem) == before


@pytest.mark.parametrize("user", ["../../x", "/etc/x", "a\\b", "..", "-rf", "\u202e"])
def test_no_id_of_anybody_becomes_a_name_of_a_file(powermem, user):
    powermem.write("in.jsonl", {"memory": "x", "user_id": user, "agent_id": user, "run_id": user, "id": user}, 7)
    assert powermem.inside("add", "-f", "in.jsonl", "--job", "j").code == 3
    assert powermem.memories(user=user) == ["x"]
    names = {path.name for path in powermem.folder.rglob("*")} - {"in.jsonl", "memories.db-wal", "memories.db-shm"}
    state = {"checkpoint.json", "failed.jsonl", "job.json", "lock", "rejects.jsonl", "summary.json"}
    assert names <= {"memories.db", "state", "powermem", "jobs", "j", *state}


@pytest.mark.parametrize("option", ["--rejects", "--checkpoint"])
@pytest.mark.parametrize("name", ["", "-", ".", "nowhere/r.jsonl", "in.jsonl/r", "link", "../nowhere/r"])
def test_a_place_that_is_none_is_refused_before_anything_is_done(powermem, option, name):
    powermem.write("in.jsonl", {"memory": "x"})
    (powermem.folder / "link").symlink_to(powermem.write("theirs", BAD.strip()))
    before = contents(powermem)
    said = powermem.inside("add", "-f", "in.jsonl", f"{option}={name}", "--json")
    assert (said.code, said.json["exit_code"]) == (2, 2)
    assert option in said.err
    assert contents(powermem) == before
    assert not powermem.database.exists()


@pytest.mark.parametrize("held", ['{"memory": "mended by hand"}\n', "notes\n", "{", "\xff\n"])
def test_a_file_of_something_else_is_not_taken_for_rejects(powermem, held):
    powermem.write("in.jsonl", 7)
    path = powermem.folder / "mine.jsonl"
    path.write_text(held, "latin-1")
    said = powermem.inside("add", "-f", "in.jsonl", "--rejects", path)
    assert said.code == 2
    assert "something else than rejects" in said.err
    assert path.read_text("latin-1") == held


def test_rejects_may_go_where_rejects_were_and_into_an_empty_file(powermem):
    powermem.write("in.jsonl", 7)
    path = powermem.folder / "mine.jsonl"
    path.touch()
    for _ in range(2):
        assert powermem.inside("add", "-f", "in.jsonl", "--no-resume", "--rejects", path).code == 1
        assert [json.loads(line)["line"] for line in path.read_text().splitlines()] == [1]


def test_an_input_is_not_its_own_checkpoint(powermem):
    path = powermem.write("in.jsonl", {"memory": "x"})
    before = path.read_bytes()
    assert powermem.inside("add", "-f", path, "--checkpoint", "./in.jsonl").code == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["rejects.jsonl", "failed.jsonl", "lock", "checkpoint.json", "job.json", "summary.json"]
)
def test_no_link_in_the_folder_of_a_job_is_followed(powermem, name):
    """What it leads to is read at most; it stays what it is."""
    powermem.write("in.jsonl", {"memory": "x"}, 7)
    folder = powermem.folder / "state" / "powermem" / "jobs" / "j"
    folder.mkdir(parents=True, mode=0o700)
    theirs = powermem.folder / "theirs"
    theirs.write_text("precious\n")
    (folder / name).symlink_to(theirs)
    said = powermem.inside("add", "-f", "in.jsonl", "--job", "j")
    assert said.code in {3, 5}
    assert "bug" not in said.err
    assert theirs.read_text() == "precious\n"


def test_a_link_instead_of_the_folder_of_a_job_is_refused(powermem):
    powermem.write("in.jsonl", 7)
    jobs = powermem.folder / "state" / "powermem" / "jobs"
    jobs.mkdir(parents=True)
    theirs = powermem.folder / "theirs"
    theirs.mkdir()
    (jobs / "j").symlink_to(theirs)
    said = powermem.inside("add", "-f", "in.jsonl", "--job", "j")
    assert (said.code, list(theirs.iterdir())) == (5, [])
    assert powermem.inside("jobs", "forget", "j", "-y").code == 1
    assert theirs.is_dir()


@pytest.mark.parametrize("option", [("export", "-o"), ("add", "x", "--log-file")], ids=lambda one: one[0])
def test_nothing_else_is_written_through_a_link(powermem, option):
    powermem.inside("add", "known")
    theirs = powermem.write("theirs", "precious")
    for name in ("out", "out.partial"):
        (powermem.folder / name).symlink_to(theirs)
    assert powermem.inside(*option, powermem.folder / "out").code in {2, 5}
    assert theirs.read_text() == "precious\n"


@pytest.mark.parametrize("name", ["", ".", "..", "nowhere/x.jsonl", "folder"])
def test_an_export_to_what_is_no_file_is_refused(powermem, name):
    powermem.inside("add", "known")
    (powermem.folder / "folder").mkdir()
    said = powermem.inside("export", "-o", name, "--json")
    assert (said.code, said.json["exit_code"]) == (2, 2)
    assert not any((powermem.folder / "folder").iterdir())


def test_an_export_to_a_dash_is_one_to_stdout(powermem):
    powermem.inside("add", "known")
    said = powermem.inside("export", "-o", "-", "--format", "csv")
    assert said.out == powermem.inside("export", "--format", "csv").out
    assert "known" in said.out
    assert not (powermem.folder / "-").exists()


@pytest.mark.parametrize("name", ["-x.jsonl", "a b.jsonl", "a\nb.jsonl", "*.jsonl", "\udcff.jsonl", "'$(x)'.jsonl"])
def test_a_file_of_any_name_is_read_as_it_is_called(powermem, name):
    (powermem.folder / name).write_text('{"memory": "x"}\n7\n')
    said = powermem.inside("add", f"--file={name}", "--job", "j")
    assert said.code == 3, said.err
    assert len(said.err.splitlines()) == 1
    assert powermem.memories() == ["x"]
    rejects = powermem.folder / "state" / "powermem" / "jobs" / "j" / "rejects.jsonl"
    assert json.loads(rejects.read_text())["line"] == 2


def test_the_name_a_database_gives_itself_leads_nowhere(tmp_path):
    spent = {"embed": Usage(calls=1)}
    for store in ("../../x", "/etc", "..", "a\0b", "x" * 300, "\udcff"):
        accounts.note(tmp_path / "state", store, spent)
        assert accounts.noted(tmp_path / "state", store)["embed"].calls == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert [path.name for path in (tmp_path / "state").iterdir()] == [accounts.FOLDER]
