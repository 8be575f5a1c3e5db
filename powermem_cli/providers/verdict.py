"""What a provider's answer means: fine, not now, never. Knows statuses, headers and bodies; sends nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final

from powermem_cli.errors import ProviderBusy, ProviderError, ProviderRefused, ProviderRejected
from powermem_cli.providers.pace import Kind
from powermem_cli.retry import Failure

_LATER: Final = {408, 409, 425, *range(500, 600)}
# Names of codes, types and reasons in the bodies of the providers, lower case, without "_", "-", "." and blanks.
_QUOTA: Final = {
    "insufficientquota", "billinghardlimitreached", "billingnotactive", "billingerror", "arrearage", "quotaexceeded",
    "exceededcurrentquotaerror", "insufficientbalance", "insufficientcredits", "paymentrequired", "creditbalancetoolow",
    "allocationquotafreetieronly", "freetieronly", "accountdeactivated", "30001",
}  # fmt: skip
_NO_MODEL: Final = {
    "modelnotfound", "modelnotexist", "invalidmodel", "invalidmodelid", "unknownmodel", "modeldecommissioned",
    "modelnotsupported", "unsupportedmodel", "modelaccessdenied", "deploymentnotfound",
}  # fmt: skip
_NO_KEY: Final = {"apikeyinvalid", "invalidapikey", "invalidapitoken", "apikeyexpired", "accessterminated"}
_TOO_LONG: Final = {"contextlengthexceeded", "stringabovemaxlength", "requesttoolarge", "inputtoolong"}
_FILTERED: Final = {"contentfilter", "contentpolicyviolation", "datainspectionfailed", "responsibleaipolicyviolation"}
_SAYS_TOO_LONG = re.compile(
    r"context (?:length|window|size)|maximum (?:context|sequence|input|token)|too (?:long|many tokens)|token limit"
    r"|input length|exceeds? the (?:model|max)",
    re.IGNORECASE,
)
_SAYS_EMPTY: Final = "Your credit balance is too low"  # Anthropic's 400 has no code for it
_AMOUNT = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"
_DURATION = re.compile(_AMOUNT + "(ms|s|m|h|d)")
# Only a number alone goes without a unit: where each could, a long one could be cut in 2**n ways, and would be.
_DURATIONS = re.compile(f"{_AMOUNT}|(?:{_DURATION.pattern})+")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHOWN: Final = 300  # characters of a provider's own words


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom and what was asked: for the words of an error."""

    provider: str
    model: str
    url: str
    key: str = ""
    """The key as it may be shown, or nothing."""
    rate_limits: frozenset[str] = frozenset()
    """Codes that elsewhere mean an empty account, and here too many calls."""


@dataclass(frozen=True, slots=True)
class Said:
    """The error in a body, whatever its form: *codes* are all its machine-readable names."""

    message: str
    codes: frozenset[str]
    retry_after: float | None = None


