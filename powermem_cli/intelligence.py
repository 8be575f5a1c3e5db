"""Which facts a conversation holds, and what to do about those that are like something known: both asked of an LLM.

What a conversation says is data for the LLM, and what the LLM says is data for us: it names no scope, and no memory
but by the number under which it was shown.
"""

from __future__ import annotations

import secrets
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta, tzinfo
from typing import Any, Final, NamedTuple, TypeVar

from powermem_cli import prompts, times
from powermem_cli.answers import Found, Verdict, read_facts, read_verdicts
from powermem_cli.config import Config
from powermem_cli.errors import ConfigError, ProviderError, ProviderRejected
from powermem_cli.loose_json import Unusable
from powermem_cli.model import Message
from powermem_cli.providers import create_llm
from powermem_cli.providers.base import LLM, Meter, Usage
from powermem_cli.rules import canonical_json

ASKED_AGAIN: Final = 2  # times, after an answer of no use
EARLIER: Final = 4  # turns that are shown again when a conversation has grown
_SHOWN: Final = 2000  # characters of a useless answer that its writer gets to see again

T = TypeVar("T")


class Statement(NamedTuple):
    """Something a user said: a fact, or a wish to *forget* one."""

    text: str
    forget: bool = False


class Intelligence:
    """Judgement by an LLM. *extract* and *decide* stand in place of the built-in instructions; *zone* is the user's.

    Every method raises ProviderError: of a bad answer too, once it was asked for again.
    """

    def __init__(
        self, llm: LLM, extract: str | None = None, decide: str | None = None, zone: tzinfo | None = None
    ) -> None:
        self._llm = llm
        self._extract = f"{extract or prompts.EXTRACT}\n\n{prompts.EXTRACT_FORM}"
        self._decide = f"{decide or prompts.DECIDE}\n\n{prompts.DECIDE_FORM}"
        self._zone = zone
        self._deciding = Usage()

    @property
    def usage(self) -> dict[str, Usage]:
        """What was asked, by stage."""
        return {"extract": self._llm.usage - self._deciding, "decide": self._deciding}

    async def close(self) -> None:
        await self._llm.close()

    async def facts_in(self, turns: Sequence[Message], heard: int, at: int) -> Found:
        """What the turns from the one numbered *heard* on say of the user; *at*, in microseconds, was "today"."""
        new = turns[heard:]
        if not any(turn.role == "user" for turn in new):
            return Found(())
        data = {
            "time": self._in_words(at),
            "earlier": _as_data(turns[:heard][-EARLIER:]),
            "conversation": _as_data(new),
        }
        try:
            return await self._asked(self._extract, data, read_facts)
        except ProviderRejected as error:
            if error.code != "input.too_long" or len(new) < 2:
                raise
            return await self._in_halves(turns, heard, at)

    async def verdicts(self, statements: Sequence[Statement], memories: Sequence[str]) -> list[Verdict]:
        """What each of *statements* means for *memories*, both numbered from 1 on."""
        data = {
            "memories": [{"number": number, "text": text} for number, text in enumerate(memories, 1)],
            "statements": [
                {"number": number, "text": statement.text, **({"forget": True} if statement.forget else {})}
                for number, statement in enumerate(statements, 1)
            ],
        }
        meter = Meter()
        try:
            with meter:
                return await self._asked(
                    self._decide, data, lambda text: read_verdicts(text, len(statements), len(memories))
                )
        finally:
            self._deciding += meter.usage

    async def _in_halves(self, turns: Sequence[Message], heard: int, at: int) -> Found:
        middle = heard + (len(turns) - heard) // 2
        first = await self.facts_in(turns[:middle], heard, at)
        second = await self.facts_in(turns, middle, at)
        facts = dict.fromkeys(first.facts + second.facts)
        return Found(tuple(facts), tuple(dict.fromkeys(first.forget + second.forget)))

    async def _asked(self, task: str, data: Mapping[str, Any], read: Callable[[str], T]) -> T:
        nonce = secrets.token_hex(8)
        fence = prompts.FENCE.format(nonce=nonce)
        asking = [
            Message("system", f"{task}\n\n{fence}"),
            Message("user", f"{nonce}\n{canonical_json(data)}\n{nonce}"),
        ]
        told, why = list[Message](), ""
        for _ in range(1 + ASKED_AGAIN):
            answer = await self._llm.complete([*asking, *told], json=True)
            try:
                return read(answer.text)
            except Unusable as error:
                why = str(error)
            told = [Message("assistant", answer.text[:_SHOWN]), Message("user", prompts.AGAIN.format(why=why))]
        provider = self._llm.model.partition("/")[0]
        raise ProviderError(f"its answer can't be used: {why} (asked {1 + ASKED_AGAIN} times)", provider=provider)

    def _in_words(self, at: int) -> str:
        """With the day of the week, which "next Friday" is counted from."""
        moment = times.EPOCH + timedelta(microseconds=at)
        if self._zone is not None:
            moment = moment.astimezone(self._zone)
        return f"{_DAYS[moment.weekday()]}, {moment.isoformat(timespec='seconds')}"


_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _as_data(turns: Sequence[Message]) -> list[dict[str, str]]:
    """What was said, without what a program told its assistant beforehand."""
    return [{"role": turn.role, "content": turn.content} for turn in turns if turn.role != "system"]


def create_intelligence(config: Config) -> Intelligence | None:
    """As configured; None without an LLM. Raises ConfigError."""
    if config.llm is None:
        return None
    return Intelligence(
        create_llm(config.llm.provider, config.llm.options),
        config.fact_extraction_prompt,
        config.update_memory_prompt,
        _zone(config.timezone),
    )


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ConfigError(
            f"timezone {name!r} is not known here", hint="a name as Europe/Rome or Asia/Shanghai, or UTC"
        ) from error
