"""The retry decision: which failure is worth another call, how many, and after how long."""

from __future__ import annotations

import pytest

from powermem_cli.errors import ProviderBusy, ProviderRefused
from powermem_cli.retry import Failure, RetryPolicy, backoff, decide


def failure(code, retry_after=None, *, final=False):
    return Failure(ProviderBusy("no", provider="p", code=code), retry_after, final)


def tries(code, *, others_succeed=False, policy=None):
    """How many calls are made when each fails with *code*."""
    failures = [failure(code)]
    while decide(policy or RetryPolicy(), failures, others_succeed=others_succeed, random=lambda: 0.5).again:
        failures.append(failure(code))
    return len(failures)


@pytest.mark.parametrize(
    ("code", "calls"),
    [
        ("provider.unreachable", 6),
        ("provider.unavailable", 6),
        ("provider.timeout", 4),
        ("provider.bad_response", 3),
        ("embed.invalid", 2),
        ("auth.invalid", 1),
        ("quota.exhausted", 1),
        ("tls.invalid", 1),
        ("model.not_found", 1),
        ("input.too_long", 1),
        ("provider.rejected", 1),
        ("provider.redirect", 1),
        ("embed.dims_mismatch", 1),
    ],
)
def test_calls_made_for_each_code(code, calls):
    assert tries(code) == calls


def test_more_calls_while_others_get_through():
    assert tries("provider.unavailable", others_succeed=True) == 12


def test_attempts_are_calls_in_all():
    assert tries("provider.unavailable", policy=RetryPolicy(attempts=1)) == 1


def test_codes_are_counted_apart_and_attempts_together():
    policy = RetryPolicy(attempts=6)
    mixed = [failure("provider.bad_response"), failure("provider.bad_response"), failure("provider.timeout")]
    assert decide(policy, mixed, others_succeed=False, random=lambda: 0.0).again
    mixed.append(failure("provider.bad_response"))
    assert not decide(policy, mixed, others_succeed=False, random=lambda: 0.0).again


def test_what_the_other_side_names_is_what_is_waited():
    decision = decide(RetryPolicy(), [failure("provider.unavailable", 7.5)], others_succeed=False, random=lambda: 1.0)
    assert (decision.again, decision.wait) == (True, 7.5)


def test_a_final_failure_is_final():
    failures = [failure("provider.unavailable", final=True)]
    assert not decide(RetryPolicy(), failures, others_succeed=True, random=lambda: 0.0).again


def test_a_refusal_carries_no_wait():
    refused = Failure(ProviderRefused("no", provider="p"))
    assert decide(RetryPolicy(), [refused], others_succeed=False, random=lambda: 0.0).again is False


@pytest.mark.parametrize(("failures", "most"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (5000, 60.0)])
def test_backoff_is_anywhere_between_nothing_and_a_doubling_end(failures, most):
    assert backoff(failures, 0.5, 60.0, lambda: 1.0) == most
    assert backoff(failures, 0.5, 60.0, lambda: 0.25) == most / 4
    assert backoff(failures, 0.5, 60.0, lambda: 0.0) == 0.0
