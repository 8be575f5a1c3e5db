"""What the engine asks of an embedder, an LLM and a reranker; each provider satisfies it in a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Protocol

from powermem_cli.errors import ProviderError
from powermem_cli.model import Message, Vector


@dataclass(frozen=True, slots=True)
class Usage:
    """What was asked of a provider, failed attempts included. Differences of two say what lies between them."""

    calls: int = 0
    """Requests sent."""
    retries: int = 0
    """Of them, sent again after a failure or a 429."""
    rate_limited: int = 0
    """Of them, answered with 429."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    """Whether tokens were guessed from the length of a text because the provider did not name them."""

    def __add__(self, other: Usage) -> Usage:
        return self._combined(other, 1)

    def __sub__(self, other: Usage) -> Usage:
        return self._combined(other, -1)

    def _combined(self, other: Usage, sign: int) -> Usage:
        return Usage(
            self.calls + sign * other.calls,
            self.retries + sign * other.retries,
            self.rate_limited + sign * other.rate_limited,
            self.prompt_tokens + sign * other.prompt_tokens,
            self.completion_tokens + sign * other.completion_tokens,
            self.estimated or other.estimated,
        )


class Meter:
    """Reads what a task, and the tasks it begins, ask of providers: `with Meter() as meter: …`, then `meter.usage`.

    A meter within another counts for both. What is asked for many callers at once counts for nobody.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self._outer: Meter | None = None
        self._token: Token[Meter | None] | None = None

    def __enter__(self) -> Meter:
        self._outer = _meter.get()
        self._token = _meter.set(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._token is not None
        _meter.reset(self._token)

    def count(self, usage: Usage) -> None:
        self.usage += usage
        if self._outer is not None:
            self._outer.count(usage)


_meter: ContextVar[Meter | None] = ContextVar("powermem_meter", default=None)


def count(usage: Usage) -> None:
    """Something was asked of a provider, whether or not it was answered."""
    if (meter := _meter.get()) is not None:
        meter.count(usage)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one embedding request may hold, and how many requests may be under way."""

    texts: int
    tokens: int
    requests: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What an LLM wrote, never empty, and what it took."""

    text: str
    usage: Usage


class Embedder(Protocol):
    """Texts to vectors."""

    @property
    def model(self) -> str:
        """What made the vectors, as `provider/model`. A store keeps vectors of one model only."""
        ...

    @property
    def usage(self) -> Usage:
        """All that was asked so far."""
        ...

    async def prepare(self) -> None:
        """Load what the first call would have to wait for. Nobody has to call it. Raises ConfigError."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order, each of length 1 (or empty, see Vector). Raises ProviderError."""
        ...

    async def embed_each(self, texts: Sequence[str]) -> list[Vector | ProviderError]:
        """As embed, but a text that got no vector has its error in its place, and the others have their vectors."""
        ...

    async def close(self) -> None:
        """Let go of connections. Safe to repeat."""
        ...


class BatchEmbedder(Protocol):
    """An embedder as it stands behind GroupedEmbedder."""

    @property
    def model(self) -> str: ...

    @property
    def usage(self) -> Usage: ...

    @property
    def limits(self) -> Limits: ...

    async def prepare(self) -> None: ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One request, within the limits. Raises ProviderError for all of them."""
        ...

    async def close(self) -> None: ...


class LLM(Protocol):
    """A conversation to the next turn of it."""

    @property
    def model(self) -> str:
        """Who answers, as `provider/model`."""
        ...

    @property
    def usage(self) -> Usage:
        """All that was asked so far."""
        ...

    async def complete(self, messages: Sequence[Message], *, json: bool = False) -> Completion:
        """The whole answer to *messages* (roles system, user, assistant). Raises ProviderError, also for a cut answer.

        *json* asks for a JSON object where the provider can be asked; whether it is one is for the caller to see.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Safe to repeat."""
        ...


class Reranker(Protocol):
    """How well each of some texts answers a query."""

    @property
    def model(self) -> str:
        """Who judges, as `provider/model`."""
        ...

    @property
    def usage(self) -> Usage:
        """All that was asked so far."""
        ...

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """One relevance per text, in the order of the texts, higher is better, in 0..1. Raises ProviderError."""
        ...

    async def close(self) -> None:
        """Let go of connections. Safe to repeat."""
        ...


def estimated_tokens(text: str) -> int:
    """About how many tokens *text* has; rather too many than too few."""
    return (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) // 3 + 1
