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


class Estimate:
    """Counts records. Deciding between a new fact and what is known takes calls too, but only the store knows which."""

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
            "embed": Usage(self._embedding_calls(), 0, 0, self._text_tokens, estimated=True),
        }
        return {stage: usage for stage, usage in stages.items() if usage.calls}

    @property
    def seconds(self) -> float | None:
        """How long the calls take at the configured calls and tokens a minute; None where none are."""
        named = [(self.spent.get("extract"), self._config.llm), (self.spent.get("embed"), self._config.embedder)]
        waits = [wait for usage, choice in named if usage and choice for wait in _minutes(usage, choice)]
        return 60 * max(waits) if waits else None

    def _embedding_calls(self) -> int:
        if self._limits is None:
            return 0
        by_tokens = -(-self._text_tokens // self._limits.tokens)
        return max(-(-self._texts // self._limits.texts), by_tokens)


def _minutes(usage: Usage, choice: Choice) -> list[float]:
    limits: Any = choice.options
    amounts = {"rpm": usage.calls - 1, "tpm": usage.prompt_tokens + usage.completion_tokens}
    return [amount / limits[name] for name, amount in amounts.items() if limits.get(name)]
