"""What all providers behind HTTP have in common; the file of each says only how it is asked and how it answers."""

from __future__ import annotations

import asyncio
import difflib
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from powermem_cli.errors import (
    ConfigError,
    EmbedderMismatch,
    KeyMissing,
    ProviderError,
    ProviderRefused,
    ProviderRejected,
)
from powermem_cli.model import Message, Vector
from powermem_cli.providers import options
from powermem_cli.providers.base import Completion, Limits, Usage, estimated_tokens
from powermem_cli.providers.http import Answer, Api, Call, Transport, load
from powermem_cli.providers.keys import checked_key
from powermem_cli.providers.pace import PATIENCE, Window
from powermem_cli.retry import RetryPolicy
from powermem_cli.variables import VARIABLES

_NAMED_MODELS: Final = 3
_AT_THE_START: Final = 5  # equal failures before the first answer: then it is not the inputs
_OF_ONE_INPUT: Final = {"provider.rejected", "provider.bad_response", "embed.invalid"}
_VECTORS: Final = "powermem_cli.providers.vectors"
_Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """Who is called, and what all of their interfaces have in common."""

    name: str
    base_url: str | None
    """None: there is no usual address, it has to be named."""
    needs_key: bool = True
    """At the usual address; a server of one's own may want none."""
    key_header: str = "Authorization"
    headers: Mapping[str, str] = field(default_factory=dict)
    models_path: str = "/models"
    models_at: tuple[str, str] = ("data", "id")
    """Where the list of models stands in what *models_path* answers, and the name in each."""
    rate_limits: frozenset[str] = frozenset()
    """Error codes that elsewhere mean an empty account, and here too many calls."""

    def headers_with(self, key: str | None) -> dict[str, str]:
        if key is None:
            return dict(self.headers)
        return {**self.headers, self.key_header: f"Bearer {key}" if self.key_header == "Authorization" else key}


def _where_to_set(missing: Sequence[str], vendor: Vendor) -> str:
    """Names in the environment or a .env file: those of the vendor, else those of what it is used for."""
    wanted = [variable for variable in VARIABLES if variable.path[-1] in missing]
    own = dict.fromkeys(variable.name for variable in wanted if variable.provider == vendor.name)
    shared = dict.fromkeys(variable.name for variable in wanted if variable.provider is None)
    return f"set {' or '.join(own or shared)} in the environment or in ./.env" if own or shared else "pass it"


