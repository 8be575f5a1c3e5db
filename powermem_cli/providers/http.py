"""The one place that calls a provider: sends, waits and tries again, and lets no key and no endless answer through."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import random
import ssl
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from urllib.request import getproxies

import anyio

from powermem_cli.errors import ProviderBusy, ProviderError, ProviderRefused
from powermem_cli.providers.address import check_resolved, checked_url, proxy_to
from powermem_cli.providers.base import Usage, count
from powermem_cli.providers.body import Unreadable, read_body
from powermem_cli.providers.keys import Redaction
from powermem_cli.providers.pace import Pace, Turn
from powermem_cli.providers.verdict import Asked, bad_response, judge, judge_error_in_success, named_limits
from powermem_cli.retry import Failure, RetryPolicy, decide

if TYPE_CHECKING:
    import httpx

_CONNECT: Final = 5.0  # seconds
_HEADERS: Final = {
    "User-Agent": "powermem-cli",
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
}

_logger = logging.getLogger("powermem.providers")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Transport:
    """How calls to one provider travel."""

    timeout: float = 60.0
    """Seconds for one attempt from the first byte sent to the last one read."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    patience: float = 300.0
    """Seconds a provider may be down, or refuse every call, before it is given up; also the longest Retry-After."""
    rpm: float | None = None
    tpm: float | None = None
    concurrency: int | None = None
    random: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer held once it was read, and the tokens it names: None where it names none."""

    value: Any
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One POST. *read* makes an Answer of the parsed body, or raises ProviderError; *tokens* is an estimate."""

    path: str
    body: Mapping[str, Any]
    read: Callable[[Any], Answer]
    tokens: int


