"""powermem add: texts and files of every kind, what is said about them, and that a second run adds nothing."""

from __future__ import annotations

import gzip
import json

import pytest
from checker import conserved
from program import PROGRAM

TEA = {"user_id": "ana", "memory": "Ana drinks green tea"}
TALK = {
    "id": "talk-1",
    "user_id": "ben",
    "created_at": "2026-03-01T10:00:00Z",
    "messages": [{"role": "user", "content": "I moved to Lisbon"}, {"role": "assistant", "content": "How is it?"}],
}
NOTE = {"memory": "The boiler is serviced in May"}
TEXTS = ["Ana drinks green tea", "I moved to Lisbon", "The boiler is serviced in May"]


# ── one text ──


def test_a_text_is_remembered_and_shown(powermem):
    (row,) = powermem.inside("add", "Anna likes tea", "--user", "anna").rows
    assert row[3] == "Anna likes tea"
    assert powermem.memories(user="anna") == ["Anna likes tea"]


def test_a_text_that_is_known_is_not_added_again(powermem):
    powermem.inside("add", "Anna likes tea")
    again = powermem.inside("add", "Anna likes tea", "--json")
    assert (again.code, again.json) == (0, {"results": []})
    assert again.err == "known already: nothing was added\n"


def test_without_inference_a_text_is_added_as_often_as_it_is_given(powermem):
    for _ in range(2):
        powermem.inside("add", "Anna likes tea", "--no-infer")
    assert powermem.memories() == ["Anna likes tea"] * 2


def test_a_text_has_scope_and_metadata(powermem):
    said = powermem.inside(
        "add", "x", "-u", "anna", "-a", "bot", "-r", "7", "--metadata", '{"topic": "food"}', "--json"
    )
    (row,) = said.json["results"]
    assert (row["user_id"], row["agent_id"], row["run_id"]) == ("anna", "bot", "7")
    assert row["metadata"] == {"topic": "food"}
    assert isinstance(row["id"], str)
    assert row["event"] == "ADD"


def test_a_quiet_add_says_nothing_but_answers_for_programs(powermem):
    assert powermem.inside("add", "one", "-q").out == ""
    assert powermem.inside("add", "two", "-q", "--jsonl").jsonl[0]["memory"] == "two"


def test_a_dry_run_of_a_text_touches_nothing(powermem):
    said = powermem.inside("add", "Anna likes tea", "--dry-run", "--json")
    assert (said.code, said.json) == (0, {"dry_run": True, "results": []})
    assert not powermem.database.exists()


# ── files ──


@pytest.mark.parametrize("form", ["jsonl", "json", "gz", "csv", "stdin", "pipe"])
def test_records_come_from_every_kind_of_input(powermem, form):
    lines = [json.dumps(record) for record in (TEA, TALK, NOTE)]
    path, stdin = powermem.folder / f"in.{form}", b""
    if form in {"stdin", "pipe"}:
        stdin = "\n".join(lines).encode()
    elif form == "json":
        path.write_text(f"[{', '.join(lines)}]", "utf-8")
    elif form == "gz":
        path = path.with_name("in.jsonl.gz")
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    elif form == "csv":
        path.write_text("memory;user_id\nAna drinks green tea;ana\nI moved to Lisbon;ben\n" + TEXTS[2] + ";\n", "utf-8")
    else:
        path.write_text("\n".join(lines) + "\n", "utf-8")
    arguments = {"stdin": ["-"], "pipe": []}.get(form, ["-f", path])
    said = powermem.inside("add", *arguments, "--json", stdin=stdin)
    assert said.code == 0, said
    assert (said.json["read"], said.json["added"], said.json["memories"]) == (3, 3, 3)
    assert powermem.memories() == TEXTS


def test_columns_of_a_csv_are_mapped(powermem):
    path = powermem.folder / "notes.csv"
    path.write_text('customer,note,topic\nana,"Likes tea, green",food\n', "utf-8")
    said = powermem.inside("add", "-f", path, "--map", "memory=note,user_id=customer,metadata.about=topic", "-q")
    assert (said.code, said.out, said.err) == (0, "", "")
    (row,) = powermem.inside("list", "--json").json["results"]
    assert (row["memory"], row["user_id"], row["metadata"]) == ("Likes tea, green", "ana", {"about": "food"})


