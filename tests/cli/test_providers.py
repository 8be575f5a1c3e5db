"""The program and a provider behind HTTP: what a fault costs, what is kept, what it says it took."""

from __future__ import annotations

import json
import random
import socket

import pytest
from fake_api import FakeApi, Reply

KEY = "sk-canary-0123456789abcdef"
MANY = 10_000
SOME = 1_200  # more than are worked on together


@pytest.fixture
def fake():
    with FakeApi() as api:
        yield api


@pytest.fixture
def using(powermem, fake):
    """Makes the program embed at the fake server; options of the embedder by name."""

    def configure(**options):
        config = {"api_key": KEY, "model": "fake", "base_url": fake.url, **options}
        path = powermem.folder / "config.json"
        path.write_text(json.dumps({"embedder": {"provider": "openai", "config": config}}))
        path.chmod(0o600)
        return lambda *arguments, **more: powermem.inside(*arguments, "--config", path, **more)

    return configure


def notes(powermem, number, *more):
    return powermem.write("notes.jsonl", *({"memory": f"note number {i}"} for i in range(number)), *more)


STOPS = {
    "401": (Reply(401), "auth.invalid"),
    "403": (Reply(403), "auth.invalid"),
    "unknown model": (Reply(404, body={"error": {"message": "no such model", "code": "model_not_found"}}), "model.not_found"),
    "quota": (Reply(429, body={"error": {"message": "pay first", "code": "insufficient_quota"}}), "quota.exhausted"),
    "no credit": (Reply(402), "quota.exhausted"),
    "redirect": (Reply(302, headers={"Location": "http://127.0.0.1:9/"}), "provider.redirect"),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "code"), STOPS.values(), ids=STOPS)
def test_what_a_person_must_mend_costs_a_large_job_two_calls(powermem, fake, using, reply, code):
    fake.rule = lambda request: reply
    number = MANY if reply.status == 401 else SOME
    said = using()("add", "-f", notes(powermem, number), "--no-infer", "--json")
    assert said.code == 4
    assert said.summary["error"]["code"] == code
    assert len(fake.requests) <= 2
    assert said.summary["added"] == said.summary["failed"] == 0
    assert said.summary["http"]["calls"] == 1
    assert KEY not in said.out + said.err
    fake.rule = lambda request: None
    assert using()("add", "-f", "notes.jsonl", "--no-infer", "--limit", 10, "--json").summary["added"] == 10


def test_a_certificate_that_nobody_vouches_for(powermem, using):
    from pathlib import Path

    with FakeApi(certificate=Path(__file__).parents[1] / "providers" / "self_signed.pem") as api:
        said = using(base_url=api.url)("add", "-f", notes(powermem, 100), "--no-infer", "--json")
    assert (said.code, said.summary["error"]["code"]) == (4, "tls.invalid")


def shuffled(answer):
    data = list(answer["data"])
    random.Random(len(data)).shuffle(data)
    return {**answer, "data": data}


def test_each_text_gets_its_vector_whatever_the_order_of_the_answer(powermem, fake, using):
    fake.rule = lambda request: Reply(change=shuffled)
    run = using()
    assert run("add", "-f", notes(powermem, 200), "--no-infer", "--json").summary["added"] == 200
    assert max(len(request.texts) for request in fake.requests) > 10
    (powermem.folder / "questions.txt").write_text("".join(f"note number {i}\n" for i in range(0, 200, 7)))
    for answer in run("search", "-f", "questions.txt", "-k", 1, "--jsonl").jsonl:
        assert answer["results"][0]["memory"] == answer["query"]
        assert answer["results"][0]["score"] > 0.99


