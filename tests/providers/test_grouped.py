"""Many callers, few requests: what is sent together, what is sent once, and whose failure is whose."""

from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest
import virtual_time
from fake_api import FakeApi, Reply, embedding

from powermem_cli.errors import ConfigError, ProviderBusy, ProviderRefused, ProviderRejected
from powermem_cli.providers.base import Limits, Usage
from powermem_cli.providers.grouped import GroupedEmbedder
from powermem_cli.providers.openai import OpenAIEmbedder

pytestmark = pytest.mark.anyio


class Inner:
    """An embedder that takes its time, and says what it was asked."""

    model = "inner/1"
    usage = Usage()

    def __init__(self, *, texts=100, tokens=10**9, requests=4, latency=1, check=lambda texts: None):
        self.limits = Limits(texts, tokens, requests)
        self.asked = []
        self.ended = []
        self.closed = 0
        self._latency = latency
        self._check = check

    async def embed(self, texts):
        self.asked.append(list(texts))
        try:
            await asyncio.sleep(self._latency)
            self._check(texts)
        finally:
            self.ended.append(list(texts))
        return [text.encode() for text in texts]

    async def close(self):
        self.closed += 1


def run(work, **inner):
    """What *work*(embedder) returns, the requests it led to, and the seconds it took."""
    made = Inner(**inner)

    async def main():
        embedder = GroupedEmbedder(made)
        result = await work(embedder)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not embedder._requests
        assert not embedder._wanted
        return result

    result, seconds = virtual_time.run(main())
    return result, made.asked, seconds


def test_callers_of_one_moment_share_a_request():
    async def work(embedder):
        return await asyncio.gather(*(embedder.embed([f"t{i}"]) for i in range(50)))

    vectors, asked, seconds = run(work)
    assert vectors == [[f"t{i}".encode()] for i in range(50)]
    assert [len(texts) for texts in asked] == [50]
    assert seconds == 1


async def one_after_another(embedder):
    tasks = []
    for i in range(10):
        tasks.append(asyncio.ensure_future(embedder.embed([f"t{i}"])))
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)


def test_what_comes_late_waits_for_company():
    _, asked, seconds = run(one_after_another)
    assert [len(texts) for texts in asked] == [1, 1, 8]
    assert seconds == pytest.approx(1.52)  # half a second is enough: those before may take for ever


def test_what_comes_late_goes_when_one_before_it_has_ended():
    _, asked, seconds = run(one_after_another, latency=0.2)
    assert [len(texts) for texts in asked] == [1, 1, 8]
    assert seconds == pytest.approx(0.4)


def test_no_more_requests_than_allowed_however_long_they_take():
    _, asked, seconds = run(one_after_another, requests=2, latency=3)
    assert [len(texts) for texts in asked] == [1, 1, 8]
    assert seconds == pytest.approx(6)


def test_full_groups_go_at_once_as_many_as_allowed():
    async def work(embedder):
        return await embedder.embed([f"t{i}" for i in range(1000)])

    vectors, asked, seconds = run(work, texts=100, requests=4)
    assert vectors == [f"t{i}".encode() for i in range(1000)]
    assert [len(texts) for texts in asked] == [100] * 10
    assert seconds == 3


def test_a_request_holds_no_more_tokens_than_allowed():
    async def work(embedder):
        return await embedder.embed([*("x" * 300 + str(i) for i in range(10)), "y" * 5000])

    _, asked, _ = run(work, tokens=400)
    assert [len(texts) for texts in asked] == [3, 3, 3, 1, 1]


def test_the_same_text_is_sent_once():
    async def work(embedder):
        first = asyncio.ensure_future(embedder.embed(["a", "b", "a"]))
        other = asyncio.ensure_future(embedder.embed(["b", "c"]))
        await asyncio.sleep(0.5)
        late = asyncio.ensure_future(embedder.embed(["c", "a"]))
        return await asyncio.gather(first, other, late)

    vectors, asked, seconds = run(work)
    assert vectors == [[b"a", b"b", b"a"], [b"b", b"c"], [b"c", b"a"]]
    assert asked == [["a", "b", "c"]]
    assert seconds == 1


def test_later_it_is_sent_again():
    async def work(embedder):
        return [await embedder.embed(["a"]) for _ in range(2)]

    _, asked, _ = run(work)
    assert asked == [["a"], ["a"]]


def test_nothing_asks_nobody():
    async def work(embedder):
        return await embedder.embed([]), await embedder.embed_each([])

    assert run(work) == (([], []), [], 0)


def rejecting(*poison):
    def check(texts):
        bad = set(poison) & set(texts)
        if bad:
            raise ProviderRejected(f"no to {sorted(bad)}", provider="inner")

    return check


def test_one_bad_text_fails_alone_in_few_requests():
    async def work(embedder):
        callers = [embedder.embed([f"t{i}"]) for i in range(256)]
        return await asyncio.gather(*callers, return_exceptions=True)

    results, asked, _ = run(work, texts=256, check=rejecting("t77"))
    assert [i for i, result in enumerate(results) if isinstance(result, ProviderRejected)] == [77]
    assert all(result == [f"t{i}".encode()] for i, result in enumerate(results) if i != 77)
    assert len(asked) <= 18