class Api:
    """The HTTP interface of one provider and model. Opened by the first call, in the event loop of that call."""

    def __init__(
        self,
        provider: str,
        model: str,
        base_url: str,
        transport: Transport,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        rate_limits: frozenset[str] = frozenset(),
    ) -> None:
        self._url = checked_url(base_url, provider, with_key=key is not None)
        self._with_key = key is not None
        redaction = Redaction(key)
        self._redacted = redaction.of
        self._headers = {**_HEADERS, **(headers or {})}
        self._asked = Asked(provider, model, self._url, redaction.shown, rate_limits)
        self._transport = transport
        self._pace = Pace(
            provider,
            concurrency=transport.concurrency,
            rpm=transport.rpm,
            tpm=transport.tpm,
            timeout=transport.timeout,
            patience=transport.patience,
            random=transport.random,
        )
        self._connection: _Connection | None = None
        self.usage = Usage()

    async def post(self, call: Call) -> tuple[Any, Usage]:
        """The value that was read from the answer, and what it took. Raises ProviderError, ConfigError."""
        content = json.dumps(call.body, separators=(",", ":")).encode()
        failures: list[Failure] = []
        known, used = self._pace.successes, Usage()
        while True:
            turn = await self._pace.turn(call.tokens)
            sent = anyio.current_time()
            try:
                outcome = await self._attempt("POST", call.path, content, call.read, turn)
            except BaseException:
                self._pace.withdraw(turn)
                raise
            spent = self._spent(call, outcome, again=used.calls > 0)
            used, self.usage = used + spent, self.usage + spent
            count(spent)
            failure = outcome if isinstance(outcome, Failure) else None
            self._log(call.path, failure, anyio.current_time() - sent)
            outage = self._pace.leave(turn, failure, spent.prompt_tokens + spent.completion_tokens)
            if not isinstance(outcome, Failure):
                return outcome.value, used
            if outage is not None:
                raise outage
            if outcome.error.code == "rate.limited" or self._pace.down:
                continue  # told to wait with all others: that is no failure of this call
            failures.append(outcome)
            await self._wait_or_raise(failures, others_succeed=self._pace.successes > known)

    async def look(self, path: str) -> Any:
        """What a GET answers, asked once; None for no answer. Only for what helps to explain an error."""
        outcome = await self._attempt("GET", path, b"", Answer)
        return None if isinstance(outcome, Failure) else outcome.value

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _wait_or_raise(self, failures: list[Failure], *, others_succeed: bool) -> None:
        decision = decide(
            self._transport.policy, failures, others_succeed=others_succeed, random=self._transport.random
        )
        if not decision.again or decision.wait > self._transport.patience:
            error = failures[-1].error
            if error.hint is None and len(failures) > 1:
                error.hint = f"it was tried {len(failures)} times"
            raise error
        await anyio.sleep(decision.wait)

    def _log(self, path: str, failure: Failure | None, seconds: float) -> None:
        """How a call ended; not in the provider's words, which may repeat what was sent."""
        how = "answered" if failure is None else failure.error.code
        level = logging.DEBUG if failure is None else logging.INFO
        _logger.log(level, "%s %s: %s after %.0f ms", self._asked.provider, path, how, seconds * 1000)

    def _spent(self, call: Call, outcome: Answer | Failure, *, again: bool) -> Usage:
        """What one attempt took. A refused one costs nothing, a useless answer as much as a good one."""
        named = outcome if isinstance(outcome, Answer) else Answer(None)
        code = outcome.error.code if isinstance(outcome, Failure) else None
        prompt = named.prompt_tokens
        if prompt is None:
            prompt = call.tokens if code in {None, "provider.bad_response", "embed.invalid", "provider.timeout"} else 0
        return Usage(
            calls=1,
            retries=int(again),
            rate_limited=int(code == "rate.limited"),
            prompt_tokens=prompt,
            completion_tokens=named.completion_tokens or 0,
            estimated=bool(prompt) and named.prompt_tokens is None,
        )

    async def _attempt(
        self, method: str, path: str, content: bytes, read: Callable[[Any], Answer], turn: Turn | None = None
    ) -> Answer | Failure:
        """One request and its answer. Every way in which it can fail is a value."""
        import httpx  # noqa: PLC0415  150 ms, and only for those who use a provider

        try:
            client = await self._client()
            with anyio.fail_after(self._transport.timeout):
                async with client.stream(method, self._url + path, content=content) as response:
                    if turn is not None:
                        for kind, limits in named_limits(response.headers).items():
                            self._pace.named(turn, kind, *limits)
                    return await self._answer(response, read)
        except TimeoutError:
            return self._busy("provider.timeout", f"no complete answer within {self._transport.timeout:g} s")
        except httpx.ConnectTimeout:
            return self._unreachable(f"within {_CONNECT:g} s")
        except httpx.ProxyError as error:
            return self._busy(
                "provider.unreachable", f"the proxy on the way to {self._url} refused: {self._words(error)}"
            )
        except httpx.TransportError as error:
            return self._broken(error)
        except (httpx.InvalidURL, httpx.DecodingError, httpx.StreamError) as error:
            return bad_response(self._asked, f"could not be understood ({self._words(error)})")

    async def _answer(self, response: httpx.Response, read: Callable[[Any], Answer]) -> Answer | Failure:
        try:
            body = self._redacted(await read_body(response.headers, response.aiter_raw()))
        except Unreadable as error:
            if response.is_success:
                return bad_response(self._asked, str(error))
            body = b""
        if not response.is_success:
            headers = {
                name.decode("latin-1").lower(): self._redacted(value).decode("utf-8", "replace")
                for name, value in response.headers.raw
            }
            return judge(self._asked, response.status_code, headers, body)
        return self._read(body, read)

    def _read(self, body: bytes, read: Callable[[Any], Answer]) -> Answer | Failure:
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            kind = "nothing" if not body.strip() else "HTML" if b"<" in body.lstrip()[:1] else "broken JSON"
            return bad_response(self._asked, f"answered with {kind}")
        wrong = judge_error_in_success(self._asked, parsed)
        if wrong is not None:
            return wrong
        try:
            return read(parsed)
        except ProviderError as error:
            return Failure(error)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            return bad_response(
                self._asked, f"answered in another form than expected ({type(error).__name__}: {error})"
            )

    async def _client(self) -> httpx.AsyncClient:
        if self._belongs_elsewhere():
            with anyio.fail_after(self._transport.timeout):
                await check_resolved(self._url, self._asked.provider, with_key=self._with_key)
        if self._belongs_elsewhere():  # others may have come first
            connection = _Connection(self, self._url, self._headers)
            await connection.open()
            self._connection = connection
        assert self._connection is not None
        return self._connection.client

    def _belongs_elsewhere(self) -> bool:
        """Whether there is no connection yet in this event loop."""
        return self._connection is None or self._connection.loop is not asyncio.get_running_loop()

    def _broken(self, error: httpx.TransportError) -> Failure:
        """A connection that failed: a certificate needs a person, everything else may pass."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return Failure(
                    ProviderRefused(
                        f"the certificate of {self._url} was not accepted: {cause.verify_message}",
                        provider=self._asked.provider,
                        hint="a certificate authority of your own is named by SSL_CERT_FILE",
                        code="tls.invalid",
                    )
                )
            cause = cause.__cause__ or cause.__context__
        return self._unreachable(f"({self._words(error)})")

    def _unreachable(self, how: str) -> Failure:
        proxy = proxy_to(self._url)
        way = self._url if proxy is None else f"{self._url} by the proxy {proxy}"
        return self._busy("provider.unreachable", f"no connection to {way} {how}")

    def _busy(self, code: str, message: str) -> Failure:
        return Failure(ProviderBusy(message, provider=self._asked.provider, code=code))

    def _words(self, error: Exception) -> str:
        """Of the HTTP library, which quotes what it could not read."""
        return self._redacted(str(error).encode()).decode("utf-8", "replace") or type(error).__name__


class _Connection:
    """A client and the event loop it belongs to; it ends with close, with its owner or with the loop.

    An event loop that is shut down closes the generators begun in it: one that holds the client therefore ends the
    connections of a program that never calls close. It is kept for that, should its owner be gone before.
    """

    _alive: ClassVar[dict[httpx.AsyncClient, AsyncGenerator[None, None]]] = {}

    def __init__(self, owner: object, url: str, headers: Mapping[str, str]) -> None:
        import httpx  # noqa: PLC0415

        self.loop = asyncio.get_running_loop()
        self.client = httpx.AsyncClient(
            headers=headers,
            verify=_verification(url),
            timeout=httpx.Timeout(None, connect=_CONNECT),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            follow_redirects=False,
        )
        weakref.finalize(owner, self._abandoned, self.loop, self.client).atexit = False

    async def open(self) -> None:
        lifetime = self._until_closed(self.client)
        self._alive[self.client] = lifetime
        await anext(lifetime)

    async def close(self) -> None:
        if self.loop is asyncio.get_running_loop():
            await self._end(self.client)

    @classmethod
    async def _until_closed(cls, client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            cls._alive.pop(client, None)
            await client.aclose()

    @classmethod
    async def _end(cls, client: httpx.AsyncClient) -> None:
        lifetime = cls._alive.get(client)
        if lifetime is not None:
            await lifetime.aclose()

    @classmethod
    def _abandoned(cls, loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
        if loop.is_closed():
            cls._alive.pop(client, None)
        elif client in cls._alive:
            loop.call_soon_threadsafe(lambda: loop.create_task(cls._end(client)))


def load() -> None:
    """Import what the first call would wait for; in any thread."""
    import httpx  # noqa: PLC0415

    httpx.AsyncHTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # it imports the rest when it is made
    importlib.import_module("anyio._backends._asyncio")  # 40 ms of the first time-out


def _verification(url: str) -> ssl.SSLContext:
    """How certificates are checked. To read those of all authorities takes 50 ms, which is left out where nothing is
    encrypted: should something be after all, no certificate is accepted.
    """
    import httpx  # noqa: PLC0415

    encrypted = any(address.startswith("https:") for address in (url.lower(), *getproxies().values()))
    context = httpx.create_ssl_context() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # What Python sets of itself differs between systems.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    return context