def test_several_files_and_a_glob_are_one_job(powermem):
    powermem.write("a1.jsonl", TEA)
    powermem.write("a2.jsonl", TALK)
    powermem.write("b.jsonl", NOTE)
    said = powermem.inside("add", "-f", "a*.jsonl", "-f", "b.jsonl", "--jsonl")
    assert [(line["file"], line["line"]) for line in said.jsonl[:-1]] == [
        ("a1.jsonl", 1),
        ("a2.jsonl", 1),
        ("b.jsonl", 1),
    ]
    assert said.summary["added"] == 3


def test_what_records_lack_comes_from_the_options(powermem):
    path = powermem.write("in.jsonl", TEA, NOTE)
    powermem.inside("add", "-f", path, "--user", "cleo", "--metadata", '{"source": "import"}')
    assert powermem.memories(user="cleo") == [NOTE["memory"]]
    rows = powermem.inside("list", "--json").json["results"]
    assert [row["metadata"] for row in rows] == [{"source": "import"}] * 2


def test_the_time_of_a_record_is_kept(powermem):
    powermem.inside("add", "-f", powermem.write("in.jsonl", TALK))
    (row,) = powermem.inside("list", "--json").json["results"]
    assert row["created_at"] == "2026-03-01T10:00:00Z"


def test_a_pipe_with_a_name_is_read_once_and_to_its_end(powermem):
    # A process substitution, <(…): to look into it for a checkpoint would take from what is still to be read.
    lines = 5000
    script = f'{{ for i in $(seq {lines}); do echo "memory $i {"x" * 60}"; done; }}'
    said = powermem("-c", f'"$@" add -f <({script}) --format text --json', "bash", *PROGRAM, wrapper=("bash",))
    assert (said.code, said.json["read"], said.json["added"]) == (0, lines, lines)


# ── once more ──


def test_a_second_run_reads_nothing_and_adds_nothing(powermem):
    path = powermem.write("in.jsonl", TEA, TALK, NOTE)
    powermem.inside("add", "-f", path)
    assert powermem.inside("add", "-f", path, "--json").json["read"] == 0
    all_again = powermem.inside("add", "-f", path, "--no-resume", "--json").json
    assert (all_again["read"], all_again["unchanged"]) == (3, 3)
    assert powermem.memories() == TEXTS


def test_a_grown_file_costs_only_its_new_lines(powermem):
    path = powermem.write("in.jsonl", TEA, TALK)
    powermem.inside("add", "-f", path)
    powermem.write("in.jsonl", TEA, TALK, NOTE)
    grown = powermem.inside("add", "-f", path, "--jsonl")
    assert [(line["line"], line["status"]) for line in grown.jsonl[:-1]] == [(3, "added")]


def test_a_last_line_that_is_not_whole_yet_waits_for_the_next_run(powermem):
    path = powermem.write("in.jsonl", TEA)
    path.write_text(path.read_text("utf-8") + '{"memory": "half', "utf-8")
    first = powermem.inside("add", "-f", path, "--json")
    assert (first.code, first.json["read"]) == (0, 1)
    assert "in.jsonl:2" in first.err
    path.write_text(path.read_text("utf-8") + ' and whole"}\n', "utf-8")
    assert powermem.inside("add", "-f", path, "--json").json["added"] == 1
    assert powermem.memories() == [TEA["memory"], "half and whole"]


@pytest.mark.parametrize("change", ["replaced", "shorter"])
def test_a_file_that_is_another_now_is_read_from_its_start(powermem, change):
    path = powermem.write("in.jsonl", TEA, TALK)
    powermem.inside("add", "-f", path)
    powermem.write("in.jsonl", *((NOTE, TEA, TALK) if change == "replaced" else (NOTE,)))
    again = powermem.inside("add", "-f", path, "--json")
    assert "is not the file it was" in again.err
    assert again.json["added"] == 1
    assert sorted(powermem.memories()) == sorted(TEXTS)


