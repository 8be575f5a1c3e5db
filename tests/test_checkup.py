"""Every provider answers a check: asked one thing, once, and what it said is told."""

from __future__ import annotations

import pytest
from fake_api import FakeApi, Reply

from powermem_cli.checkup import check_embedder, check_llm, check_reranker
from powermem_cli.config import parse_config
from powermem_cli.providers import EMBEDDERS, LLMS, RERANKERS

pytestmark = pytest.mark.anyio

KEY = "sk-canary-0123456789abcdef"
HERE = {"local", "sentence-transformers"}
REMOTE = sorted({name for name, place in EMBEDDERS.items() if place.startswith("powermem_cli.")} - HERE)
CHECKS = [
    *(("embedder", name, check_embedder, "64 dimensions") for name in REMOTE),
    *(("llm", name, check_llm, 'answered \'{"facts"') for name in sorted(LLMS)),
    *(("reranker", name, check_reranker, "for what answers a question") for name in sorted(RERANKERS)),
]


@pytest.fixture
def fake():
    with FakeApi(key=KEY) as api:
        yield api


def settings(fake, section, name, **options):
    chosen = {"api_key": KEY, "model": "fake", "base_url": fake.url, "retries": 1, **options}
    return parse_config({section: {"provider": name, "config": chosen}})


@pytest.mark.parametrize(("section", "name", "check", "said"), CHECKS, ids=[f"{one[0]} {one[1]}" for one in CHECKS])
async def test_each_says_what_it_answered_and_how_long_it_took(fake, section, name, check, said):
    found = await check(settings(fake, section, name))
    assert (found.subject, found.state) == (section, "ok"), found
    assert said in found.said
    assert found.details["provider"] == name
    assert found.details["ms"] >= 0
    assert len(fake.requests) == 1
    refused = await check(settings(fake, section, name, api_key="sk-wrong-9876543210fedcba"))
    assert (refused.state, refused.error.code) == ("failed", "auth.invalid")
    assert "9876543210" not in refused.said
    fake.rule = lambda request: Reply(body="<html>")
    useless = await check(settings(fake, section, name))
    assert (useless.state, useless.error.code) == ("failed", "provider.bad_response")
