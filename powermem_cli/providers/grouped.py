"""An embedder around another: many callers, few requests; a text asked for by several is sent once."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Sequence
from typing import Final

from powermem_cli.errors import ProviderBusy, ProviderError, ProviderRefused, ProviderRejected
from powermem_cli.model import Vector
from powermem_cli.providers.base import BatchEmbedder, Usage, estimated_tokens

_WITHOUT_A_FULL_GROUP: Final = 2  # requests under way while fewer texts wait than one request could take
_LONGEST_HOLD: Final = 0.5  # seconds that texts wait for company: those before them may be trying again and again


class GroupedEmbedder:
    """What arrives while requests are under way goes together into the next; an idle embedder sends at once.

    A request that is refused because of its content is halved until the text is found that is to blame: that one
    fails alone. There is a task only while somebody waits, so there is nothing that has to be closed.
    """

    def __init__(self, inner: BatchEmbedder) -> None:
        self._inner = inner
        self._most = inner.limits.texts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Wanted] = deque()
        self._wanted: dict[str, _Wanted] = {}
        self._requests: dict[asyncio.Task[None], list[_Wanted]] = {}
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def usage(self) -> Usage:
        return self._inner.usage

    async def prepare(self) -> None:
        await self._inner.prepare()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order. Raises ProviderError if one of them got none."""
        answers = await self._answers(texts, all_or_none=True)
        return [answer for answer in answers if isinstance(answer, bytes)]

    async def embed_each(self, texts: Sequence[str]) -> list[Vector | ProviderError]:
        """In the place of each text its vector, or the error why it got none."""
        answers = await self._answers(texts, all_or_none=False)
        return [answer for answer in answers if isinstance(answer, (bytes, ProviderError))]

    async def close(self) -> None:
        await self._inner.close()

    async def _answers(self, texts: Sequence[str], *, all_or_none: bool) -> list[Vector | Exception | None]:
        if not texts:
            return []
        loop = asyncio.get_running_loop()
        self._belong_to(loop)
        caller = _Caller(loop, len(texts), all_or_none=all_or_none)
        for place, text in enumerate(texts):
            self._want(text).takers.append((caller, place))
        self._schedule()
        try:
            await caller.finished
        finally:
            if caller.finished.done() and not caller.finished.cancelled():
                caller.finished.exception()  # so that it counts as seen, also if the caller was cancelled just now
            if caller.missing:
                self._forget(caller, texts)
        return caller.answers

    def _belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """What a loop that is gone has left behind will never be done."""
        if self._loop is not loop:
            self._loop = loop
            self._waiting.clear()
            self._wanted.clear()
            self._requests.clear()
            self._scheduled = False
            self._timer = None

    def _want(self, text: str) -> _Wanted:
        wanted = self._wanted.get(text)
        if wanted is None:
            wanted = self._wanted[text] = _Wanted(text)
            self._waiting.append(wanted)
        return wanted

    def _forget(self, caller: _Caller, texts: Sequence[str]) -> None:
        """The caller is gone: what nobody else waits for is not sent, or its request is ended."""
        tasks = set()
        for text in dict.fromkeys(texts):
            wanted = self._wanted.get(text)
            if wanted is None:
                continue
            wanted.takers = [taker for taker in wanted.takers if taker[0] is not caller]
            if wanted.task is not None:
                tasks.add(wanted.task)
            elif not wanted.takers:
                del self._wanted[text]  # _next_group passes over it
        for task in tasks:
            group = self._requests.get(task, [])
            if not any(wanted.takers for wanted in group):
                self._no_longer_wanted(group)
                task.cancel()

    def _no_longer_wanted(self, group: Sequence[_Wanted]) -> None:
        for wanted in group:
            if self._wanted.get(wanted.text) is wanted:
                del self._wanted[wanted.text]

    def _schedule(self) -> None:
        """Send soon: first all may ask who are about to in this turn of the event loop."""
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._send, context=contextvars.Context())  # on nobody's account

    def _send(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._requests) < self._inner.limits.requests:
            if len(self._requests) >= _WITHOUT_A_FULL_GROUP and len(self._waiting) < self._most:
                self._send_after_all()
                return
            self._send_one()

    def _send_after_all(self) -> None:
        """Later, even if no more texts have come to make the group full."""

        def send() -> None:
            self._timer = None
            if len(self._requests) < self._inner.limits.requests:
                self._send_one()

        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(_LONGEST_HOLD, send)

    def _send_one(self) -> None:
        if self._timer is not None:  # what is left has not waited as long
            self._timer.cancel()
            self._timer = None
        group = self._next_group()
        if group and self._loop is not None:
            task = self._loop.create_task(self._request(group))
            self._requests[task] = group
            task.add_done_callback(self._ended)
            for wanted in group:
                wanted.task = task

    def _next_group(self) -> list[_Wanted]:
        """As many texts as one request may hold."""
        group: list[_Wanted] = []
        tokens = 0
        while self._waiting and len(group) < self._most:
            wanted = self._waiting[0]
            tokens += estimated_tokens(wanted.text)
            if group and tokens > self._inner.limits.tokens:
                break
            self._waiting.popleft()
            if wanted.takers:
                group.append(wanted)
        return group

    def _ended(self, task: asyncio.Task[None]) -> None:
        group = self._requests.pop(task, [])
        self._no_longer_wanted(group)
        for wanted in group:
            for caller, _ in wanted.takers:
                caller.finished.cancel()  # only where nothing was answered: the loop is being shut down
        self._schedule()

    async def _request(self, group: list[_Wanted]) -> None:
        try:
            await self._ask(group)
        except Exception as error:  # noqa: BLE001  each of them is somebody's; raised where it is awaited
            self._answer(group, [error] * len(group))

    async def _ask(self, group: list[_Wanted]) -> int | None:
        """How many texts the largest request held that was taken; None if a text failed."""
        try:
            vectors = await self._inner.embed([wanted.text for wanted in group])
        except ProviderError as error:
            if isinstance(error, ProviderRefused) or (isinstance(error, ProviderBusy) and error.outage):
                # What waits would only hear the same.
                group = [*group, *self._waiting]
                self._waiting.clear()
            if len(group) == 1 or not _may_be_one_text(error):
                self._answer(group, [error] * len(group))
                return None
        else:
            self._answer(group, vectors)
            return len(group)
        half = len(group) // 2
        taken = [await self._ask(part) for part in (group[:half], group[half:])]
        sizes = [size for size in taken if size is not None]
        if len(sizes) < len(taken):
            return None
        self._most = min(self._most, max(sizes))  # no text was to blame: there were too many
        return max(sizes)

    def _answer(self, group: Sequence[_Wanted], answers: Sequence[Vector | Exception]) -> None:
        self._no_longer_wanted(group)
        for wanted, answer in zip(group, answers, strict=True):
            for caller, place in wanted.takers:
                caller.take(place, answer)
            wanted.takers = []


class _Wanted:
    """A text, who waits for its vector and in which place, and the request that carries it."""

    __slots__ = ("takers", "task", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.takers: list[tuple[_Caller, int]] = []
        self.task: asyncio.Task[None] | None = None


class _Caller:
    """One call of embed: done with the last answer, or with the first error if it wants all or none."""

    __slots__ = ("_all_or_none", "answers", "finished", "missing")

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int, *, all_or_none: bool) -> None:
        self.finished: asyncio.Future[None] = loop.create_future()
        self.answers: list[Vector | Exception | None] = [None] * count
        self.missing = count
        self._all_or_none = all_or_none

    def take(self, place: int, answer: Vector | Exception) -> None:
        if self.finished.done():
            return
        self.answers[place] = answer
        self.missing -= 1
        if isinstance(answer, Exception) and (self._all_or_none or not isinstance(answer, ProviderError)):
            self.finished.set_exception(answer)
        elif not self.missing:
            self.finished.set_result(None)


def _may_be_one_text(error: ProviderError) -> bool:
    """Whether a smaller request could be answered."""
    return not isinstance(error, ProviderRefused) and (
        isinstance(error, ProviderRejected) or error.code == "embed.invalid"
    )