def test_the_same_records_under_another_name_and_compressed_add_nothing(powermem):
    powermem.inside("add", "-f", powermem.write("in.jsonl", TEA, TALK, NOTE))
    packed = powermem.folder / "renamed.jsonl.gz"
    packed.write_bytes(gzip.compress(powermem.write("sorted.jsonl", NOTE, TEA, TALK).read_bytes()))
    for _ in range(2):
        said = powermem.inside("add", "-f", packed, "--json").json
        assert (said["read"], said["unchanged"]) == (3, 3)


@pytest.mark.parametrize(
    ("how", "status", "texts"),
    [("update", "updated", ["new"]), ("skip", "unchanged", ["old"]), ("add", "added", ["old", "new"])],
)
def test_a_known_key_with_other_content(powermem, how, status, texts):
    powermem.inside("add", "-f", powermem.write("in.jsonl", {"id": 1, "memory": "old"}))
    said = powermem.inside(
        "add", "-f", powermem.write("new.jsonl", {"id": 1, "memory": "new"}), "--on-change", how, "--json"
    )
    assert said.json[status] == 1
    assert powermem.memories() == texts


# ── by what a record is known again ──


@pytest.mark.parametrize(("key", "added"), [("auto", 2), ("content", 1), ("order", 2), ("metadata.shop", 1), ("id", 2)])
def test_the_key_is_what_the_command_says_it_is(powermem, key, added):
    records = [{"id": i, "order": f"o{i}", "metadata": {"shop": "s1"}, "memory": "the same"} for i in range(2)]
    path = powermem.write("in.jsonl", *records)
    said = powermem.inside("add", "-f", path, "--key", key, "--no-infer", "--json").json
    assert (said["added"], said["unchanged"]) == (added, 2 - added)
    assert len(powermem.memories()) == added
    again = powermem.inside("add", "-f", path, "--key", key, "--no-infer", "--no-resume", "--json").json
    assert again["unchanged"] == 2


def test_a_field_as_key_names_what_changed(powermem):
    columns = powermem.folder / "in.csv"
    columns.write_text("Order No,memory\n7,old\n8,other\n", "utf-8")
    powermem.inside("add", "-f", columns, "--key", "Order No")
    columns.write_text("Order No,memory\n7,new\n8,other\n", "utf-8")
    said = powermem.inside("add", "-f", columns, "--key", "Order No", "--json").json
    assert (said["updated"], said["unchanged"]) == (1, 1)
    assert powermem.memories() == ["new", "other"]


def test_a_record_without_the_field_is_set_aside_and_can_be_mended(powermem):
    path = powermem.write("in.jsonl", {"order": 1, "memory": "a"}, {"memory": "b"}, {"order": [], "memory": "c"})
    said = powermem.inside("add", "-f", path, "--key", "order", "--json")
    assert (said.code, said.json["added"], said.json["rejected"]) == (3, 1, 2)
    assert "in.jsonl:2: there is no field order, which --key says is the key" in said.err
    with open(said.json["rejects"], encoding="utf-8") as lines:  # noqa: PTH123
        missing, wrong = map(json.loads, lines)
    assert (missing["code"], wrong["code"]) == ("input.key", "input.type")
    missing["record"]["order"] = wrong["record"]["order"] = 2
    mended = powermem.write("mended.jsonl", missing, wrong)
    assert powermem.inside("add", "-f", mended, "--key", "order", "--json").json["updated"] == 1
    assert powermem.memories() == ["a", "c"]


