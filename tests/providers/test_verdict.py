"""What answers mean: every row of the error table, in the forms of the providers."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from powermem_cli.errors import ProviderBusy, ProviderError, ProviderRefused, ProviderRejected
from powermem_cli.providers.verdict import Asked, judge, judge_error_in_success, named_limits, retry_after

ASKED = Asked("openai", "gpt-x", "https://api.example.org/v1", "sk-…4f2a")
QWEN = Asked("qwen", "qwen-plus", "https://api.example.org/v1", rate_limits=frozenset({"insufficientquota"}))


def error(message="no", **fields):
    return json.dumps({"error": {"message": message, **fields}}).encode()


def code_of(status, body=b"", asked=ASKED, **headers):
    return judge(asked, status, headers, body).error.code


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 520, 524, 529])
def test_unavailable(status):
    failure = judge(ASKED, status, {"retry-after": "2"}, b"<html>")
    assert type(failure.error) is ProviderBusy
    assert (failure.error.code, failure.error.status) == ("provider.unavailable", status)
    assert (failure.retry_after, failure.final) == (2.0, False)
    assert judge(ASKED, status, {"x-should-retry": "false"}, b"").final


@pytest.mark.parametrize(
    "body",
    [
        b"",
        error("Rate limit reached", type="requests", code="rate_limit_exceeded"),
        error("insufficient quota: slow down"),  # words alone are a rate limit
        json.dumps({"message": "You have exceeded your quota of calls a minute"}).encode(),
    ],
)
def test_a_429_is_a_rate_limit(body):
    failure = judge(ASKED, 429, {"retry-after-ms": "1500"}, body)
    assert type(failure.error) is ProviderBusy
    assert failure.error.code == "rate.limited"
    assert failure.retry_after == failure.error.retry_after == 1.5


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, error("You exceeded your current quota", type="insufficient_quota", code="insufficient_quota")),
        (429, error("…", code="billing_hard_limit_reached")),
        (402, error("Insufficient Balance", code="invalid_request_error")),
        (402, json.dumps({"error": {"code": 402, "message": "Insufficient credits"}}).encode()),
        (402, b""),
        (400, json.dumps({"code": "Arrearage", "message": "Access denied"}).encode()),
        (403, json.dumps({"code": 30001, "message": "balance is insufficient", "data": None}).encode()),
        (403, error("free tier used up", code="AllocationQuota.FreeTierOnly")),
        (400, error("Your credit balance is too low to access the API.", type="invalid_request_error")),
        (
            429,
            error(
                "Quota exceeded",
                code=429,
                status="RESOURCE_EXHAUSTED",
                details=[{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}],
            ),
        ),
    ],
)
def test_an_empty_account(status, body):
    failure = judge(ASKED, status, {}, body)
    assert type(failure.error) is ProviderRefused
    assert failure.error.code == "quota.exhausted"
    assert failure.error.hint


def test_one_provider_calls_a_rate_limit_an_empty_account():
    body = error("Allocated quota exceeded", type="insufficient_quota", code="insufficient_quota")
    assert code_of(429, body, QWEN) == "rate.limited"
    assert code_of(429, body, ASKED) == "quota.exhausted"
    assert code_of(400, json.dumps({"code": "Arrearage"}).encode(), QWEN) == "quota.exhausted"


def test_the_limit_of_a_minute_and_its_wait():
    body = error(
        "Quota exceeded",
        status="RESOURCE_EXHAUSTED",
        details=[
            {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"},
        ],
    )
    failure = judge(ASKED, 429, {}, body)
    assert (failure.error.code, failure.retry_after) == ("rate.limited", 34.5)
    assert judge(ASKED, 429, {"retry-after": "3"}, body).retry_after == 3.0


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, error("Incorrect API key provided")),
        (403, b"<html>Forbidden</html>"),
        (
            400,
            json.dumps(
                [{"error": {"message": "API key not valid", "details": [{"reason": "API_KEY_INVALID"}]}}]
            ).encode(),
        ),
        (400, json.dumps({"code": "InvalidApiKey", "message": "Invalid API-key provided."}).encode()),
    ],
)
def test_a_refused_key(status, body):
    failure = judge(ASKED, status, {}, body)
    assert type(failure.error) is ProviderRefused
    assert failure.error.code == "auth.invalid"
    assert "sk-…4f2a" in str(failure.error)
    assert "https://api.example.org/v1" in str(failure.error)


def test_a_call_without_a_key_is_named_as_such():
    assert "without a key" in str(judge(QWEN, 401, {}, b"").error)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, error("The model `gpt-x` does not exist", code="model_not_found")),
        (404, b"404 page not found"),
        (404, json.dumps({"error": 'model "gpt-x" not found, try pulling it first'}).encode()),
        (400, error("no such model", code="model_not_found")),
        (400, error("gone", code="model_decommissioned")),
        (404, json.dumps({"type": "error", "error": {"type": "not_found_error", "message": "model: x"}}).encode()),
    ],
)
def test_an_unknown_model(status, body):
    failure = judge(ASKED, status, {}, body)
    assert type(failure.error) is ProviderRefused
    assert failure.error.code == "model.not_found"
    assert "'gpt-x'" in str(failure.error)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("This model's maximum context length is 8192 tokens", code="context_length_exceeded")),
        (413, b""),
        (400, error("prompt is too long: 210000 tokens > 200000 maximum", type="invalid_request_error")),
        (500, json.dumps({"error": "the input length exceeds the context length"}).encode()),
        (
            400,
            json.dumps({"code": "InvalidParameter", "message": "Range of input length should be [1, 8192]"}).encode(),
        ),
    ],
)
def test_a_text_that_is_too_long(status, body):
    failure = judge(ASKED, status, {}, body)
    assert type(failure.error) is ProviderRejected
    assert failure.error.code == "input.too_long"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("bad input")),
        (422, json.dumps({"detail": [{"loc": ["body"], "msg": "field required"}]}).encode()),
        (400, error("flagged", code="content_filter")),
        (400, json.dumps({"code": "DataInspectionFailed", "message": "inappropriate"}).encode()),
        (403, error("flagged", code=403, metadata={"reasons": ["violence"], "flagged_input": "…"})),
        (405, b""),
        (418, b"\xff\xfe"),
    ],
)
def test_an_input_that_is_refused(status, body):
    failure = judge(ASKED, status, {}, body)
    assert type(failure.error) is ProviderRejected
    assert failure.error.code == "provider.rejected"


def test_the_filter_is_named():
    assert "filter" in str(judge(ASKED, 400, {}, error("flagged", code="content_filter")).error)


def test_a_server_may_ask_to_be_called_again():
    assert type(judge(ASKED, 400, {"x-should-retry": "true"}, b"").error) is ProviderBusy


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect(status):
    failure = judge(ASKED, status, {"location": "https://elsewhere.example/x?key=secret"}, b"")
    assert type(failure.error) is ProviderRefused
    assert failure.error.code == "provider.redirect"
    assert "elsewhere.example" in str(failure.error)
    assert "secret" not in str(failure.error)


def test_an_error_inside_a_success():
    failure = judge_error_in_success(ASKED, {"error": {"code": 429, "message": "slow down"}})
    assert failure is not None
    assert failure.error.code == "rate.limited"
    failure = judge_error_in_success(ASKED, {"error": {"code": "odd", "message": "upstream broke"}})
    assert failure is not None
    assert type(failure.error) is ProviderError
    assert failure.error.code == "provider.bad_response"
    assert "upstream broke" in str(failure.error)
    for fine in ({"data": []}, {"error": None, "data": []}, [], 3, None):
        assert judge_error_in_success(ASKED, fine) is None


def test_the_words_of_the_provider_are_shown_but_not_all_of_them():
    assert "Rate limit of 3 reached" in str(judge(ASKED, 429, {}, error("Rate limit\n of 3 reached")).error)
    assert len(str(judge(ASKED, 400, {}, error("x" * 100_000)).error)) < 500
    assert "<html>" not in str(judge(ASKED, 502, {}, b"<html><body>bad gateway").error)
    assert "plain words" in str(judge(ASKED, 400, {}, b"plain words").error)


@pytest.mark.parametrize(
    "body",
    [b"null", b"3", b"[]", b'"x"', b"[[]]", b'{"error": []}', b'{"error": {"details": [1, {"violations": [7]}]}}',
     b'{"error": {"message": {"a": 1}, "code": [1]}}', b"[" * 100_000, b'{"error": {"details": 5}}'],
)  # fmt: skip
def test_no_body_is_too_strange(body):
    for status in (302, 400, 401, 402, 404, 413, 429, 500):
        assert judge(ASKED, status, {}, body).error.code


NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=timezone.utc)
DATE = format_datetime(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "3.5"}, 3.5),
        ({"retry-after": " 86400 "}, 86400.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True), "date": DATE}, 90.0),
        ({"retry-after": "Monday, 04-May-26 12:01:30 GMT", "date": DATE}, 90.0),
        ({"retry-after": "Mon May  4 12:01:30 2026", "date": DATE}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(days=9), usegmt=True), "date": DATE}, 0.0),
        ({"retry-after": "in a while"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "99 99 99 99"}, None),
    ],
)
def test_retry_after_in_all_forms(headers, seconds):
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date_without_the_date_of_the_answer():
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    assert 90 < retry_after({"retry-after": later}) <= 100


def test_named_limits():
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "12000",
        "x-ratelimit-reset-tokens": "1m12.5s",
    }
    assert named_limits(headers) == {"calls": (500, 499, 0.12), "tokens": (30000, 12000, 72.5)}
    assert named_limits({**headers, "x-ratelimit-reset-requests": "soon"}).keys() == {"tokens"}
    assert named_limits({}) == {}
