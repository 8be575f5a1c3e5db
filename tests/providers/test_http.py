"""The one place that calls a provider, against a real server that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import random
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest
from fake_api import FakeApi, Reply, embedding

from powermem_cli.errors import ConfigError, ProviderBusy, ProviderError, ProviderRefused, ProviderRejected
from powermem_cli.providers.body import LARGEST_BODY
from powermem_cli.providers.http import Answer, Api, Call, Transport, _verification
from powermem_cli.providers.keys import checked_key
from powermem_cli.retry import RetryPolicy

pytestmark = pytest.mark.anyio
KEY = "sk-canary/0123456789+abcdef="
CALL = Call("/embeddings", {"model": "m", "input": ["one", "two"]}, lambda answer: Answer(len(answer["data"])), 9)


@pytest.fixture
def fake():
    with FakeApi() as api:
        yield api


@pytest.fixture
async def make(fake):
    """Api objects that are closed at the end; without a wait that the server did not name."""
    made = []

    def api(url=None, key=None, provider="openai", **options):
        transport = Transport(**{"random": lambda: 0.0, "timeout": 10.0, **options})
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        made.append(Api(provider, "m", url or fake.url, transport, key=key, headers=headers))
        return made[-1]

    yield api
    for one in made:
        await one.close()


async def test_an_answer_and_what_it_took(fake, make):
    api = make()
    assert api.usage.calls == 0
    value, used = await api.post(CALL)
    assert value == 2
    assert (used.calls, used.retries, used.prompt_tokens, used.estimated) == (1, 0, 9, True)
    assert api.usage == used
    assert fake.requests[0].body == CALL.body


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 529])
async def test_it_tries_again_and_counts_it(fake, make, status):
    fake.next(Reply(status), Reply(status), Reply())
    value, used = await make().post(CALL)
    assert value == 2
    assert (used.calls, used.retries, used.rate_limited) == (3, 2, 0)


async def test_it_gives_up_after_six_calls(fake, make):
    fake.rule = lambda request: Reply(503, body="overloaded")
    with pytest.raises(ProviderBusy, match="overloaded") as caught:
        await make().post(CALL)
    assert caught.value.code == "provider.unavailable"
    assert "6 times" in caught.value.hint
    assert len(fake.requests) == 6


async def test_it_may_be_told_not_to_try_again(fake, make):
    fake.rule = lambda request: Reply(500, headers={"x-should-retry": "false"})
    with pytest.raises(ProviderBusy):
        await make().post(CALL)
    assert len(fake.requests) == 1


async def test_many_429s_are_no_failure(fake, make):
    fake.next(*[Reply(429, headers={"Retry-After": "0"})] * 30)
    value, used = await make().post(CALL)
    assert value == 2
    assert (used.calls, used.retries, used.rate_limited) == (31, 30, 30)
    assert used.prompt_tokens == 9  # a refused call took nothing


async def test_retry_after_is_waited(fake, make):
    fake.next(Reply(429, headers={"retry-after-ms": "120"}), Reply(503, headers={"Retry-After": "0.1"}))
    started = time.monotonic()
    await make().post(CALL)
    assert time.monotonic() - started >= 0.22
    assert fake.requests[1].at - fake.requests[0].at >= 0.12


async def test_a_wait_beyond_patience_is_said_instead(fake, make):
    fake.rule = lambda request: Reply(429, headers={"Retry-After": "86400"})
    with pytest.raises(ProviderBusy) as caught:
        await make().post(CALL)
    assert (caught.value.code, caught.value.outage, caught.value.retry_after) == ("rate.limited", True, 86400.0)
    fake.rule = lambda request: Reply(503, headers={"Retry-After": "86400"})
    with pytest.raises(ProviderBusy) as caught:
        await make().post(CALL)
    assert caught.value.code == "provider.unavailable"
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (Reply(401), ProviderRefused, "auth.invalid"),
        (Reply(403), ProviderRefused, "auth.invalid"),
        (Reply(404), ProviderRefused, "model.not_found"),
        (Reply(402), ProviderRefused, "quota.exhausted"),
        (Reply(429, body={"error": {"code": "insufficient_quota"}}), ProviderRefused, "quota.exhausted"),
        (Reply(413), ProviderRejected, "input.too_long"),
        (Reply(400), ProviderRejected, "provider.rejected"),
        (Reply(307, headers={"Location": "http://127.0.0.1:1/"}), ProviderRefused, "provider.redirect"),
    ],
)
async def test_what_is_final_is_asked_once(fake, make, reply, kind, code):
    fake.rule = lambda request: reply
    with pytest.raises(kind) as caught:
        await make().post(CALL)
    assert (type(caught.value), caught.value.code, caught.value.status) == (kind, code, reply.status)
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_does_not_follow_a_redirect(fake, make, status):
    with FakeApi() as elsewhere:
        api = make(key=KEY)
        for place in (elsewhere.url, elsewhere.url.replace("http:", ""), "http://169.254.169.254/latest", "/elsewhere"):
            fake.rule = lambda request, place=place: Reply(status, headers={"Location": f"{place}/embeddings"})
            with pytest.raises(ProviderRefused, match="not followed"):
                await api.post(CALL)
        assert elsewhere.connections == 0
        assert {request.path for request in fake.requests} == {"/embeddings"}


BAD = {
    "nothing": Reply(body=b""),
    "null": Reply(body=b"null"),
    "a number": Reply(body=b"7"),
    "a list": Reply(body=b"[]"),
    "HTML": Reply(body="<html><body>Please log in</body></html>"),
    "half a JSON": Reply(body=b'{"data": [{"emb'),
    "two JSONs": Reply(body=b'{"data": []}{"data": []}'),
    "events": Reply(body=b'data: {"data": []}\n\ndata: [DONE]\n\n'),
    "no data": Reply(body={"object": "list"}),
    "data that is none": Reply(body={"data": None}),
    "100,000 deep": Reply(body=b"[" * 100_000),
    "digits without end": Reply(body=b'{"data": ' + b"9" * 100_000 + b"}"),
    "bytes": Reply(body=bytes(range(256))),
    "Latin-1": Reply(body='{"data": ["é"]}'.encode("latin-1")),
    "an unknown encoding": Reply(headers={"Content-Encoding": "zstd"}),
    "gzip that is none": Reply(headers={"Content-Encoding": "gzip"}, body=b"no gzip at all"),
    "half a gzip": Reply(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b'{"data": []}' * 99)[:40]),
    "a gzip bomb": Reply(body=b" " * 20_000_000, packed=True),
    "an error inside": Reply(body={"error": {"message": "upstream broke"}}),
}


@pytest.mark.parametrize("reply", BAD.values(), ids=BAD)
async def test_an_answer_that_is_none_is_asked_for_twice_more(fake, make, reply):
    fake.rule = lambda request: reply
    with pytest.raises(ProviderError) as caught:
        await make().post(CALL)
    assert (type(caught.value), caught.value.code) == (ProviderError, "provider.bad_response")
    assert len(fake.requests) == 3


async def test_a_body_without_end_is_left(fake, make):
    fake.rule = lambda request: Reply(endless=b" " * 1_000_000)
    with pytest.raises(ProviderError, match="far too much"):
        await make(policy=RetryPolicy(attempts=1)).post(CALL)


async def test_a_body_that_is_too_long_is_not_read(fake, make):
    fake.rule = lambda request: Reply(headers={"Content-Length": str(LARGEST_BODY + 1)}, body=b"{")
    with pytest.raises(ProviderError, match="far too much"):
        await make(policy=RetryPolicy(attempts=1)).post(CALL)


async def test_a_bomb_is_not_unpacked(fake, make):
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(50)), packer.flush()])
    fake.rule = lambda request: Reply(body=bomb, headers={"Content-Encoding": "gzip"})
    api = make(policy=RetryPolicy(attempts=1))
    tracemalloc.start()
    try:
        with pytest.raises(ProviderError, match="far too much"):
            await api.post(CALL)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


async def test_gzip_is_unpacked(fake, make):
    fake.next(Reply(packed=True))
    assert (await make().post(CALL))[0] == 2


async def test_utf_16_is_json_too(fake, make):
    fake.next(Reply(change=lambda answer: json.dumps(answer).encode("utf-16")))
    assert (await make().post(CALL))[0] == 2


async def test_an_error_with_a_broken_body_is_still_that_error(fake, make):
    fake.rule = lambda request: Reply(401, headers={"Content-Encoding": "gzip"}, body=b"no gzip")
    with pytest.raises(ProviderRefused):
        await make().post(CALL)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(delay=30),
        Reply(trickle=0.05),
        Reply(headers={"Content-Length": "500"}, body=b"{"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", trickle=0.05),
    ],
    ids=["silence", "trickle", "stall", "trickling head"],
)
async def test_time_runs_out_however_the_answer_is_late(fake, make, reply):
    fake.rule = lambda request: reply
    api = make(timeout=0.05)
    with pytest.raises(ProviderBusy, match=r"within 0\.05 s") as caught:
        await api.post(CALL)
    assert caught.value.code == "provider.timeout"
    assert api.usage.calls == 4


@pytest.mark.parametrize(
    "reply",
    [Reply(raw=b""), Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le"), Reply(raw=b"what?\r\n\r\n"), Reply(cut=10),
     Reply(cut=10, reset=True), Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000_000 + b"\r\n\r\n")],
    ids=["closed", "half a head", "no HTTP", "half a body", "reset", "endless head"],
)  # fmt: skip
async def test_a_connection_that_breaks_is_tried_again(fake, make, reply):
    fake.next(reply, Reply())
    value, used = await make().post(CALL)
    assert (value, used.calls) == (2, 2)


async def test_nobody_there(make):
    with FakeApi() as gone:
        url = gone.url
    with pytest.raises(ProviderBusy, match="no connection") as caught:
        await make(url).post(CALL)
    assert caught.value.code == "provider.unreachable"
    assert url in str(caught.value)


async def test_a_name_that_does_not_exist(make):
    with pytest.raises(ProviderBusy, match=r"nowhere\.invalid") as caught:
        await make("https://nowhere.invalid/v1", policy=RetryPolicy(attempts=1)).post(CALL)
    assert caught.value.code == "provider.unreachable"


async def test_a_connection_that_ends_behind_each_answer_costs_nothing(fake, make):
    fake.rule = lambda request: Reply(cut=1_000_000)
    api = make()
    for _ in range(5):
        await api.post(CALL)
    assert len(fake.requests) == 5


FAULTS = [Reply(cut=5), Reply(cut=5, reset=True), Reply(raw=b""), Reply(delay=9), Reply(endless=b" " * 10**6)]


async def test_no_fault_leaves_a_connection_open(make):
    before = len([*Path("/proc/self/fd").iterdir()])  # noqa: ASYNC240
    with FakeApi() as fake:
        for reply in FAULTS:
            fake.rule = lambda request, reply=reply: reply
            api = make(fake.url, timeout=0.1, policy=RetryPolicy(attempts=1))
            done = await asyncio.gather(*(api.post(CALL) for _ in range(8)), return_exceptions=True)
            assert all(isinstance(one, ProviderError) for one in done)
            await api.close()
    assert len([*Path("/proc/self/fd").iterdir()]) <= before  # noqa: ASYNC240


async def test_an_address_that_swallows_all_is_passed_over_for_the_next_one(fake, make, monkeypatch):
    """As IPv6 does where it is announced but leads nowhere."""
    port = int(fake.url.rpartition(":")[2])
    with socket.socket(socket.AF_INET6) as hole, contextlib.ExitStack() as waiting:
        hole.bind(("::1", port))
        hole.listen(0)
        for _ in range(3):  # the queue is full: whoever comes now is not even refused
            caller = waiting.enter_context(socket.socket(socket.AF_INET6))
            caller.setblocking(False)
            caller.connect_ex(("::1", port))
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert (await make(f"http://two-addresses:{port}", policy=RetryPolicy(attempts=1)).post(CALL))[0] == 2
        monkeypatch.setattr("powermem_cli.providers.http._CONNECT", 0.2)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
        with pytest.raises(ProviderBusy, match=r"no connection to http://one-address:.* within 0\.2 s"):
            await make(f"http://one-address:{port}", policy=RetryPolicy(attempts=1)).post(CALL)


async def test_a_certificate_that_nobody_vouches_for(make):
    with FakeApi(certificate=Path(__file__).parent / "self_signed.pem") as api:
        with pytest.raises(ProviderRefused, match="certificate") as caught:
            await make(api.url).post(CALL)
        assert caught.value.code == "tls.invalid"
        assert api.requests == []


CERTIFICATES = Path(__file__).parent / "certificates"


@pytest.mark.parametrize(
    ("name", "why"), [("good", None), ("elsewhere", "(?i)hostname mismatch"), ("expired", "has expired")]
)
async def test_a_certificate_is_for_its_place_and_time(make, monkeypatch, name, why):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "authority.pem"))
    with FakeApi(certificate=CERTIFICATES / f"{name}.pem") as api:
        caller = make(api.url.replace("127.0.0.1", "localhost"), key=KEY)
        if why is None:
            assert (await caller.post(CALL))[0] == 2
            assert caller._connection.client._transport._pool._ssl_context.minimum_version >= ssl.TLSVersion.TLSv1_2
            return
        with pytest.raises(ProviderRefused, match=why) as caught:
            await caller.post(CALL)
        assert (caught.value.code, api.requests) == ("tls.invalid", [])


async def test_where_nothing_is_encrypted_no_certificate_is_accepted(make, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "authority.pem"))
    with FakeApi(certificate=CERTIFICATES / "good.pem") as api:
        plain = make("http://localhost:1")
        plain._url = api.url.replace("127.0.0.1", "localhost")
        monkeypatch.setattr("powermem_cli.providers.http._verification", lambda _url: _verification("http://localhost"))
        with pytest.raises(ProviderRefused) as caught:
            await plain.post(CALL)
        assert (caught.value.code, api.requests) == ("tls.invalid", [])


async def test_a_proxy_that_refuses(fake, make, monkeypatch):
    with FakeApi() as proxy:
        proxy.rule = lambda request: Reply(407)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(ProviderRefused, match="the proxy on the way to http://api"):
            await make("http://api.example.invalid").post(CALL)
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there(make, monkeypatch, scheme):
    with FakeApi() as gone:
        proxy = gone.url.replace("http://", "http://user:sk-proxy-password@")
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ProviderBusy, match=r"no connection to .* by the proxy http://127\.0\.0\.1:") as caught:
        await make(f"{scheme}://api.example.invalid", policy=RetryPolicy(attempts=1)).post(CALL)
    assert "sk-proxy" not in str(caught.value)


async def test_a_forbidden_place_is_found_before_the_first_call(make, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("169.254.169.254", 0))])
    api = make("http://innocent.example", key=KEY)
    for _ in range(2):
        with pytest.raises(ConfigError, match="own secrets"):
            await api.post(CALL)


ECHOES = [KEY, quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode()]


@pytest.mark.parametrize("echo", ECHOES)
async def test_the_key_comes_back_in_no_message(fake, make, echo):
    api = make(key=KEY)
    for status in (200, 302, 400, 401, 404, 429, 500):
        body = {"error": {"message": f"your key {echo} is no good", "code": "insufficient_quota"}}
        headers = {"x-should-retry": "false", "Location": f"http://127.0.0.1/{echo}"}
        fake.next(*[Reply(status, body=body, headers=headers)] * (3 if status == 200 else 1))
        with pytest.raises(ProviderError) as caught:
            await api.post(CALL)
        assert echo not in f"{caught.value} {caught.value!r} {caught.value.hint} {caught.value.__dict__}"
    assert KEY not in repr(vars(api)["_asked"]) + repr(api)
    assert all(KEY not in request.path for request in fake.requests)
    assert fake.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["sk a", "sk\na", "schlüssel", "sk\x00a"])
def test_a_key_that_cannot_be_sent(key):
    with pytest.raises(ConfigError) as caught:
        checked_key(key, "openai")
    assert key not in str(caught.value)


def test_blanks_around_a_key_are_none_of_it():
    assert checked_key(" sk-x\n", "openai") == "sk-x"
    assert checked_key("  ", "openai") is None
    assert checked_key(None, "openai") is None


async def test_never_more_calls_at_once_than_asked_for(fake, make):
    fake.rule = lambda request: Reply(delay=0.01)
    api = make(concurrency=3)
    await asyncio.gather(*(api.post(CALL) for _ in range(30)))
    assert fake.most_in_flight == 3


async def test_more_and_more_calls_at_once_while_all_goes_well(fake, make):
    fake.rule = lambda request: Reply(delay=0.02)
    api = make()
    await asyncio.gather(*(api.post(CALL) for _ in range(60)))
    assert 4 < fake.most_in_flight <= 32


async def test_a_cancelled_call_leaves_its_place_to_others(fake, make):
    arrived = threading.Event()

    def late(request):
        fake.rule = lambda request: None
        arrived.set()
        return Reply(delay=60)

    fake.rule = late
    api = make(concurrency=1, timeout=60.0)
    first = asyncio.ensure_future(api.post(CALL))
    second = asyncio.ensure_future(api.post(CALL))
    await asyncio.to_thread(arrived.wait)
    first.cancel()
    assert (await second)[0] == 2
    assert first.cancelled()


async def test_failures_are_counted(fake, make):
    rng = random.Random(7)
    fake.rule = lambda request: Reply(503) if rng.random() < 0.3 else None
    api = make()
    results = await asyncio.gather(*(api.post(CALL) for _ in range(50)))
    assert [value for value, _ in results] == [2] * 50
    assert api.usage.calls == len(fake.requests)
    assert api.usage.retries == len(fake.requests) - 50 > 5


async def test_closing_is_safe_to_repeat_and_not_for_ever(fake, make):
    api = make()
    await api.close()
    await api.post(CALL)
    await api.close()
    await api.close()
    assert (await api.post(CALL))[0] == 2


async def test_connections_are_used_again(fake, make):
    api = make(concurrency=2)
    for _ in range(10):
        await api.post(CALL)
    assert fake.connections == 1


async def test_the_server_is_what_it_says(fake, make):
    """The fake itself: the same text, the same numbers."""
    read = Call("/embeddings", {"model": "m", "input": ["x"]}, lambda a: Answer(a["data"][0]["embedding"]), 1)
    assert (await make().post(read))[0] == embedding("x")