class Remote:
    """Settings, the connection and what it took. Nothing is opened before the first call."""

    vendor: ClassVar[Vendor]
    default_model: ClassVar[str | None] = None

    def __init__(self, api_key: str | None, model: str | None, base_url: str | None, transport: Transport) -> None:
        vendor = self.vendor
        model = options.text("model", model) or self.default_model
        url = options.text("base_url", base_url) or vendor.base_url
        key = checked_key(options.text("api_key", api_key), vendor.name)
        self._usual = (url or "").rstrip("/") == vendor.base_url
        keyless = key is None and vendor.needs_key and self._usual
        if model is None or url is None or keyless:
            needed = {"api_key": keyless, "model": model is None, "base_url": url is None}
            missing = [option for option, is_missing in needed.items() if is_missing]
            said, hint = f"{vendor.name} needs {' and '.join(missing)}", _where_to_set(missing, vendor)
            if missing == ["api_key"]:
                raise KeyMissing(said, hint=hint)
            raise ConfigError(said, hint=hint, code="config.missing")
        self._model = model
        self._left_out: set[str] = set()
        self._answered = False
        self._failures: list[tuple[str, int | None]] = []
        """Of single inputs, all of one kind, as long as nothing was answered."""
        headers = vendor.headers_with(key)
        self._api = Api(vendor.name, model, url, transport, key=key, headers=headers, rate_limits=vendor.rate_limits)

    @property
    def model(self) -> str:
        return f"{self.vendor.name}/{self._model}"

    @property
    def usage(self) -> Usage:
        return self._api.usage

    async def close(self) -> None:
        await self._api.close()

    async def _post(self, call: Call, optional: Sequence[str] = (), *, alone: bool = True) -> tuple[Any, Usage]:
        """The call, without those of the *optional* parameters that this model turns out not to take.

        *alone*: it holds a single input. Raises ProviderRefused once nothing at all is taken from the start on.
        """
        while True:
            body = {k: v for k, v in call.body.items() if v is not None and k not in self._left_out}
            try:
                answer = await self._api.post(replace(call, body=body))
            except ProviderRefused as error:
                if error.code == "model.not_found":
                    error.hint = await self._near_models() or error.hint
                raise
            except ProviderError as error:
                refused = next((name for name in optional if name in body and name in error.message), None)
                if refused is None or error.status not in {400, 422}:
                    self._stop_if_all_fail(error, alone=alone)
                    raise
                self._left_out.add(refused)
            else:
                self._answered = True
                return answer

    def _stop_if_all_fail(self, error: ProviderError, *, alone: bool) -> None:
        """One input may be to blame for its own failure. Raises ProviderRefused where it can't be the inputs."""
        if self._answered or error.code not in _OF_ONE_INPUT:
            return
        if alone or error.code == "provider.bad_response":
            kind = (error.code, error.status)
            self._failures = [*self._failures, kind] if kind in self._failures else [kind]
        if len(self._failures) >= _AT_THE_START:
            raise ProviderRefused(
                f"took none of the first inputs: {error.message.removeprefix(f'{self.vendor.name}: ')}",
                provider=self.vendor.name,
                status=error.status,
                hint=error.hint or "check model and base_url with: powermem check",
                code=error.code,
            ) from error

    async def _near_models(self) -> str | None:
        models, name = self.vendor.models_at
        listing = await self._api.look(self.vendor.models_path)
        try:
            names = [model[name].removeprefix("models/") for model in listing[models]]
        except (LookupError, TypeError, AttributeError):
            return None
        near = difflib.get_close_matches(self._model, names, _NAMED_MODELS, 0.4) or names[:_NAMED_MODELS]
        return f"models there are {', '.join(near)}" if near else None


