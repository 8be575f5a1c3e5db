"""Every error raised on purpose, as one tree.

PowerMemError
├── UsageError            the command or the call is wrong; nothing was started
│   ├── ConfigError       a setting is unknown, missing or contradictory
│   │   └── KeyMissing    a provider wants a key, and none is set
│   ├── StoreMissing      there is no store at that place, and this call makes none
│   └── InvalidInput      a text, scope, filter or metadata value breaks a rule
├── ProviderError         an LLM, an embedder or a reranker did not do its work
│   ├── ProviderBusy      the same call may succeed later
│   ├── ProviderRefused   a person must act: key, quota, model, certificate
│   └── ProviderRejected  this input will never be accepted, others may
├── StoreError            the database did not do its work
│   ├── StoreBusy         the same call may succeed later
│   ├── StoreFull         no room left
│   └── StoreCorrupt      the file is not, or no longer, a database of ours
├── EmbedderMismatch      the store holds vectors of another model or dimensions
├── Locked                another run holds the lock of this job
├── NotFound              what was asked for is not there
└── InvariantError        a promise of ours is broken: please report

A handler reads the class and the attributes, never the message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PowerMemError(Exception):
    """Base of all: *code* is stable and dotted, *hint* says how to mend it, *retryable* whether waiting can help."""

    code = "bug.unknown"
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class UsageError(PowerMemError):
    code = "usage.invalid"


class ConfigError(UsageError):
    code = "config.invalid"


class KeyMissing(ConfigError):
    code = "auth.invalid"


class StoreMissing(UsageError):
    code = "store.missing"


class InvalidInput(UsageError):
    """*field* names the part that breaks the rule, as the caller wrote it."""

    code = "input.invalid"

    def __init__(
        self, message: str, *, field: str | None = None, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.field = field


class ProviderError(PowerMemError):
    """*provider* is the configured name, *status* the HTTP status if there was an answer."""

    code = "provider.bad_response"

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        status: int | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(f"{provider}: {message}", hint=hint, code=code)
        self.provider = provider
        self.status = status


class ProviderBusy(ProviderError):
    """*outage*: nobody gets through and waiting was given up, so it is no fault of a single record.

    *retry_after* is in seconds, when the provider named them.
    """

    code = "provider.unavailable"
    retryable = True
    outage = False
    retry_after: float | None = None


class ProviderRefused(ProviderError):
    code = "auth.invalid"


class ProviderRejected(ProviderError):
    code = "provider.rejected"


class StoreError(PowerMemError):
    code = "store.io"


class StoreBusy(StoreError):
    code = "store.busy"
    retryable = True


class StoreFull(StoreError):
    code = "store.full"


class StoreCorrupt(StoreError):
    code = "store.corrupt"


class EmbedderMismatch(PowerMemError):
    code = "embed.dims_mismatch"


class Locked(PowerMemError):
    code = "job.locked"
    retryable = True


class NotFound(PowerMemError):
    code = "not_found"


class InvariantError(PowerMemError):
    code = "bug.invariant"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for a *word* that is none of the *known* ones."""
    listed = list(known)
    near = difflib.get_close_matches(word.lower(), listed, 1)
    one_of = "one of " + ", ".join(listed)
    return f"did you mean {near[0]}? It is {one_of}" if near else one_of