WRONG = {
    "short": lambda data: data[:-1],
    "long": lambda data: [*data, {"index": len(data), "embedding": data[0]["embedding"]}],
    "NaN": lambda data: [{**data[0], "embedding": [float("nan")] * 64}, *data[1:]],
    "zeros": lambda data: [{**data[0], "embedding": [0.0] * 64}, *data[1:]],
    "no index": lambda data: [{**item, "index": 0} for item in data] if len(data) > 1 else [{**data[0], "index": 7}],
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_vectors_that_are_none_are_never_stored(powermem, fake, using, change):
    fake.rule = lambda request: Reply(change=lambda answer: {**answer, "data": change(answer["data"])})
    run = using(batch_size=4)
    options = ("--no-infer", "--max-failures", "none", "--retries", 1, "-c", 4)
    said = run("add", "-f", notes(powermem, SOME), *options, "--json")
    assert said.code == 4
    assert (said.summary["error"]["code"], said.summary["added"]) == ("embed.invalid", 0)
    assert len(fake.requests) < 60
    assert run("list", "--json").json["results"] == []


@pytest.mark.parametrize("reply", [Reply(400), Reply(422), Reply(body="<html>"), Reply(change=lambda answer: {})])
def test_a_provider_that_takes_nothing_at_all_stops_the_run(powermem, fake, using, reply):
    fake.rule = lambda request: reply
    said = using(batch_size=4)("add", "-f", notes(powermem, SOME), "--no-infer", "--retries", 1, "-c", 4, "--json")
    assert said.code == 4
    assert {status: said.summary[status] for status in ("added", "failed", "not_started")} == {
        "added": 0,
        "failed": 1,  # the one that went first
        "not_started": SOME - 1,
    }
    assert len(fake.requests) < 60
    assert "none of the first" in said.err


def test_other_dimensions_than_the_store_s_stop_it(powermem, fake, using):
    run = using()
    assert run("add", "-f", notes(powermem, 3), "--no-infer").code == 0
    fake.dims = 32
    said = run("add", "-f", powermem.write("more.jsonl", *({"memory": f"m{i}"} for i in range(500))), "--json")
    assert (said.code, said.summary["error"]["code"]) == (4, "embed.dims_mismatch")
    assert "32" in said.summary["error"]["message"]
    assert "64" in said.summary["error"]["message"]
    assert len(run("list", "--json").json["results"]) == 3


def test_one_poisoned_text_among_256_fails_alone(powermem, fake, using):
    fake.rule = lambda request: Reply(400) if any("poison" in text for text in request.texts) else None
    records = [{"memory": f"note number {i}"} for i in range(255)]
    records.insert(100, {"id": "bad", "memory": "poison"})
    path = powermem.write("notes.jsonl", *records)
    said = using(batch_size=256)("add", "-f", path, "--no-infer", "--jsonl")
    assert (said.code, said.summary["added"], said.summary["failed"]) == (3, 255, 1)
    [failed] = [line for line in said.jsonl if line.get("status") == "failed"]
    assert (failed["key"], failed["error"]["code"]) == ("bad", "provider.rejected")
    assert len(fake.requests) <= 18 + 2  # the first record alone, and what had not been read when the rest went out


def test_the_options_of_calls_reach_the_provider(powermem, fake, using):
    fake.rule = lambda request: Reply(503, headers={"Retry-After": "0"})
    said = using()("add", "tea", "--retries", 2)
    assert (said.code, len(fake.requests)) == (75, 2)
    fake.rule = lambda request: Reply(delay=30)
    said = using()("add", "tea", "--retries", 1, "--timeout", 0.1)
    assert said.code == 75
    assert "within 0.1 s" in said.err


def test_no_more_calls_at_once_than_asked_for(powermem, fake, using):
    fake.rule = lambda request: Reply(delay=0.02)
    run = using(batch_size=4)
    run("add", "-f", notes(powermem, 40), "--no-infer", "-c", 2)
    assert fake.most_in_flight == 2
    fake.rule = lambda request: Reply(delay=0.15)
    # However few records are worked on together, there are enough for all calls that may be under way.
    run("add", "-f", notes(powermem, 120), "--no-infer", "--force", "--batch-size", 4)
    assert fake.most_in_flight > 4


@pytest.mark.parametrize("given", ["0", "many", "-1", "1.5"])
def test_what_is_no_number_of_calls(powermem, given):
    assert powermem.inside("add", "tea", "-c", given).code == 2


def test_what_it_took_is_said_and_noted(powermem, fake, using):
    fake.next(Reply(), Reply(429, headers={"Retry-After": "0"}), Reply(503, headers={"Retry-After": "0"}))
    run = using()
    said = run("add", "-f", notes(powermem, 40), "--no-infer", "--json")
    calls = len(fake.requests)
    http = {"calls": calls, "retries": 2, "rate_limited": 1}
    tokens = {"prompt": 40 * 3, "completion": 0, "estimated": False}
    assert (said.summary["http"], said.summary["tokens"]) == (http, tokens)
    assert said.summary["stages"] == {"embed": {"http": http, "tokens": tokens}}
    [summary] = powermem.folder.glob("state/powermem/jobs/*/summary.json")
    assert '"rate_limited":1' in summary.read_text().replace(" ", "")
    run("search", "note")
    [account] = powermem.folder.glob("state/powermem/spent/*/*.jsonl")
    assert [json.loads(line)["stages"]["embed"]["calls"] for line in account.read_text().splitlines()] == [calls, 1]
    assert account.stat().st_mode & 0o077 == 0


def test_a_line_of_each_record_says_what_it_took(powermem, fake):
    fake.next(Reply(body="<html>"))
    env = {"LLM_PROVIDER": "vllm", "LLM_MODEL": "fake", "VLLM_LLM_BASE_URL": fake.url}
    talk = {"user_id": "anna", "messages": [{"role": "user", "content": "I like tea."}]}
    said = powermem.inside("add", "-f", powermem.write("talks.jsonl", talk, {"memory": "x"}), "--jsonl", env=env)
    judged, ready, summary = said.jsonl
    assert (judged["status"], judged["attempts"], judged["tokens"]["completion"]) == ("added", 2, 7)
    assert judged["tokens"]["prompt"] == summary["tokens"]["prompt"] > 0
    assert judged["ms"] >= 0
    assert ready["ms"] >= 0
    assert "attempts" not in ready
    assert summary["stages"]["extract"]["http"] == {"calls": 2, "retries": 1, "rate_limited": 0}


def test_what_calls_nobody_leaves_no_account(powermem):
    said = powermem.inside("add", "tea", "--json")
    assert said.code == 0
    assert not list(powermem.folder.glob("state/powermem/spent"))
    assert "call" not in powermem.inside("add", "-f", notes(powermem, 3)).err


def test_a_line_says_how_many_calls_it_took(powermem, using):
    assert "2 calls · 30 tokens" in using()("add", "-f", notes(powermem, 10), "--no-infer").err


def test_a_dry_run_guesses_and_touches_nothing(powermem, fake, using, monkeypatch):
    run = using(rpm=6)
    notes(powermem, 161, {"messages": [{"role": "user", "content": "I like tea"}]}, "{")
    before = sorted(powermem.folder.rglob("*"))
    monkeypatch.setattr(socket.socket, "connect", None)
    said = run("add", "-f", "notes.jsonl", "--dry-run", "--json")
    assert said.code == 3
    assert (said.json["read"], said.json["not_started"], said.json["rejected"]) == (163, 162, 1)
    assert said.json["http"]["calls"] == 11  # 162 texts, 16 at a time
    assert said.json["tokens"]["estimated"]
    assert said.json["tokens"]["prompt"] > 500
    assert said.json["seconds"] == 100
    assert "11 calls" in run("add", "-f", "notes.jsonl", "--dry-run").err
    assert sorted(powermem.folder.rglob("*")) == before
    assert fake.requests == []