class RemoteEmbedder(Remote, ABC):
    """An embedding API: one call of embed is one request. Stands behind GroupedEmbedder."""

    texts_per_request: ClassVar[int] = 16
    tokens_per_request: ClassVar[int] = 100_000

    def __init__(
        self,
        *,
        api_key: str | None = None,
        model: str | None = None,
        base_url: str | None = None,
        embedding_dims: int | None = None,
        batch_size: int | None = None,
        timeout: float = 60.0,
        retries: int = 6,
        patience: float = PATIENCE,
        rpm: float | None = None,
        tpm: float | None = None,
        concurrency: int | None = None,
    ) -> None:
        transport = _transport(timeout, retries, patience, rpm, tpm, concurrency)
        super().__init__(api_key, model, base_url, transport)
        self._dims = options.whole("embedding_dims", embedding_dims)
        self._answered_dims: int | None = None
        texts = options.whole("batch_size", batch_size) or self.most_texts()
        self._limits = Limits(texts, self.tokens_per_request, transport.concurrency or Window.WIDEST)

    @property
    def limits(self) -> Limits:
        return self._limits

    def most_texts(self) -> int:
        """How many texts one request may hold, if nobody says otherwise."""
        return self.texts_per_request

    async def prepare(self) -> None:
        """Load what the first request and its answer would wait for; there is no call."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, load)
        await loop.run_in_executor(None, importlib.import_module, _VECTORS)

    @abstractmethod
    def request(self, texts: Sequence[str]) -> tuple[str, _Body]:
        """Path and body that ask for the embeddings of *texts*; a None in the body is left out."""

    @abstractmethod
    def embeddings(self, answer: Any) -> list[Any]:
        """The embeddings in *answer*, in the order of the texts."""

    def prompt_tokens(self, answer: Any) -> int | None:
        """What the answer says it took."""
        return tokens_named(answer.get("usage"), "prompt_tokens", "total_tokens")

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order, each of length 1. Raises ProviderError, EmbedderMismatch."""
        if not texts:
            return []

        def read(answer: Any) -> Answer:
            return Answer(self._vectors(answer, len(texts)), self.prompt_tokens(answer), 0)

        path, body = self.request(texts)
        call = Call(path, body, read, sum(map(estimated_tokens, texts)))
        if self._answered_dims is None:  # what reads the answer takes 100 ms to load: that may be while it is made
            loop = asyncio.get_running_loop()
            loop.call_soon(
                lambda: loop.run_in_executor(None, importlib.import_module, _VECTORS)
            )  # once the call is out
        vectors, _ = await self._post(call, optional=("dimensions", "encoding_format"), alone=len(texts) == 1)
        dims = len(vectors[0]) // 4
        if self._dims not in {None, dims}:
            raise EmbedderMismatch(
                f"{self.model} answers {dims} numbers per text, and embedding_dims says {self._dims}",
                hint="set embedding_dims (EMBEDDING_DIMS) to what the model makes, or leave it out",
            )
        self._answered_dims = dims
        return list(vectors)

    def _vectors(self, answer: Any, count: int) -> list[Vector]:
        from powermem_cli.providers.vectors import unit_vectors  # noqa: PLC0415  numpy takes 100 ms to import

        vectors = unit_vectors(self.vendor.name, self.embeddings(answer), count)
        dims = len(vectors[0]) // 4
        if self._answered_dims not in {None, dims}:
            raise ProviderError(
                f"answered {dims} numbers per text, and {self._answered_dims} before",
                provider=self.vendor.name,
                code="embed.invalid",
            )
        return vectors


class RemoteLLM(Remote, ABC):
    """A chat API: a conversation in, the next turn out."""

    optional: ClassVar[Sequence[str]] = ("response_format", "temperature", "top_p", "max_tokens")
    """Parameters that some models refuse and that can be left out."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        model: str | None = None,
        base_url: str | None = None,
        temperature: float | None = 0.0,
        max_tokens: int | None = None,
        top_p: float | None = None,
        timeout: float = 120.0,
        retries: int = 6,
        patience: float = PATIENCE,
        rpm: float | None = None,
        tpm: float | None = None,
        concurrency: int | None = None,
    ) -> None:
        super().__init__(api_key, model, base_url, _transport(timeout, retries, patience, rpm, tpm, concurrency))
        self._temperature = options.number("temperature", temperature)
        self._max_tokens = options.whole("max_tokens", max_tokens)
        self._top_p = options.number("top_p", top_p)

    @abstractmethod
    def request(self, messages: Sequence[Message], *, json: bool) -> tuple[str, _Body]:
        """Path and body that ask for the next turn; a None in the body is left out."""

    @abstractmethod
    def completion(self, answer: Any) -> Answer:
        """The text of *answer*, whole, and what it took. Raises ProviderError if it was cut or withheld."""

    async def complete(self, messages: Sequence[Message], *, json: bool = False) -> Completion:
        """The whole next turn of *messages*. Raises ProviderError."""

        def read(answer: Any) -> Answer:
            found = self.completion(answer)
            if not isinstance(found.value, str) or not found.value.strip():
                raise ProviderError("answered with no text", provider=self.vendor.name)
            written = found.completion_tokens
            return replace(found, completion_tokens=estimated_tokens(found.value) if written is None else written)

        path, body = self.request(messages, json=json)
        tokens = sum(estimated_tokens(message.content) for message in messages)
        text, usage = await self._post(Call(path, body, read, tokens), self.optional)
        return Completion(text, usage)

    def cut(self, why: object) -> ProviderError:
        """The answer ended before its end."""
        return ProviderError(
            f"the answer was cut off ({why})", provider=self.vendor.name, hint="raise max_tokens (LLM_MAX_TOKENS)"
        )

    def withheld(self, why: object) -> ProviderRejected:
        """The provider's filter, or the model, would not answer."""
        return ProviderRejected(f"would not answer ({why})", provider=self.vendor.name)


