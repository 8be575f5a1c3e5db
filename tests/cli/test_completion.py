"""What Tab offers: users and jobs as they are, and nothing, without a word, where something is wrong."""

from __future__ import annotations

import pytest


def offered(powermem, *words, **env):
    completing = {
        "_POWERMEM_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    said = powermem(env={**completing, **env})
    assert said.err == ""
    return said.out.split()


@pytest.fixture
def filled(powermem):
    path = powermem.write("chats.jsonl", *[{"memory": "x", "user_id": user} for user in ("anna", "andy", "ben")])
    assert powermem.inside("add", "-f", path, "--job", "nightly").code == 0
    return powermem


def test_users(filled):
    assert offered(filled, "powermem", "list", "--user", "an") == ["andy", "anna"]
    before = filled.database.read_bytes()
    assert offered(filled, "powermem", "search", "x", "-u", "") == ["andy", "anna", "ben"]
    assert filled.database.read_bytes() == before


def test_jobs_and_topics(filled):
    assert offered(filled, "powermem", "jobs", "show", "ni") == ["nightly"]
    assert offered(filled, "powermem", "help", "ex") == ["exit-codes"]


@pytest.mark.parametrize("place", ["nowhere.db", "chats.jsonl", "mysql://u@h/d"])
def test_where_there_is_no_store_nothing_is_offered_and_none_is_made(filled, place):
    before = sorted(filled.folder.iterdir())
    assert offered(filled, "powermem", "list", "--user", "an", SQLITE_PATH=place) == []
    assert sorted(filled.folder.iterdir()) == before
