"""powermem get, list, update and delete: one memory, many, all of a scope; and dry runs that change nothing."""

from __future__ import annotations

import pytest


@pytest.fixture
def ids(powermem):
    """Of three memories: two of Ana's, one of Ben's."""
    records = [
        {"user_id": "ana", "memory": "Ana drinks green tea", "metadata": {"topic": "food", "stars": 3}},
        {"user_id": "ana", "memory": "The cello lesson is on Thursday"},
        {"user_id": "ben", "agent_id": "bot", "memory": "Ben moved to Lisbon"},
    ]
    lines = powermem.inside("add", "-f", powermem.write("in.jsonl", *records), "--jsonl").jsonl[:-1]
    return [line["memories"][0]["id"] for line in lines]


def contents(powermem):
    return powermem.inside("list", "--json", "--all").json["results"]


# ── get ──


def test_get_one_and_several(powermem, ids):
    assert powermem.inside("get", ids[0]).rows[0][3] == "Ana drinks green tea"
    said = powermem.inside("get", ids[2], ids[0], "--json").json
    assert [row["id"] for row in said["results"]] == [ids[2], ids[0]]
    assert said["not_found"] == []


@pytest.mark.parametrize("way", ["stdin", "file", "file and argument"])
def test_ids_from_elsewhere(powermem, ids, way):
    (powermem.folder / "ids").write_text("\n".join(ids[1:]) + "\n\n", "utf-8")
    arguments, stdin = {
        "stdin": (["-"], "\n".join(ids)),
        "file": ([*ids[:1], "-f", "ids"], ""),
        "file and argument": ([ids[0], ids[1], "-f", "ids"], ""),
    }[way]
    assert [row[0] for row in powermem.inside("get", *arguments, stdin=stdin).rows] == ids


@pytest.mark.parametrize("missing", ["1", "99999999999999999999", "abc", "0x1f", "-1", ""])
def test_what_is_not_there_is_said_and_the_rest_is_shown(powermem, ids, missing):
    said = powermem.inside("get", "--json", "--", ids[0], missing)
    assert said.code == 1
    assert said.err == f"no memory {missing}\n"
    assert [row["id"] for row in said.json["results"]] == ids[:1]
    assert said.json["not_found"] == [missing]


@pytest.mark.parametrize(("command", "arguments"), [("get", []), ("update", ["new"]), ("delete", [])])
def test_somebody_else_s_memory_is_not_found(powermem, ids, command, arguments):
    for scope in (["-u", "ben"], ["-u", "ana", "-a", "bot"]):
        assert powermem.inside(command, ids[0], *arguments, *scope).code == 1
    assert powermem.inside("get", ids[0], env={"POWERMEM_USER": "ben"}).code == 1
    assert contents(powermem)[0]["memory"] == "Ana drinks green tea"


# ── list ──


def test_a_list_is_in_the_order_of_adding(powermem, ids):
    assert [row[0] for row in powermem.inside("list").rows] == ids
    assert [row["id"] for row in powermem.inside("list", "--jsonl").jsonl] == ids


def test_a_list_of_one_scope_or_of_some_metadata(powermem, ids):
    assert [row[0] for row in powermem.inside("list", "-u", "ana").rows] == ids[:2]
    assert [row[0] for row in powermem.inside("list", "-a", "bot").rows] == ids[2:]
    assert [row[0] for row in powermem.inside("list", "--where", "stars=3").rows] == ids[:1]
    assert [row[0] for row in powermem.inside("list", "--filter", '{"topic": {"exists": false}}').rows] == ids[1:]
    assert [row[0] for row in powermem.inside("list", env={"POWERMEM_USER": "ben"}).rows] == ids[2:]


def test_a_list_that_is_not_all_says_so(powermem, ids):
    first = powermem.inside("list", "-k", 2)
    assert [row[0] for row in first.rows] == ids[:2]
    assert f"--after {ids[1]}" in first.err
    rest = powermem.inside("list", "-k", 2, "--after", ids[1])
    assert [row[0] for row in rest.rows] == ids[2:]
    assert rest.err == ""
    assert powermem.inside("list", "-k", 3).err == ""


def test_an_empty_list(powermem):
    said = powermem.inside("list", "--json")
    assert (said.code, said.json) == (0, {"results": []})
    assert said.err.endswith("no memories here\n")


def test_a_long_list_comes_in_pages(powermem):
    records = [{"memory": f"memory {i}"} for i in range(2100)]
    powermem.inside("add", "-f", powermem.write("in.jsonl", *records), "-q")
    rows = powermem.inside("list", "--all").rows
    assert [row[3] for row in rows] == [record["memory"] for record in records]


# ── update ──


