"""Anthropic, by its own API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from powermem_cli.model import Message
from powermem_cli.providers.http import Answer
from powermem_cli.providers.remote import RemoteLLM, Vendor, tokens_named

ANTHROPIC: Final = Vendor(
    name="anthropic",
    base_url="https://api.anthropic.com/v1",
    key_header="x-api-key",
    headers={"anthropic-version": "2023-06-01"},
)
_LONGEST: Final = 8192  # tokens of an answer: this API wants a number
_WHOLE: Final = {"end_turn", "stop_sequence"}


class AnthropicLLM(RemoteLLM):
    """POST /messages. There is no way to ask for JSON but in words."""

    vendor = ANTHROPIC
    default_model = "claude-haiku-4-5"
    optional = ("temperature", "top_p")

    def request(self, messages: Sequence[Message], *, json: bool) -> tuple[str, dict[str, Any]]:  # noqa: ARG002
        return "/messages", {
            "model": self._model,
            "max_tokens": self._max_tokens or _LONGEST,
            "system": "\n\n".join(message.content for message in messages if message.role == "system") or None,
            "messages": [
                {"role": message.role, "content": message.content} for message in messages if message.role != "system"
            ],
            "temperature": self._temperature,
            "top_p": self._top_p,
        }

    def completion(self, answer: Any) -> Answer:
        reason = answer.get("stop_reason")
        if reason == "refusal":
            raise self.withheld(reason)
        if reason not in _WHOLE:
            raise self.cut(reason)
        text = "".join(part["text"] for part in answer["content"] if part["type"] == "text")
        usage = answer.get("usage")
        return Answer(text, tokens_named(usage, "input_tokens"), tokens_named(usage, "output_tokens"))