def test_positions_keep_what_is_meant_to_be_there_twice(powermem):
    tick = {"memory": "tick"}
    options = ("--key", "position", "--no-infer", "--no-resume", "--json")
    path = powermem.write("in.jsonl", tick, tick)
    assert powermem.inside("add", "-f", path, *options).json["added"] == 2
    powermem.write("in.jsonl", tick, tick, tick)  # it grew
    grown = powermem.inside("add", "-f", path, *options).json
    assert (grown["added"], grown["unchanged"]) == (1, 2)
    for name in ("renamed.jsonl", "packed.jsonl.gz"):
        other = powermem.folder / name
        other.write_bytes(path.read_bytes() if "gz" not in name else gzip.compress(path.read_bytes()))
        assert powermem.inside("add", "-f", other, *options).json["unchanged"] == 3
    sorted_anew = powermem.write("in.jsonl", {"memory": "tock"}, tick)
    assert powermem.inside("add", "-f", sorted_anew, *options).json["added"] == 2
    assert powermem.memories() == ["tick"] * 3 + ["tock", "tick"]


def test_files_that_begin_alike_do_not_take_each_other_s_place(powermem):
    head = {"memory": "x" * 2000}
    for name in ("a", "b"):
        path = powermem.write(f"{name}.jsonl", head, {"memory": f"of {name}"})
        assert powermem.inside("add", "-f", path, "--key", "position", "--no-infer").code == 0
    assert powermem.memories()[1:] == ["of a", "of b"]


@pytest.mark.parametrize("arguments", [["-"], []])
def test_nothing_stands_anywhere_in_a_pipe(powermem, arguments):
    said = powermem.inside("add", *arguments, "--key", "position", "--json", stdin='{"memory": "tick"}\n')
    assert (said.code, said.json["code"]) == (2, "usage.invalid")
    assert "no file" in said.json["message"]


@pytest.mark.parametrize("how", ["each", "all"])
def test_what_was_deleted_stays_deleted_unless_it_is_forced_to_come_back(powermem, how):
    path = powermem.write("in.jsonl", TEA, TALK)
    powermem.inside("add", "-f", path)
    ids = [row[0] for row in powermem.inside("list").rows]
    powermem.inside("delete", *(ids if how == "each" else ["--all", "--yes"]))
    again = powermem.inside("add", "-f", path, "--no-resume", "--json").json
    assert (again["unchanged"], powermem.memories()) == (2, [])
    forced = powermem.inside("add", "-f", path, "--force", "--json").json
    assert (forced["added"], forced["memories"], powermem.memories()) == (2, 2, TEXTS[:2])
    assert powermem.inside("add", "-f", path, "--json").json["read"] == 0  # its checkpoint is as good as any


def test_forced_nothing_is_doubled_and_what_is_there_is_renewed_in_its_place(powermem):
    path = powermem.write("in.jsonl", TEA, TALK, NOTE)
    powermem.inside("add", "-f", path)
    rows = powermem.inside("list").rows
    powermem.inside("update", rows[0][0], "something else")
    powermem.inside("delete", rows[1][0])
    forced = powermem.inside("add", "-f", path, "--force", "--json").json
    assert (forced["updated"], forced["added"], forced["memories"]) == (2, 1, 1)
    assert sorted(powermem.memories()) == sorted(TEXTS)
    assert TEXTS[0] in powermem.inside("get", rows[0][0]).out
    for _ in range(2):
        assert powermem.inside("add", "-f", path, "--force", "--json").json["updated"] == 3
    assert len(powermem.memories()) == 3


# ── what is said ──


def test_the_summary_adds_up_whatever_becomes_of_the_records(powermem):
    powermem.inside("add", "-f", powermem.write("before.jsonl", TEA, {"id": "k", "memory": "old"}))
    path = powermem.write(
        "in.jsonl",
        *(
            TEA,
            {"id": "k", "memory": "new"},
            NOTE,
            {"id": "n", **NOTE},
            {"messages": [{"role": "system", "content": "Hm"}]},
        ),
        *('{"memory": 7}', "{", {"memory": "the last"}),
    )
    said = powermem.inside("add", "-f", path, "--jsonl", "--limit", 7)
    statuses = [line["status"] for line in said.jsonl[:-1]]
    assert statuses == ["unchanged", "updated", "added", "duplicate", "no_facts", "rejected", "rejected"]
    assert conserved(said.summary)
    assert said.summary["read"] == len(statuses) + said.summary["not_started"]
    assert said.summary["stop_reason"] == "limit"


