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


def test_in_a_real_bash(filled):
    filled.put_on_path()
    line = (
        'eval "$(powermem --show-completion)"; COMP_WORDS=(powermem list --user an); COMP_CWORD=3;'
        ' _powermem_completion powermem; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    said = filled("-c", line, wrapper=("bash", "--norc"))
    assert (said.out.split(), said.err) == (["andy", "anna"], "")


@pytest.mark.parametrize(
    ("shell", "answer"), [("zsh", '_arguments \'*: :(("andy"\n"anna"))\'\n'), ("fish", "andy\nanna\n")]
)
def test_what_the_scripts_of_other_shells_ask_for(filled, shell, answer):
    asking = {
        "_POWERMEM_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "powermem list --user an",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    assert filled(env=asking).out == answer