class RemoteReranker(Remote, ABC):
    """A rerank API: a query and texts in, one relevance each out."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        model: str | None = None,
        base_url: str | None = None,
        timeout: float = 30.0,
        retries: int = 6,
        patience: float = PATIENCE,
        rpm: float | None = None,
        tpm: float | None = None,
        concurrency: int | None = None,
    ) -> None:
        super().__init__(api_key, model, base_url, _transport(timeout, retries, patience, rpm, tpm, concurrency))

    @abstractmethod
    def request(self, query: str, texts: Sequence[str]) -> tuple[str, _Body]:
        """Path and body that ask for the relevance of *texts*."""

    @abstractmethod
    def results(self, answer: Any) -> list[Any]:
        """The list of {index, relevance_score} in *answer*."""

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """One relevance per text, in the order of the texts, in 0..1. Raises ProviderError."""
        if not texts:
            return []

        def read(answer: Any) -> Answer:
            items = in_order(self.vendor.name, self.results(answer), "provider.bad_response")
            scores = _relevances([item["relevance_score"] for item in items])
            if len(scores) != len(texts):
                raise LookupError(f"{len(scores)} results for {len(texts)} texts")
            return Answer(scores, tokens_named(answer.get("usage"), "prompt_tokens", "total_tokens"), 0)

        path, body = self.request(query, texts)
        tokens = sum(estimated_tokens(query) + estimated_tokens(text) for text in texts)
        scores, _ = await self._post(Call(path, body, read, tokens))
        return list(scores)


def in_order(provider: str, items: Sequence[Any], code: str) -> list[Any]:
    """The items by their `index`: 0, 1, …, each once; a single one may go without. Raises ProviderError with *code*."""
    if len(items) == 1 and "index" not in items[0]:
        return list(items)
    by_index = {item["index"]: item for item in items if type(item.get("index")) is int}
    if set(by_index) != set(range(len(items))):
        raise ProviderError(
            f"answered {len(items)} results whose indexes are not 0, 1, … each once", provider=provider, code=code
        )
    return [by_index[i] for i in range(len(items))]


def tokens_named(usage: Any, *names: str) -> int | None:
    """The first of *names* that *usage* has a number for."""
    if not isinstance(usage, Mapping):
        return None
    return next((usage[name] for name in names if type(usage.get(name)) is int), None)


def _relevances(scores: Sequence[Any]) -> list[float]:
    numbers = [float(score) for score in scores if type(score) in {int, float} and math.isfinite(score)]
    if len(numbers) != len(scores):
        raise ValueError("a relevance is no number")
    if all(0 <= number <= 1 for number in numbers):
        return numbers
    # Some servers answer what the model says before it is turned into a probability.
    return [1 / (1 + math.exp(-max(-700.0, number))) for number in numbers]


def _transport(
    timeout: float, retries: int, patience: float, rpm: float | None, tpm: float | None, concurrency: int | None
) -> Transport:
    """How calls travel, from options. Raises ConfigError."""
    return Transport(
        timeout=options.positive("timeout", timeout) or Transport.timeout,
        policy=RetryPolicy(attempts=options.whole("retries", retries) or RetryPolicy.attempts),
        patience=PATIENCE if (seconds := options.number("patience", patience)) is None else seconds,
        rpm=options.positive("rpm", rpm),
        tpm=options.positive("tpm", tpm),
        concurrency=options.whole("concurrency", concurrency),
    )
