"""powermem check: what is in order, what is not, and with which code it ends."""

from __future__ import annotations

import json

import pytest
from fake_api import FakeApi, Reply

KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
def fake():
    with FakeApi(key=KEY) as api:
        yield api


@pytest.fixture
def checked(powermem, fake):
    """The findings by subject, and the exit code."""
    asked = {
        "OPENAI_API_KEY": KEY,
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_MODEL": "fake",
        "OPENAI_EMBEDDING_BASE_URL": fake.url,
        "LLM_PROVIDER": "openai",
        "LLM_MODEL": "fake",
        "OPENAI_LLM_BASE_URL": fake.url,
        "RERANKER_PROVIDER": "jina",
        "RERANKER_API_KEY": KEY,
        "RERANKER_API_BASE_URL": fake.url,
    }

    def run(*arguments, **env):
        said = powermem.inside("check", "--json", *arguments, env={**asked, **env})
        assert KEY not in said.out + said.err
        assert said.json["exit_code"] == said.code
        return {finding["subject"]: finding for finding in said.json["results"]}, said.code

    return run


def test_without_any_settings_all_is_in_order(powermem):
    said = powermem.inside("check", "--json")
    assert said.code == 0
    found = {finding["subject"]: finding for finding in said.json["results"]}
    assert found["embedder"]["details"]["dims"] == 256
    assert found["llm"]["state"] == found["reranker"]["state"] == "not used"
    assert "not there yet" in found["store"]["said"]
    assert not powermem.database.exists()
    assert found["python"]["details"]["module"].endswith("powermem.py")


def test_each_provider_is_asked_once_and_its_answer_is_shown(powermem, fake, checked):
    found, code = checked()
    assert code == 0
    assert sorted(request.path for request in fake.requests) == ["/chat/completions", "/embeddings", "/rerank"]
    assert (found["embedder"]["state"], found["embedder"]["details"]["dims"]) == ("ok", 64)
    assert found["llm"]["details"]["answer"]
    assert found["llm"]["details"]["ms"] >= 0
    assert len(found["reranker"]["details"]["scores"]) == 2
    assert "sk-…cdef" in found["settings"]["said"]
    assert "the environment" in found["settings"]["said"]


def test_the_store_is_described(powermem):
    powermem.inside("add", "Anna likes tea")
    said = powermem.inside("check", "--json")
    [store] = [finding for finding in said.json["results"] if finding["subject"] == "store"]
    assert (said.code, store["state"], store["details"]["memories"]) == (0, "ok", 1)
    assert str(powermem.database) in store["said"]
    assert f"sqlite {store['details']['version']}" in store["said"]
    assert f"index: {', '.join(store['details']['indexes'])}, {store['details']['ms']:,} ms" in store["said"]


def test_a_refused_key_is_for_a_person(fake, checked):
    found, code = checked(OPENAI_API_KEY="sk-wrong-9876543210fedcba")
    assert code == 4
    assert found["embedder"]["error"]["code"] == found["llm"]["error"]["code"] == "auth.invalid"
    assert found["reranker"]["state"] == "ok"


def test_a_missing_key_is_for_a_person(powermem):
    said = powermem.inside("check", env={"EMBEDDING_PROVIDER": "qwen"})
    assert said.code == 4
    assert "qwen needs api_key" in said.out


def test_a_provider_that_is_down_is_tried_later(fake, checked):
    fake.rule = lambda request: Reply(503, headers={"Retry-After": "0"}) if "chat" in request.path else None
    found, code = checked()
    assert (code, found["llm"]["error"]["code"], found["embedder"]["state"]) == (75, "provider.unavailable", "ok")
    assert sum("chat" in request.path for request in fake.requests) == 2


def test_a_file_that_is_no_store_comes_before_all_else(powermem, checked):
    powermem.database.write_text("no database " * 1000)
    found, code = checked(OPENAI_API_KEY="sk-wrong-9876543210fedcba")
    assert code == 5
    assert found["store"]["error"]["code"].startswith("store.")


def test_a_store_of_another_model(powermem, checked):
    powermem.inside("add", "Anna likes tea")
    found, code = checked()
    assert (code, found["store"]["error"]["code"]) == (4, "embed.dims_mismatch")


def test_a_database_that_others_may_read(powermem):
    powermem.inside("add", "Anna likes tea")
    powermem.database.chmod(0o644)
    said = powermem.inside("check", "--json")
    [found] = [finding for finding in said.json["results"] if finding["subject"] == "permissions"]
    assert (said.code, found["state"]) == (0, "warning")
    assert "chmod 600" in found["said"]


def test_for_people(powermem):
    lines = [line.split("\t") for line in powermem.inside("check").out.splitlines()]
    assert [line[0] for line in lines][:4] == ["settings", "embedder", "llm", "reranker"]
    assert {line[1] for line in lines} <= {"ok", "not used", "warning"}


def test_it_is_written_down_without_a_text(powermem, fake, checked):
    checked("--log-file", "check.log", "-vv")
    log = (powermem.folder / "check.log").read_text()
    assert "check ended with 0" in log
    assert "openai /embeddings: answered" in log
    assert "Anna" not in log
    assert (powermem.folder / "check.log").stat().st_mode & 0o077 == 0


def test_a_log_that_can_t_be_written(powermem):
    said = powermem.inside("list", "--json", "--log-file", "/nowhere/at/all.log")
    assert (said.code, json.loads(said.out)["code"]) == (5, "output.io")