def test_a_line_per_record_and_the_summary_last(powermem):
    said = powermem.inside("add", "-f", powermem.write("in.jsonl", TALK, "{"), "--jsonl")
    talk, broken, summary = said.jsonl
    assert talk["type"] == "record"
    assert (talk["file"], talk["line"], talk["key"], talk["status"]) == (
        str(powermem.folder / "in.jsonl"),
        1,
        "talk-1",
        "added",
    )
    (memory,) = talk["memories"]
    assert (memory["event"], memory["memory"]) == ("ADD", "I moved to Lisbon")
    assert memory["id"] == powermem.inside("list", "--json").json["results"][0]["id"]
    assert (broken["line"], broken["status"], broken["error"]["code"]) == (2, "rejected", "input.json")
    assert (summary["type"], summary["exit_code"], summary["stop_reason"]) == ("summary", said.code, "end")


def test_one_line_on_stderr_when_nobody_watches(powermem):
    said = powermem("add", "-f", powermem.write("in.jsonl", TEA, TALK))
    assert (said.code, said.out) == (0, "")
    assert len(said.err.splitlines()) == 1
    assert "2 added (2 memories)" in said.err


def test_one_memory_is_not_one_memories(powermem):
    assert "1 added (1 memory) " in powermem.inside("add", "-f", powermem.write("in.jsonl", TEA)).err


def test_a_log_says_how_far_it_is_only_when_asked(powermem):
    path = powermem.write("in.jsonl", TEA)
    assert powermem.inside("add", "-f", path, "--progress", "none", "--dry-run").code == 0
    assert len(powermem.inside("add", "-f", path, "--progress", "log").err.splitlines()) == 1  # too short for a line


# ── rejects ──


def test_what_is_no_record_is_set_aside_and_the_rest_is_added(powermem):
    path = powermem.write("in.jsonl", TEA, '{"user_id": "ben" "memory": "x"}', NOTE)
    said = powermem.inside("add", "-f", path)
    assert said.code == 3
    assert len(said.err.splitlines()) == 1
    assert "in.jsonl:2:19: " in said.err  # where, and why, and where it lies now
    assert "rejects.jsonl" in said.err
    assert powermem.memories() == [TEA["memory"], NOTE["memory"]]


def test_mended_rejects_are_added_and_nothing_else(powermem):
    path = powermem.write("in.jsonl", TEA, {"user_id": "ben", "memory": 7}, '{"memory": "half')
    path.write_text(path.read_text("utf-8") + json.dumps(NOTE) + "\n", "utf-8")
    rejects = powermem.folder / "rejects.jsonl"
    assert powermem.inside("add", "-f", path, "--rejects", rejects).code == 3
    lines = [json.loads(line) for line in rejects.read_text("utf-8").splitlines()]
    assert [(line["line"], line["code"]) for line in lines] == [(2, "input.type"), (3, "input.json")]
    lines[0]["record"]["memory"] = "Ben plays the harp"
    lines[1]["raw"] += ' no more"}'
    mended = powermem.write("rejects.jsonl", *lines)
    said = powermem.inside("add", "-f", mended, "--json")
    assert (said.code, said.json["added"]) == (0, 2)
    assert powermem.memories(user="ben") == ["Ben plays the harp"]
    assert powermem.inside("add", "-f", mended, "--no-resume", "--json").json["unchanged"] == 2


def test_rejects_are_in_the_job_s_folder_and_for_nobody_else(powermem):
    said = powermem.inside("add", "-f", powermem.write("in.jsonl", "{", TEA), "--json").json
    path = powermem.folder / "state/powermem/jobs" / said["job"] / "rejects.jsonl"
    assert said["rejects"] == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_read_again_is_not_set_aside_twice(powermem):
    packed = powermem.folder / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(powermem.write("in.jsonl", "{", TEA).read_bytes()))
    for _ in range(2):
        rejects = powermem.inside("add", "-f", packed, "--json").json["rejects"]
    with open(rejects) as lines:  # noqa: PTH123
        assert len(lines.readlines()) == 1


