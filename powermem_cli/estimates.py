"""What a job would ask of providers, guessed from its records: for a dry run, which asks nobody."""

from __future__ import annotations

from typing import Any, Final

from powermem_cli.accounts import Stage
from powermem_cli.config import Choice, Config
from powermem_cli.model import Record
from powermem_cli.providers import request_limits
from powermem_cli.providers.base import Usage, estimated_tokens

_INSTRUCTIONS: Final = 1_000  # tokens of a prompt besides the conversation
_FACT: Final = 25  # tokens that are written for what one user message says
_DECIDED: Final = 0.3  # of the conversations: as many take a second call in the sample chats
_SHOWN: Final = 5  # memories for each fact, while it is decided what becomes of them


class Estimate:
    """Counts records. Which new facts are like something known only the store could tell: of those a share is taken."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError for providers that could not be called."""
        self._config = config
        self._limits = request_limits(config.embedder.provider, config.embedder.options)
        self._texts = self._text_tokens = 0
        self._talks = self._talk_tokens = self._written = 0

    def add(self, record: Record) -> None:
        said = [message.content for message in record.messages if message.role == "user"]
        if record.memory is not None:
            texts = [record.memory]
        elif record.infer is False:
            texts = ["\n".join(message.content for message in record.messages if message.role != "system")]
        else:
            texts = said
            if self._config.llm is not None:
                self._talks += 1
                self._talk_tokens += _INSTRUCTIONS + sum(estimated_tokens(turn.content) for turn in record.messages)
                self._written += _FACT * len(said)
        self._texts += len(texts)
        self._text_tokens += sum(map(estimated_tokens, texts))

    @property
    def spent(self) -> dict[str, Usage]:
        stages: dict[Stage, Usage] = {
            "extract": Usage(self._talks, 0, 0, self._talk_tokens, self._written, estimated=True),
            "decide": self._deciding(),
            "embed": Usage(self._embedding_calls(), 0, 0, self._text_tokens, estimated=True),
        }
        return {stage: usage for stage, usage in stages.items() if usage.calls}

    @property
    def seconds(self) -> float | None:
        """How long the calls take at the configured calls and tokens a minute; None where none are."""
        spent = self.spent
        judged = spent.get("extract", Usage()) + spent.get("decide", Usage())
        named = [(judged, self._config.llm), (spent.get("embed", Usage()), self._config.embedder)]
        waits = [wait for usage, choice in named if usage.calls and choice for wait in _minutes(usage, choice)]
        return 60 * max(waits) if waits else None

    def _deciding(self) -> Usage:
        calls = round(_DECIDED * self._talks)
        written = round(_DECIDED * self._written)
        return Usage(calls, 0, 0, calls * _INSTRUCTIONS + written * (1 + _SHOWN), written, estimated=True)

    def _embedding_calls(self) -> int:
        if self._limits is None:
            return 0
        by_tokens = -(-self._text_tokens // self._limits.tokens)
        return max(-(-self._texts // self._limits.texts), by_tokens)


def _minutes(usage: Usage, choice: Choice) -> list[float]:
    limits: Any = choice.options
    amounts = {"rpm": usage.calls - 1, "tpm": usage.prompt_tokens + usage.completion_tokens}
    return [amount / limits[name] for name, amount in amounts.items() if limits.get(name)]
