"""powermem delete --all, trash, db backup and db reembed: the program's part of them."""

from __future__ import annotations

import json

import pytest
from memories import MoodyEmbedder


@pytest.fixture
def filled(powermem):
    rows = [{"memory": f"{name} likes {what}", "user_id": name} for name in ("ana", "ben") for what in ("tea", "figs")]
    powermem.inside("add", "-f", powermem.write("in.jsonl", *rows))
    return powermem


def stored(powermem):
    return powermem.inside("list", "--all", "--json").json["results"]


def test_what_all_took_comes_back(filled):
    before = stored(filled)
    done = filled.inside("delete", "--all", "-u", "ana", "-y")
    assert done.err.splitlines()[0] == "2 deleted"
    command = done.err.split("powermem ")[1].split()
    (row,) = filled.inside("trash", "list", "--jsonl").jsonl
    assert (row["name"], row["memories"], row["user_id"]) == (command[-1], 2, "ana")
    assert filled.inside("trash", "list").rows[0][2:] == ["2", "user ana"]
    assert filled.memories() == ["ben likes tea", "ben likes figs"]
    filled.inside("add", "-f", "in.jsonl", "--no-resume")
    assert len(stored(filled)) == 2  # no re-run brings them back,
    assert filled.inside(*command).err == "2 added\n"
    assert stored(filled) == before
    filled.inside("add", "-f", "in.jsonl", "--no-resume")
    assert stored(filled) == before  # nor doubles them
    assert filled.inside("trash", "restore").code == 2
    assert "empty" in filled.inside("trash", "list").err


def test_the_last_deletion_is_restored_first_and_the_trash_can_be_emptied(filled):
    for user in ("ana", "ben"):
        filled.inside("delete", "--all", "-u", user, "-y", "-q")
    assert filled.inside("trash", "restore", "--json").json["added"] == 2
    assert filled.memories() == ["ben likes tea", "ben likes figs"]
    wrong = filled.inside("trash", "empty", "nothing", "-y")
    assert (wrong.code, "nothing" in wrong.err) == (2, True)
    assert filled.inside("trash", "empty").code == 2  # nobody is asked here
    assert len(filled.inside("trash", "empty", "-y", "--json").json["dropped"]) == 1
    assert filled.inside("trash", "restore").code == 2


def test_filters_choose_what_is_deleted(filled):
    filled.inside("add", "old", "-u", "ana", "--metadata", '{"topic": "food"}')
    assert filled.inside("delete", "--all", "--where", "topic=food", "-n", "--json").json["dry_run"] is True
    done = filled.inside("delete", "--all", "--where", "topic=food", "-y", "--json").json
    assert (done["deleted"], done["left"], len(stored(filled))) == (1, 0, 4)
    assert filled.inside("delete", "--all", "--until", "2001-01-01", "-y").code == 0
    for wrong in (("1", "--where", "a=1"), ("1", "--purge"), ("--all", "--purge", "--where", "a=1")):
        assert filled.inside("delete", *wrong).code == 2


def test_without_trash_it_is_for_good(filled):
    assert filled.inside("delete", "--all", "-y", "--no-trash").err == "4 deleted\n"
    assert filled.inside("trash", "list", "--json").json == {"results": []}


def test_a_purge_leaves_no_word_of_it_on_the_disk(filled):
    id = stored(filled)[0]["id"]
    filled.inside("update", id, "ana likes pomegranates")
    filled.inside("delete", "--all", "-u", "ana", "-y")
    filled.inside("trash", "restore")
    filled.inside("delete", "--all", "-y")
    filled.inside("trash", "restore")
    filled.inside("delete", "--all", "-u", "ana", "-y")
    done = filled.inside("delete", "--all", "-u", "ana", "--purge", "-y", "--json")
    assert (done.code, done.json["trash"]) == (0, None)
    kept = [path for path in filled.folder.rglob("*") if path.is_file() and path.name != "in.jsonl"]
    for word in (b"pomegranate", b"ana likes"):
        assert [path for path in kept if word in path.read_bytes()] == []
    filled.inside("add", "-f", "in.jsonl", "--no-resume")
    assert filled.memories() == ["ben likes tea", "ben likes figs"]
    assert filled.inside("db", "verify").code == 0


def test_backup(filled):
    done = filled.inside("db", "backup", "copy.db", "--json")
    assert done.json == {"output": "copy.db", "bytes": (filled.folder / "copy.db").stat().st_size}
    refused = filled.inside("db", "backup", "copy.db")
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert "sound" in filled.inside("db", "backup", "copy.db", "--force").err
    filled.inside("delete", "--all", "-y", "--no-trash")
    assert len(filled.inside("list", "--db", "copy.db", "--json").json["results"]) == 4


def test_reembed_after_a_change_of_the_settings(filled):
    other = {"vector_store": {"provider": "sqlite", "config": {"path": str(filled.database)}}}
    other["embedder"] = {"provider": "moody", "config": {"embedding_dims": 16}}
    (filled.folder / "other.json").write_text(json.dumps(other), "utf-8")
    refused = filled.inside("search", "tea", "--config", "other.json")
    assert (refused.code, "powermem db reembed" in refused.err) == (4, True)
    done = filled.inside("db", "reembed", "--config", "other.json", "--json").json
    assert (done["model"], done["made"], done["refused"]) == (MoodyEmbedder(16).model, 4, 0)
    assert filled.inside("search", "ana likes tea", "-k", "1", "--config", "other.json").rows[0][-1] == "ana likes tea"
    assert "nothing to do" in filled.inside("db", "reembed", "--config", "other.json").err


@pytest.mark.parametrize("command", [("backup", "x.db"), ("reembed",), ("verify",)])
def test_for_a_server_it_says_what_to_use_instead(powermem, command):
    result = powermem.inside("db", *command, "--db", "postgresql://127.0.0.1:1/none")
    assert (result.code, "this one is postgres" in result.err) == (2, True)
