"""What a job would ask of providers, guessed without asking anybody."""

from __future__ import annotations

from memories import talk

from powermem_cli.config import parse_config
from powermem_cli.estimates import Estimate
from powermem_cli.model import Message, Record, Scope

LLM = {"provider": "vllm", "config": {"model": "m", "base_url": "http://127.0.0.1:9", "rpm": 13}}
EMBEDDER = {"provider": "vllm", "config": {"model": "m", "base_url": "http://127.0.0.1:9", "batch_size": 8}}


def estimated(records, **config):
    estimate = Estimate(parse_config(config))
    for record in records:
        estimate.add(record)
    return estimate


def test_conversations_are_read_decided_about_and_embedded():
    estimate = estimated([talk("I live in Rome.", "I like tea.") for _ in range(20)], llm=LLM, embedder=EMBEDDER)
    spent = estimate.spent
    assert {stage: usage.calls for stage, usage in spent.items()} == {"extract": 20, "decide": 6, "embed": 5}
    assert all(usage.estimated and usage.prompt_tokens for usage in spent.values())
    assert spent["extract"].completion_tokens > spent["decide"].completion_tokens > 0
    assert estimate.seconds == 60 * 25 / 13  # both kinds of calls share one limit


def test_what_no_llm_judges_is_embedded_alone():
    ready = Record(memory="tea", scope=Scope("anna"))
    raw = Record(messages=(Message("user", "tea"),), scope=Scope("anna"), infer=False)
    assert {*estimated([ready, raw], llm=LLM, embedder=EMBEDDER).spent} == {"embed"}
    assert {*estimated([talk("I like tea.")], embedder=EMBEDDER).spent} == {"embed"}


def test_the_built_in_embedder_calls_nobody():
    estimate = estimated([Record(memory="tea", scope=Scope("anna"))])
    assert (estimate.spent, estimate.seconds) == ({}, None)