def test_one_caller_may_have_the_others_of_its_texts():
    async def work(embedder):
        return await embedder.embed_each([f"t{i}" for i in range(20)])

    results, _, _ = run(work, check=rejecting("t3", "t19"))
    assert [i for i, result in enumerate(results) if isinstance(result, ProviderRejected)] == [3, 19]
    assert results[4] == b"t4"


def test_a_request_that_fails_fails_its_callers_only():
    def check(texts):
        if "t0" in texts:
            raise ProviderBusy("down", provider="inner")

    async def work(embedder):
        first = asyncio.ensure_future(embedder.embed(["t0", "t1"]))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(embedder.embed(["t2"]))
        third = embedder.embed_each(["t1", "t2"])
        return await asyncio.gather(first, second, third, return_exceptions=True)

    (first, second, third), asked, _ = run(work, check=check)
    assert isinstance(first, ProviderBusy)
    assert second == [b"t2"]
    assert isinstance(third[0], ProviderBusy)
    assert third[1] == b"t2"
    assert asked == [["t0", "t1"], ["t2"]]


def test_what_no_smaller_request_would_mend_is_not_halved():
    def check(texts):
        raise ProviderRefused("no key", provider="inner")

    async def work(embedder):
        return await asyncio.gather(*(embedder.embed([f"t{i}"]) for i in range(10)), return_exceptions=True)

    results, asked, _ = run(work, check=check)
    assert all(isinstance(result, ProviderRefused) for result in results)
    assert len(asked) == 1


def test_when_a_provider_is_given_up_what_waits_is_not_sent():
    def check(texts):
        error = ProviderBusy("no answer for 300 s", provider="inner")
        error.outage = True
        raise error

    async def work(embedder):
        return await asyncio.gather(*(embedder.embed([f"t{i}"]) for i in range(10)), return_exceptions=True)

    results, asked, _ = run(work, texts=1, requests=2, check=check)
    assert [error.outage for error in results] == [True] * 10
    assert len(asked) == 2


@pytest.mark.parametrize("error", [ConfigError("no"), ZeroDivisionError("a bug")])
def test_any_other_error_reaches_the_caller(error):
    def check(texts):
        raise error

    async def work(embedder):
        return await asyncio.gather(embedder.embed(["a"]), embedder.embed_each(["b"]), return_exceptions=True)

    assert run(work, check=check)[0] == [error, error]


def test_a_limit_that_nobody_named_is_found_and_remembered():
    def check(texts):
        if len(texts) > 10:
            raise ProviderRejected("batch size is invalid", provider="inner")

    async def work(embedder):
        await embedder.embed([f"t{i}" for i in range(16)])
        await embedder.embed([f"u{i}" for i in range(32)])

    _, asked, _ = run(work, texts=16, check=check)
    assert [len(texts) for texts in asked] == [16, 8, 8, 8, 8, 8, 8]


def test_a_cancelled_caller_does_not_disturb_the_others():
    async def work(embedder):
        tasks = [asyncio.ensure_future(embedder.embed([text, "shared"])) for text in "abc"]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    (a, b, c), asked, seconds = run(work)
    assert (a, c) == ([b"a", b"shared"], [b"c", b"shared"])
    assert isinstance(b, asyncio.CancelledError)
    assert (len(asked), seconds) == (1, 1)


def test_a_request_that_nobody_waits_for_is_ended():
    async def work(embedder):
        tasks = [asyncio.ensure_future(embedder.embed([text])) for text in "ab"]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        again = await embedder.embed(["a"])
        assert embedder._inner.ended == [["a", "b"], ["a"]]
        return again

    again, asked, seconds = run(work)
    assert again == [b"a"]
    assert asked == [["a", "b"], ["a"]]
    assert seconds == 1.5


def test_what_nobody_waits_for_any_more_is_not_sent():
    async def work(embedder):
        tasks = []
        for text in "abcd":
            tasks.append(asyncio.ensure_future(embedder.embed([text])))
            await asyncio.sleep(0.1)
        tasks[2].cancel()
        await asyncio.wait(tasks)

    assert run(work)[1] == [["a"], ["b"], ["d"]]


def test_it_lives_in_one_event_loop_after_another():
    inner = Inner()
    embedder = GroupedEmbedder(inner)

    async def interrupted():
        task = asyncio.ensure_future(embedder.embed(["a"]))
        await asyncio.sleep(0.5)
        task.cancel()

    for _ in range(2):
        virtual_time.run(interrupted())
        assert virtual_time.run(embedder.embed(["a"]))[0] == [b"a"]
    gc.collect()


async def test_close_closes_what_is_inside():
    inner = Inner()
    embedder = GroupedEmbedder(inner)
    await embedder.close()
    assert inner.closed == 1
    assert (embedder.model, embedder.usage) == ("inner/1", Usage())


async def test_against_a_real_server():
    with FakeApi() as fake:
        fake.rule = lambda request: Reply(400) if "poison" in request.texts else None
        embedder = GroupedEmbedder(OpenAIEmbedder(model="m", base_url=fake.url, batch_size=100))
        texts = [f"text {i}" for i in range(300)] + ["poison"]
        results = await asyncio.gather(*(embedder.embed([text]) for text in texts), return_exceptions=True)
        await embedder.close()
    assert isinstance(results.pop(), ProviderRejected)
    for text, [vector] in zip(texts[:-1], results, strict=True):
        wanted = np.array(embedding(text))
        assert np.frombuffer(vector, "<f4") == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)
    assert max(len(request.texts) for request in fake.requests) == 100