def judge(asked: Asked, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an answer that is none of 2xx means. *headers* by lower-case names, *body* as far as it could be read."""
    said = understood(body)
    words = f": {said.message}" if said.message else ""
    named = said.codes & _QUOTA - asked.rate_limits or (status == 400 and said.message.startswith(_SAYS_EMPTY))
    if 300 <= status < 400:
        return Failure(_redirected(asked, status, headers))
    if status == 402 or (status in {400, 403, 429} and named):
        return Failure(_refused(asked, "quota.exhausted", status, f"the account has no quota or credit left{words}"))
    if status == 429:
        error = ProviderBusy(f"too many calls (429){words}", provider=asked.provider, status=429, code="rate.limited")
        return _failure(error, headers, said)
    is_filtered = bool(said.codes & _FILTERED)
    if status in {401, 407} or (status == 403 and not is_filtered) or (status == 400 and said.codes & _NO_KEY):
        return Failure(_unauthorized(asked, status, words))
    if (status == 404 or said.codes & _NO_MODEL) and status < 500:
        return Failure(_no_model(asked, status, words))
    if status == 413 or (status in {400, 422, 500} and (said.codes & _TOO_LONG or _SAYS_TOO_LONG.search(said.message))):
        return Failure(_rejected(asked, "input.too_long", status, f"the text is too long for the model{words}"))
    if status in _LATER or headers.get("x-should-retry") == "true":
        error = ProviderBusy(f"no service at the moment ({status}){words}", provider=asked.provider, status=status)
        return _failure(error, headers, said, final=headers.get("x-should-retry") == "false")
    what = "the provider's filter took offence" if is_filtered else "refused this input"
    return Failure(_rejected(asked, "provider.rejected", status, f"{what} ({status}){words}"))


def judge_error_in_success(asked: Asked, answer: Any) -> Failure | None:
    """Some gateways answer 200 with an error inside; None if there is none."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error:
        return None
    status = error.get("code") if isinstance(error, dict) else None
    body = json.dumps(answer).encode()
    if isinstance(status, int) and 400 <= status < 600:
        return judge(asked, status, {}, body)
    return bad_response(asked, f"answered with an error: {understood(body).message}")


def bad_response(asked: Asked, what: str) -> Failure:
    """An answer that is no answer."""
    return Failure(
        ProviderError(f"{what} (at {asked.url})", provider=asked.provider, hint="is base_url the address of the API?")
    )


def understood(body: bytes) -> Said:
    """The error in *body*; its words alone if it is none of the known forms."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return Said("" if b"<" in body[:100] else _shortened(body.decode("utf-8", "replace")), frozenset())
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return Said("", frozenset())
    inner = parsed.get("error")
    error: Mapping[str, Any] = inner if isinstance(inner, dict) else parsed
    details = [detail for detail in _list(error.get("details")) if isinstance(detail, dict)]
    names = [error.get(name) for name in ("code", "type", "status")]
    names += [detail.get("reason") for detail in details]
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and "flagged_input" in metadata:  # OpenRouter's 403
        names.append("content_filter")
    message = next((error[name] for name in ("message", "detail", "msg", "error") if error.get(name)), "")
    return Said(
        _shortened(message if isinstance(message, str) else json.dumps(message)),
        frozenset(map(_plain, filter(None, names))) | _exhausted_for_the_day(details),
        next((seconds for detail in details if (seconds := _seconds(detail.get("retryDelay"))) is not None), None),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the headers name them: milliseconds, seconds or an HTTP date; None for none, or garbage."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    until, sent = _date(value), _date(headers.get("date", ""))
    if until is None:
        return None
    return max(0.0, (until - (sent or datetime.now(timezone.utc))).total_seconds())


def named_limits(headers: Mapping[str, str]) -> dict[Kind, tuple[float, float, float]]:
    """What the x-ratelimit headers say: limit, remaining, and seconds until all are there again."""
    found: dict[Kind, tuple[float, float, float]] = {}
    kinds: tuple[tuple[Kind, str], ...] = (("calls", "requests"), ("tokens", "tokens"))
    for kind, name in kinds:
        limit = _number(headers.get(f"x-ratelimit-limit-{name}"))
        remaining = _number(headers.get(f"x-ratelimit-remaining-{name}"))
        reset = _seconds(headers.get(f"x-ratelimit-reset-{name}"))
        if limit is not None and remaining is not None and reset is not None:
            found[kind] = (limit, remaining, reset)
    return found


def _failure(error: ProviderBusy, headers: Mapping[str, str], said: Said, *, final: bool = False) -> Failure:
    wait = retry_after(headers)
    error.retry_after = said.retry_after if wait is None else wait
    return Failure(error, error.retry_after, final)


def _redirected(asked: Asked, status: int, headers: Mapping[str, str]) -> ProviderRefused:
    where = headers.get("location", "nowhere").split("?")[0]
    return ProviderRefused(
        f"{asked.url} redirects ({status}) to {where}, which was not followed",
        provider=asked.provider,
        status=status,
        hint="set base_url to the address of the API itself",
        code="provider.redirect",
    )


def _unauthorized(asked: Asked, status: int, words: str) -> ProviderRefused:
    if status == 407:
        return _refused(asked, "auth.invalid", status, f"the proxy on the way to {asked.url} wants a login (407)")
    given = f"the key {asked.key}" if asked.key else "a call without a key"
    return _refused(asked, "auth.invalid", status, f"refused {given} ({status}) at {asked.url}{words}")


def _no_model(asked: Asked, status: int, words: str) -> ProviderRefused:
    return _refused(asked, "model.not_found", status, f"has no model {asked.model!r} ({status}) at {asked.url}{words}")


def _refused(asked: Asked, code: str, status: int, message: str) -> ProviderRefused:
    hints = {
        "auth.invalid": "check the key with: powermem check",
        "quota.exhausted": "top up the account or wait until its quota is renewed",
        "model.not_found": "check model and base_url with: powermem check",
    }
    return ProviderRefused(message, provider=asked.provider, status=status, hint=hints[code], code=code)


def _rejected(asked: Asked, code: str, status: int, message: str) -> ProviderRejected:
    return ProviderRejected(message, provider=asked.provider, status=status, code=code)


def _exhausted_for_the_day(details: list[dict[str, Any]]) -> frozenset[str]:
    """Gemini answers 429 for a minute's limit and for a day's; only the name of the quota tells them apart."""
    violations = [one for detail in details for one in _list(detail.get("violations")) if isinstance(one, dict)]
    if any("perday" in _plain(one.get("quotaId", "")) for one in violations):
        return frozenset({"quotaexceeded"})
    return frozenset()


def _plain(name: Any) -> str:
    return re.sub(r"[\W_]", "", str(name)).lower()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e12 else None  # leaves out NaN and infinity too


def _seconds(text: Any) -> float | None:
    """`6m0s`, `120ms`, `34.5s`, `7` as seconds."""
    if not isinstance(text, str) or (found := _DURATIONS.fullmatch(text)) is None:
        return None
    if found[1] is not None:
        return float(found[1])
    return sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION.findall(text))


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