def test_update_text_and_metadata(powermem, ids):
    said = powermem.inside("update", ids[0], "Ana prefers coffee", "--metadata", '{"stars": 4}', "--json")
    (row,) = said.json["results"]
    assert (row["id"], row["memory"], row["metadata"]) == (ids[0], "Ana prefers coffee", {"topic": "food", "stars": 4})
    assert contents(powermem)[0]["memory"] == "Ana prefers coffee"
    assert powermem.inside("search", "coffee", "-k", 1).rows[0][0] == ids[0]


def test_update_from_stdin_and_quietly(powermem, ids):
    said = powermem.inside("update", ids[1], "-", "-q", stdin="The lesson is on Friday\n")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert contents(powermem)[1]["memory"] == "The lesson is on Friday"


@pytest.mark.parametrize("way", ["-", "-f"])
def test_update_the_metadata_of_many(powermem, ids, way):
    powermem.write("ids", *ids, "17")
    arguments, stdin = (["-"], " ".join([*ids, "17"])) if way == "-" else (["-f", "ids"], "")
    said = powermem.inside("update", *arguments, "--metadata", '{"seen": true}', "--json", stdin=stdin)
    assert (said.code, said.json["not_found"]) == (1, ["17"])
    assert [row["id"] for row in said.json["results"]] == ids
    assert [row["metadata"].get("seen") for row in contents(powermem)] == [True] * 3
    assert contents(powermem)[0]["metadata"]["topic"] == "food"


def test_update_what_is_not_there(powermem, ids):
    said = powermem.inside("update", "17", "new", "--json")
    assert (said.code, said.json) == (1, {"results": [], "not_found": ["17"]})


# ── delete ──


def test_delete_some(powermem, ids):
    said = powermem.inside("delete", ids[0], "17", ids[2], "--json")
    assert (said.code, said.json["deleted"], said.json["ids"]) == (1, 2, [ids[0], ids[2]])
    assert said.json["not_found"] == ["17"]
    assert [row["id"] for row in contents(powermem)] == [ids[1]]


def test_delete_many_from_a_pipe(powermem, ids):
    listed = powermem.inside("list", "-u", "ana", "--jsonl").jsonl
    said = powermem.inside("delete", "-", stdin="\n".join(row["id"] for row in listed))
    assert (said.code, said.err) == (0, "2 deleted\n")
    assert powermem.inside("delete", "-f", "-", "-q", stdin=ids[2]).err == ""
    assert contents(powermem) == []


def test_delete_all_of_a_scope_needs_a_yes(powermem, ids):
    refused = powermem.inside("delete", "--all", "-u", "ana", "--json")
    assert refused.code == 2
    assert refused.err == "error: --yes is needed to forget 2 memories of user_id='ana': there is no terminal to ask\n"
    assert refused.json["exit_code"] == 2
    assert len(contents(powermem)) == 3
    done = powermem.inside("delete", "--all", "-u", "ana", "--yes", "--json")
    assert (done.code, done.json["deleted"], done.json["dry_run"], done.json["left"]) == (0, 2, False, 0)
    assert [row["id"] for row in contents(powermem)] == ids[2:]


def test_delete_all_means_the_default_user_s_where_there_is_one(powermem, ids):
    assert powermem.inside("delete", "--all", "-y", env={"POWERMEM_USER": "ben"}).err.startswith("1 deleted\n")
    assert [row["id"] for row in contents(powermem)] == ids[:2]


def test_what_was_deleted_is_not_brought_back_by_the_same_file(powermem, ids):
    powermem.inside("delete", ids[0])
    assert powermem.inside("add", "-f", "in.jsonl", "--no-resume", "--json").json["unchanged"] == 3
    assert len(contents(powermem)) == 2


@pytest.mark.parametrize(
    "command",
    [
        ("update", "ID", "new", "--metadata", '{"x": 1}'),
        ("delete", "ID"),
        ("delete", "--all"),
        ("delete", "--all", "-u", "ana", "--yes"),
        ("add", "new"),
        ("add", "-"),
    ],
)
def test_a_dry_run_changes_nothing(powermem, ids, command):
    before, files = contents(powermem), {path: path.stat().st_mtime_ns for path in powermem.folder.glob("state/**/*")}
    arguments = [ids[0] if part == "ID" else part for part in command]
    said = powermem.inside(*arguments, "--dry-run", stdin='{"memory": "new"}\n')
    assert said.code == 0
    assert "dry run" in said.err
    assert contents(powermem) == before
    assert {path: path.stat().st_mtime_ns for path in powermem.folder.glob("state/**/*")} == files


def test_a_dry_run_shows_what_would_be(powermem, ids):
    (row,) = powermem.inside("update", ids[0], "new", "--metadata", '{"x": 1}', "-n", "--json").json["results"]
    assert (row["memory"], row["metadata"]) == ("new", {"topic": "food", "stars": 3, "x": 1})
    said = powermem.inside("delete", ids[0], "17", "-n", "--json").json
    assert (said["deleted"], said["ids"], said["not_found"], said["dry_run"]) == (0, [ids[0]], ["17"], True)