def test_what_a_pipe_set_aside_stays_when_another_is_read(powermem):
    for text in ("{first", "{second"):
        said = powermem.inside("add", "-", "--json", "--format", "jsonl", stdin=text + "\n")
    with open(said.json["rejects"]) as lines:  # noqa: PTH123
        assert [json.loads(line)["raw"] for line in lines] == ["{first", "{second"]


def test_all_rejected_is_a_no(powermem):
    assert powermem.inside("add", "-f", powermem.write("in.jsonl", {"memory": 7}, {"memory": 8})).code == 1


def test_bad_lines_are_no_failures_that_stop_a_run(powermem):
    path = powermem.write("in.jsonl", *[{"memory": 7}] * 60, TEA)
    said = powermem.inside("add", "-f", path, "--max-failures", "1%", "--json")
    assert (said.code, said.json["stop_reason"], said.json["added"]) == (3, "end", 1)


# ── limits and dry runs ──


def test_a_limit_leaves_the_rest_for_the_next_run(powermem):
    path = powermem.write("in.jsonl", TEA, TALK, NOTE)
    first = powermem.inside("add", "-f", path, "--limit", 2, "--json").json
    assert (first["added"], first["stop_reason"], first["exit_code"]) == (2, "limit", 0)
    assert powermem.inside("add", "-f", path, "--json").json["added"] == 1
    assert powermem.memories() == TEXTS


def test_a_deadline_that_has_passed_starts_nothing_new(powermem):
    lines = [{"memory": f"memory {i}"} for i in range(3000)]
    said = powermem.inside("add", "-f", powermem.write("in.jsonl", *lines), "--deadline", "0.001s", "--json")
    assert (said.code, said.json["stop_reason"]) == (75, "deadline")
    assert said.json["added"] < 3000
    assert powermem.inside("add", "-f", powermem.folder / "in.jsonl", "--json").code == 0
    assert len(powermem.memories()) == 3000


def test_a_dry_run_reads_all_and_keeps_nothing(powermem):
    path = powermem.write("in.jsonl", TEA, "{", TALK)
    said = powermem.inside("add", "-f", path, "--dry-run")
    assert said.code == 3
    assert "3 read, 1 would be rejected" in said.err
    assert "in.jsonl:2" in said.err
    document = powermem.inside("add", "-f", path, "-n", "--json").json
    assert (document["read"], document["stop_reason"], document["exit_code"]) == (3, "end", 3)
    assert sorted(entry.name for entry in powermem.folder.iterdir()) == ["in.jsonl"]


def test_a_named_job_and_a_checkpoint_of_one_s_own(powermem):
    path = powermem.write("in.jsonl", TEA)
    mark = powermem.folder / "mark.json"
    said = powermem.inside("add", "-f", path, "--job", "nightly", "--checkpoint", mark, "--json").json
    assert said["job"] == "nightly"
    assert json.loads(mark.read_text("utf-8"))["job"] == "nightly"
    assert powermem.inside("add", "-f", path, "--job", "nightly", "--checkpoint", mark, "--json").json["read"] == 0


def test_a_damaged_checkpoint_costs_reading_time_only(powermem):
    path, mark = powermem.write("in.jsonl", TEA, TALK), powermem.folder / "mark.json"
    powermem.inside("add", "-f", path, "--checkpoint", mark)
    mark.write_bytes(mark.read_bytes().replace(b'"line": 3', b'"line": 9'))
    said = powermem.inside("add", "-f", path, "--checkpoint", mark, "--json")
    assert (said.code, said.json["unchanged"]) == (0, 2)
    assert "is damaged" in said.err
    assert len(list(powermem.folder.glob("mark.json.corrupt-*"))) == 1


def test_a_checkpoint_of_another_store_is_refused(powermem):
    path, mark = powermem.write("in.jsonl", TEA), powermem.folder / "mark.json"
    powermem.inside("add", "-f", path, "--checkpoint", mark)
    said = powermem.inside("add", "-f", path, "--checkpoint", mark, "--db", "other.db", "--json")
    assert said.code == 2
    assert "belongs to the store" in said.json["message"]
