"""Every provider through the same tests, against a server that speaks its form."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from fake_api import FakeApi, Reply, embedding

from powermem_cli.errors import (
    ConfigError,
    EmbedderMismatch,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderRejected,
)
from powermem_cli.model import Message
from powermem_cli.providers import (
    EMBEDDERS,
    LLMS,
    RERANKERS,
    create_embedder,
    create_llm,
    create_reranker,
)
from powermem_cli.providers.openai import OpenAIEmbedder
from powermem_cli.registry import create

pytestmark = pytest.mark.anyio

KEY = "sk-canary-0123456789abcdef"
HERE = {"local", "sentence-transformers"}
REMOTE = sorted({name for name, place in EMBEDDERS.items() if place.startswith("powermem_cli.")} - HERE)
INDEXED = sorted(set(REMOTE) - {"ollama", "gemini"})
TEXTS = ["the cat sleeps", "Björn 😀 arrives", "用户喜欢喝茶"]
TALK = [Message("system", "Be brief."), Message("user", "I like tea. I live in Rome."), Message("assistant", "Noted.")]


@pytest.fixture
def fake():
    with FakeApi(key=KEY) as api:
        yield api


@pytest.fixture
async def closing():
    """What is given to it is closed at the end."""
    opened = []
    yield lambda one: opened.append(one) or one
    for one in opened:
        await one.close()


@pytest.fixture
def embedder_of(fake, closing):
    """One request for each call of embed: as it stands behind the grouping."""

    def make(name, **options):
        settings = {"api_key": KEY, "model": "fake", "base_url": fake.url, "retries": 6, **options}
        return closing(create("embedder", EMBEDDERS, name, settings))

    return make


@pytest.fixture
def llm_of(fake, closing):
    def make(name, **options):
        return closing(create_llm(name, {"api_key": KEY, "model": "fake", "base_url": fake.url, **options}))

    return make


@pytest.fixture
def reranker_of(fake, closing):
    def make(name, **options):
        return closing(create_reranker(name, {"api_key": KEY, "model": "fake", "base_url": fake.url, **options}))

    return make


def expected(text, dims=64):
    vector = np.array(embedding(text, dims), float)
    return vector / np.linalg.norm(vector)


def numbers(vector):
    return np.frombuffer(vector, "<f4")


# ── embedders ──


@pytest.mark.parametrize("name", REMOTE)
async def test_embedders_give_each_text_its_vector(fake, embedder_of, name):
    embedder = embedder_of(name)
    vectors = await embedder.embed(TEXTS)
    assert [numbers(vector) for vector in vectors] == [pytest.approx(expected(text), abs=1e-6) for text in TEXTS]
    assert embedder.model == f"{name}/fake"
    assert embedder.usage.calls == len(fake.requests) == 1
    assert embedder.usage.prompt_tokens > 0
    assert embedder.usage.estimated == (name == "gemini")
    assert await embedder.embed([]) == []


@pytest.mark.parametrize("name", REMOTE)
async def test_the_key_of_an_embedder_travels_in_a_header_alone(fake, embedder_of, name):
    await embedder_of(name).embed(["x"])
    [request] = fake.requests
    assert KEY not in request.path + json.dumps(request.body)
    assert [header for header, value in request.headers.items() if KEY in value] == [
        {"azure": "api-key", "gemini": "x-goog-api-key"}.get(name, "authorization")
    ]


async def test_to_prepare_is_no_call(fake, embedder_of):
    embedder = embedder_of("openai")
    await embedder.prepare()
    assert fake.connections == 0
    await embedder.embed(["tea"])
    assert fake.connections == 1


@pytest.mark.parametrize("name", ["local", *REMOTE])
async def test_embedders_as_they_are_made_for_the_engine(fake, closing, name):
    options = {} if name == "local" else {"api_key": KEY, "model": "fake", "base_url": fake.url, "batch_size": 2}
    embedder = closing(create_embedder(name, options))
    texts = [*TEXTS, TEXTS[0]]
    together, *alone = await asyncio.gather(embedder.embed(texts), *(embedder.embed([text]) for text in texts))
    assert together == [vector for [vector] in alone]
    assert await embedder.embed_each(texts) == together
    assert all(len(request.texts) <= 2 for request in fake.requests)
    assert embedder.usage.calls == len(fake.requests)


BROKEN = {
    "one too few": lambda items: items[:-1],
    "one too many": lambda items: [*items, items[0]],
    "none": lambda items: [],
    "one of other dimensions": lambda items: [*items[:-1], items[-1][:-1]],
    "NaN": lambda items: [*items[:-1], [float("nan"), *items[-1][1:]]],
    "infinite": lambda items: [*items[:-1], [float("inf"), *items[-1][1:]]],
    "beyond float32": lambda items: [*items[:-1], [1e39, *items[-1][1:]]],
    "zeros": lambda items: [*items[:-1], [0.0] * len(items[-1])],
    "next to nothing": lambda items: [*items[:-1], [1e-42] * len(items[-1])],
    "strings": lambda items: [[str(number) for number in item] for item in items],
    "one string": lambda items: [*items[:-1], ["1.5", *items[-1][1:]]],
    "null": lambda items: [*items[:-1], None],
    "null inside": lambda items: [*items[:-1], [None, *items[-1][1:]]],
    "booleans": lambda items: [[True] * len(item) for item in items],
    "empty": lambda items: [[] for _ in items],
    "deeper": lambda items: [[item] for item in items],
    "an object": lambda items: [*items[:-1], {"values": 1}],
    "no base64": lambda items: [*items[:-1], "!!!"],
    "base64 of half a number": lambda items: [*items[:-1], "AAAA"],
    "numbers without end": lambda items: [*items[:-1], [10**400, *items[-1][1:]]],
}


def with_embeddings(change):
    """Makes another answer of a healthy one, in any of the forms."""

    def changed(answer):
        answer = copy.deepcopy(answer)
        if "data" in answer:
            values = change([item["embedding"] for item in answer["data"]])
            answer["data"] = [{"index": i, "embedding": value} for i, value in enumerate(values)]
        elif isinstance(answer["embeddings"][0], dict):
            values = change([item["values"] for item in answer["embeddings"]])
            answer["embeddings"] = [{"values": value} for value in values]
        else:
            answer["embeddings"] = change(answer["embeddings"])
        return answer

    return changed


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", ["openai", "ollama", "gemini"])
async def test_broken_embeddings_are_never_returned(fake, embedder_of, name, change):
    fake.rule = lambda request: Reply(change=with_embeddings(change))
    with pytest.raises(ProviderError) as caught:
        await embedder_of(name, retries=1).embed(TEXTS)
    assert caught.value.code == "embed.invalid"


async def test_broken_embeddings_are_asked_for_once_more(fake, embedder_of):
    fake.rule = lambda request: Reply(change=with_embeddings(BROKEN["NaN"]))
    with pytest.raises(ProviderError):
        await embedder_of("openai").embed(TEXTS)
    assert len(fake.requests) == 2


@pytest.mark.parametrize("change", [lambda items: [[float(n) for n in item] for item in items], lambda items: items])
async def test_numbers_of_any_kind_are_numbers(fake, embedder_of, change):
    fake.rule = lambda request: Reply(change=with_embeddings(change))
    vectors = await embedder_of("openai").embed(TEXTS)
    assert [numbers(vector) for vector in vectors] == [pytest.approx(expected(text), abs=1e-6) for text in TEXTS]


@pytest.mark.parametrize("name", INDEXED)
async def test_the_order_is_that_of_the_index(fake, embedder_of, name):
    fake.rule = lambda request: Reply(change=lambda answer: {**answer, "data": answer["data"][::-1]})
    vectors = await embedder_of(name).embed(TEXTS)
    assert [numbers(vector) for vector in vectors] == [pytest.approx(expected(text), abs=1e-6) for text in TEXTS]


@pytest.mark.parametrize("indexes", [[0, 1, 1], [1, 2, 3], [None, 1, 2], ["0", "1", "2"], [True, 0, 2]])
async def test_an_index_that_is_none(fake, embedder_of, indexes):
    def change(answer):
        data = [{**item, "index": index} for item, index in zip(answer["data"], indexes, strict=True)]
        return {**answer, "data": data}

    fake.rule = lambda request: Reply(change=change)
    with pytest.raises(ProviderError) as caught:
        await embedder_of("openai", retries=1).embed(TEXTS)
    assert caught.value.code == "embed.invalid"


async def test_a_server_that_names_no_index_is_asked_for_one_text_at_a_time(fake, closing):
    def change(answer):
        return {"data": [{"embedding": item["embedding"]} for item in reversed(answer["data"])]}

    fake.rule = lambda request: Reply(change=change)
    embedder = closing(create_embedder("openai", {"api_key": KEY, "model": "fake", "base_url": fake.url, "retries": 1}))
    vectors = await embedder.embed(TEXTS)
    assert [numbers(vector) for vector in vectors] == [pytest.approx(expected(text), abs=1e-6) for text in TEXTS]


async def test_a_server_that_changes_its_dimensions_is_not_believed(fake, embedder_of):
    embedder = embedder_of("ollama", retries=1)
    await embedder.embed(["a"])
    fake.dims = 32
    with pytest.raises(ProviderError, match="32 numbers per text, and 64 before"):
        await embedder.embed(["b"])


@pytest.mark.parametrize("name", REMOTE)
async def test_dimensions_other_than_configured_stop_everything(fake, embedder_of, name):
    fake.rule = lambda request: Reply(change=with_embeddings(lambda items: [item[:32] for item in items]))
    with pytest.raises(EmbedderMismatch, match=r"32 numbers per text, and embedding_dims says 128"):
        await embedder_of(name, embedding_dims=128).embed(["a"])
    assert len(fake.requests) == 1


async def test_dimensions_are_asked_for(fake, embedder_of):
    [vector] = await embedder_of("qwen", embedding_dims=128).embed(["a"])
    assert len(numbers(vector)) == 128
    assert fake.requests[0].body["dimensions"] == 128


async def test_a_model_that_takes_no_dimensions_is_asked_without_from_then_on(fake, embedder_of):
    def picky(request):
        return Reply(400, body={"error": {"message": "no 'dimensions' here"}}) if "dimensions" in request.body else None

    fake.rule = picky
    embedder = embedder_of("openai", embedding_dims=64)
    for _ in range(2):
        assert len(numbers((await embedder.embed(["a"]))[0])) == 64
    assert ["dimensions" in request.body for request in fake.requests] == [True, False, False]


async def test_the_vendor_itself_answers_in_base64(fake, embedder_of, monkeypatch):
    monkeypatch.setattr(OpenAIEmbedder, "vendor", replace(OpenAIEmbedder.vendor, base_url=fake.url))
    [vector] = await embedder_of("openai").embed(["a"])
    assert numbers(vector) == pytest.approx(expected("a"), abs=1e-6)
    assert fake.requests[0].body["encoding_format"] == "base64"


@pytest.mark.parametrize(
    ("name", "options", "texts"),
    [
        ("openai", {}, 256),
        ("openai", {"base_url": "https://gateway.example/v1"}, 16),
        ("openai", {"base_url": "https://api.openai.com/v1/"}, 256),
        ("qwen", {}, 10),
        ("qwen", {"model": "text-embedding-v3"}, 10),
        ("qwen", {"model": "text-embedding-v2"}, 25),
        ("qwen", {"batch_size": 6}, 6),
        ("gemini", {}, 100),
        ("ollama", {}, 32),
        ("siliconflow", {}, 32),
        ("azure", {"base_url": "https://x.openai.azure.com/openai/v1", "model": "d"}, 256),
        ("vllm", {"model": "m"}, 16),
        ("openrouter", {"model": "m"}, 16),
    ],
)
async def test_texts_in_one_request(name, options, texts):
    limits = create("embedder", EMBEDDERS, name, {"api_key": KEY, **options}).limits
    assert limits.texts == texts
    assert limits.tokens <= 300_000


# ── LLMs ──

CUT = {
    "ollama": lambda answer: {**answer, "done_reason": "length"},
    "anthropic": lambda answer: {**answer, "stop_reason": "max_tokens"},
    "gemini": lambda answer: {"candidates": [{**answer["candidates"][0], "finishReason": "MAX_TOKENS"}]},
}
WITHHELD = {
    "anthropic": lambda answer: {**answer, "stop_reason": "refusal"},
    "gemini": lambda answer: {"promptFeedback": {"blockReason": "SAFETY"}},
}
EMPTY = {
    "ollama": lambda answer: {**answer, "message": {"role": "assistant", "content": " "}},
    "anthropic": lambda answer: {**answer, "content": []},
    "gemini": lambda answer: {"candidates": [{"finishReason": "STOP", "content": {"parts": []}}]},
}


def ended(reason, **message):
    def change(answer):
        choice = answer["choices"][0]
        return {**answer, "choices": [{"finish_reason": reason, "message": {**choice["message"], **message}}]}

    return change


@pytest.mark.parametrize("name", sorted(LLMS))
async def test_llms_answer_the_conversation(fake, llm_of, name):
    heard = []
    fake.chat = lambda messages: heard.append(messages) or "Rome, then."
    llm = llm_of(name)
    completion = await llm.complete(TALK)
    assert completion.text == "Rome, then."
    [messages] = heard
    assert [message["content"] for message in messages] == ["Be brief.", "I like tea. I live in Rome.", "Noted."]
    assert [message["role"] for message in messages] == ["system", "user", "model" if name == "gemini" else "assistant"]
    assert llm.model == f"{name}/fake"
    assert completion.usage == llm.usage
    usage = completion.usage
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (1, 10, 7, False)


@pytest.mark.parametrize("name", sorted(LLMS))
async def test_the_key_of_an_llm_travels_in_a_header_alone(fake, llm_of, name):
    await llm_of(name).complete(TALK)
    [request] = fake.requests
    assert KEY not in request.path + json.dumps(request.body)
    assert sum(KEY in value for value in request.headers.values()) == 1


@pytest.mark.parametrize("name", sorted(set(LLMS) - {"anthropic"}))
async def test_json_is_asked_for_when_wanted_only(fake, llm_of, name):
    llm = llm_of(name)
    await llm.complete(TALK, json=True)
    await llm.complete(TALK)
    asked, not_asked = (json.dumps(request.body) for request in fake.requests)
    words = {"ollama": '"format": "json"', "gemini": "application/json"}.get(name, "json_object")
    assert words in asked
    assert words not in not_asked


@pytest.mark.parametrize("name", sorted(LLMS))
async def test_settings_of_an_llm(fake, llm_of, name):
    await llm_of(name, temperature=0.7, max_tokens=77, top_p=0.5).complete(TALK)
    body = fake.requests[0].body
    settings = body.get("options") or body.get("generationConfig") or body
    assert settings["temperature"] == 0.7
    assert 0.5 in settings.values()
    assert 77 in settings.values()


@pytest.mark.parametrize("name", sorted(LLMS))
async def test_a_cut_answer_is_none(fake, llm_of, name):
    fake.rule = lambda request: Reply(change=CUT.get(name, ended("length")))
    with pytest.raises(ProviderError, match="cut off") as caught:
        await llm_of(name, retries=1).complete(TALK)
    assert caught.value.code == "provider.bad_response"
    assert "max_tokens" in caught.value.hint


@pytest.mark.parametrize("name", sorted(set(LLMS) - {"ollama"}))
async def test_a_withheld_answer_is_none(fake, llm_of, name):
    fake.rule = lambda request: Reply(change=WITHHELD.get(name, ended("content_filter")))
    with pytest.raises(ProviderRejected, match="would not answer") as caught:
        await llm_of(name).complete(TALK)
    assert caught.value.code == "provider.rejected"
    assert len(fake.requests) == 1


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
async def test_an_answer_that_broke_off_is_none_although_it_may_look_whole(fake, llm_of, reason):
    fake.next(Reply(change=ended(reason)))
    assert (await llm_of("openrouter").complete(TALK)).usage.calls == 2


async def test_a_conversation_that_does_not_fit_is_not_cut_without_a_word(fake, llm_of):
    await llm_of("ollama").complete(TALK)
    assert (fake.requests[0].body["truncate"], fake.requests[0].body["shift"]) == (False, False)
    fake.next(Reply(400, body={"error": "the prompt is longer than the context length currently available"}))
    with pytest.raises(ProviderRejected) as caught:
        await llm_of("ollama").complete(TALK)
    assert caught.value.code == "input.too_long"


async def test_a_refusal_in_words_is_none(fake, llm_of):
    fake.rule = lambda request: Reply(change=ended("stop", refusal="I can't help with that.", content=None))
    with pytest.raises(ProviderRejected, match="can't help"):
        await llm_of("openai").complete(TALK)


@pytest.mark.parametrize("name", sorted(LLMS))
async def test_an_answer_without_text_is_none(fake, llm_of, name):
    fake.rule = lambda request: Reply(change=EMPTY.get(name, ended("stop", content="")))
    with pytest.raises(ProviderError) as caught:
        await llm_of(name, retries=1).complete(TALK)
    assert caught.value.code == "provider.bad_response"


async def test_thoughts_are_no_text_and_count_as_written(fake, llm_of):
    def thoughtful(answer):
        answer["candidates"][0]["content"]["parts"].insert(0, {"text": "Hm.", "thought": True})
        return answer

    fake.chat = lambda messages: "Yes."
    fake.rule = lambda request: Reply(change=thoughtful)
    assert (await llm_of("gemini").complete(TALK)).text == "Yes."


async def test_tokens_that_are_not_named_are_estimated(fake, llm_of):
    fake.rule = lambda request: Reply(change=lambda answer: {"choices": answer["choices"]})
    usage = (await llm_of("vllm").complete(TALK)).usage
    assert usage.estimated
    assert usage.prompt_tokens > 5
    assert usage.completion_tokens > 5


async def test_useless_answers_are_in_the_account(fake, llm_of):
    fake.next(Reply(body="<html>"), Reply())
    llm = llm_of("openai")
    completion = await llm.complete(TALK)
    assert (completion.usage.calls, completion.usage.retries, completion.usage.estimated) == (2, 1, True)
    assert completion.usage.prompt_tokens > 10
    again = await llm.complete(TALK)
    assert llm.usage == completion.usage + again.usage
    assert llm.usage - completion.usage == again.usage.__class__(1, 0, 0, 10, 7, estimated=True)


async def test_parameters_that_a_model_refuses_are_left_out_from_then_on(fake, llm_of):
    def picky(request):
        for name in ("response_format", "temperature"):
            if name in request.body:
                return Reply(400, body={"error": {"message": f"Unsupported parameter: '{name}'"}})
        return None

    fake.rule = picky
    llm = llm_of("openai")
    await llm.complete(TALK, json=True)
    assert len(fake.requests) == 3
    await llm.complete(TALK, json=True)
    assert len(fake.requests) == 4


# ── rerankers ──


@pytest.mark.parametrize("name", sorted(RERANKERS))
async def test_rerankers_score_each_text_in_its_place(fake, reranker_of, name):
    reranker = reranker_of(name)
    assert await reranker.rerank("green tea", ["black coffee", "green tea", "tea"]) == [0.0, 1.0, 0.5]
    assert await reranker.rerank("green tea", []) == []
    assert reranker.model == f"{name}/fake"
    assert (reranker.usage.calls, reranker.usage.prompt_tokens) == (1, 9)
    assert KEY in fake.requests[0].headers["authorization"]


@pytest.mark.parametrize(
    "results",
    [[], [{"index": 0, "relevance_score": 0.5}], [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}],
     [{"index": 0, "relevance_score": "0.5"}, {"index": 1, "relevance_score": 0.5}], None, "results",
     [{"index": 0, "relevance_score": float("nan")}, {"index": 1, "relevance_score": 0.5}], [{"index": 0}, {"index": 1}]],
)  # fmt: skip
async def test_a_ranking_that_is_none(fake, reranker_of, results):
    fake.rule = lambda request: Reply(body={"results": results})
    with pytest.raises(ProviderError) as caught:
        await reranker_of("cohere", retries=1).rerank("q", ["a", "b"])
    assert caught.value.code == "provider.bad_response"


async def test_scores_of_any_size_become_relevances_in_the_same_order(fake, reranker_of):
    scores = [3.5, -11.0, 0.0, -1e9, 1e9]
    results = [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]
    fake.rule = lambda request: Reply(body={"results": results})
    found = await reranker_of("vllm").rerank("q", list("abcde"))
    assert all(0 <= score <= 1 for score in found)
    assert sorted(range(5), key=scores.__getitem__) == sorted(range(5), key=found.__getitem__)


# ── all of them ──

KINDS = [
    *(("embedder", name) for name in REMOTE),
    *(("llm", name) for name in sorted(LLMS)),
    *(("reranker", name) for name in sorted(RERANKERS)),
]


@pytest.fixture
def call(embedder_of, llm_of, reranker_of):
    """One call to a provider of any kind."""

    async def ask(kind, name, **options):
        if kind == "embedder":
            return await embedder_of(name, **options).embed(["x"])
        if kind == "llm":
            return await llm_of(name, **options).complete(TALK)
        return await reranker_of(name, **options).rerank("x", ["x"])

    return ask


@pytest.mark.parametrize(("kind", "name"), KINDS)
async def test_a_refused_key_costs_one_call_and_is_not_shown(fake, call, kind, name):
    wrong = "sk-wrong-9876543210fedcba"
    with pytest.raises(ProviderRefused) as caught:
        await call(kind, name, api_key=wrong)
    assert (caught.value.code, caught.value.provider) == ("auth.invalid", name)
    assert wrong not in f"{caught.value}{caught.value.hint}"
    assert "sk-…dcba" in str(caught.value)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(("kind", "name"), KINDS)
async def test_every_provider_tries_again(fake, call, kind, name):
    fake.next(Reply(429, headers={"Retry-After": "0"}), Reply(503, headers={"Retry-After": "0"}), Reply())
    await call(kind, name)
    assert len(fake.requests) == 3


@pytest.mark.parametrize(("kind", "name"), KINDS)
async def test_an_answer_that_is_something_else_is_no_result(fake, call, kind, name):
    for body in ("<html>", b"{}", b'{"data": 3, "choices": [], "embeddings": {}, "results": 1, "candidates": [7]}'):
        fake.next(Reply(body=body))
        with pytest.raises(ProviderError) as caught:
            await call(kind, name, retries=1)
        assert caught.value.code in {"provider.bad_response", "embed.invalid"}


@pytest.mark.parametrize(("kind", "name"), KINDS)
async def test_a_server_that_is_not_there(fake, call, kind, name):
    with FakeApi() as gone:
        url = gone.url
    with pytest.raises(ProviderBusy) as caught:
        await call(kind, name, base_url=url, retries=1)
    assert caught.value.code == "provider.unreachable"


@pytest.mark.parametrize(("kind", "name"), [pair for pair in KINDS if pair[0] != "reranker"])
async def test_an_unknown_model_is_answered_with_those_there_are(call, kind, name):
    with FakeApi(models=["text-model-large", "other"]) as fake:
        with pytest.raises(ProviderRefused, match="text-model-lrage") as caught:
            await call(kind, name, base_url=fake.url, model="text-model-lrage")
        assert caught.value.code == "model.not_found"
        assert "text-model-large" in caught.value.hint
        assert len(fake.requests) == 2


async def test_a_server_without_a_list_of_models_says_what_it_can(fake, call):
    fake.rule = lambda request: Reply(404)
    with pytest.raises(ProviderRefused) as caught:
        await call("llm", "openai")
    assert "check model" in caught.value.hint


# ── options ──


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_nothing_is_opened_by_making_one(kind, name, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "socket", None)
    make = {"embedder": create_embedder, "llm": create_llm, "reranker": create_reranker}[kind]
    make(name, {"api_key": KEY, "model": "m", "base_url": "https://api.example.org"})


@pytest.mark.parametrize(
    ("make", "name", "options", "why"),
    [
        (create_embedder, "qwen", {}, "qwen needs api_key"),
        (create_llm, "openai", {"api_key": " "}, "openai needs api_key"),
        (create_llm, "vllm", {}, "vllm needs model"),
        (create_embedder, "azure", {"api_key": KEY}, "azure needs model and base_url"),
        (create_llm, "azure", {"api_key": KEY, "model": "m"}, "azure needs base_url"),
        (create_llm, "openai", {"api_key": KEY, "timeout": "60"}, "timeout must be"),
        (create_llm, "openai", {"api_key": KEY, "timeout": 0}, "timeout must be"),
        (create_llm, "openai", {"api_key": KEY, "retries": 0}, "retries must be"),
        (create_llm, "openai", {"api_key": KEY, "rpm": float("nan")}, "rpm must be"),
        (create_llm, "openai", {"api_key": KEY, "temperature": -1}, "temperature must be"),
        (create_llm, "openai", {"api_key": KEY, "model": 5}, "model must be text"),
        (create_embedder, "openai", {"api_key": KEY, "embedding_dims": True}, "embedding_dims must be"),
        (create_embedder, "openai", {"api_key": KEY, "embedding_dims": 1.5}, "embedding_dims must be"),
        (create_embedder, "openai", {"api_key": KEY, "dims": 5, "embedding_dims": 5}, "given twice"),
        (create_embedder, "openai", {"api_key": KEY, "modle": "x"}, "no option 'modle'"),
        (create_llm, "opneai", {}, "no llm provider 'opneai'"),
        (create_reranker, "qwen", {"api_key": KEY, "top_p": 1}, "no option 'top_p'"),
        (create_llm, "openai", {"api_key": KEY, "base_url": "http://8.8.8.8"}, "in the clear"),
    ],
)
def test_options_that_are_wrong_are_named(make, name, options, why):
    with pytest.raises(ConfigError, match=why) as caught:
        make(name, options)
    assert KEY not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(("name", "where"), [("openai", "set OPENAI_API_KEY in"), ("openrouter", "or LLM_API_KEY or")])
def test_where_a_missing_key_is_to_be_set(name, where):
    with pytest.raises(ConfigError) as caught:
        create_llm(name, {"model": "m"})
    assert where in caught.value.hint


async def test_a_server_of_ones_own_needs_no_key(closing):
    with FakeApi() as fake:
        embedder = closing(create_embedder("openai", {"model": "m", "base_url": fake.url}))
        await embedder.embed(["x"])
        assert "authorization" not in fake.requests[0].headers


@pytest.mark.parametrize("name", ["openai_base_url", "dashscope_base_url", "api_base_url", "base_url"])
async def test_other_spellings_of_an_option(fake, closing, name):
    options = {"api_key": KEY, "model": "m", name: fake.url, "dims": 64}
    assert await closing(create_embedder("openai", options)).embed(["x"])


def test_the_configuration_of_the_guide():
    embedder = create_embedder("qwen", {"api_key": KEY, "model": "text-embedding-v4"})
    llm = create_llm("qwen", {"api_key": KEY, "model": "qwen-plus"})
    assert (embedder.model, llm.model) == ("qwen/text-embedding-v4", "qwen/qwen-plus")
