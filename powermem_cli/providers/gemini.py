"""Gemini, by its own API. The key travels in a header, never in the address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from powermem_cli.model import Message
from powermem_cli.providers.http import Answer
from powermem_cli.providers.remote import RemoteEmbedder, RemoteLLM, Vendor, tokens_named

_WHOLE: Final = {"STOP", None}


GEMINI: Final = Vendor(
    name="gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta",
    key_header="x-goog-api-key",
    models_at=("models", "name"),
)


class GeminiEmbedder(RemoteEmbedder):
    """POST /models/MODEL:batchEmbedContents. It does not say how many tokens it took."""

    vendor = GEMINI
    default_model = "gemini-embedding-001"
    texts_per_request = 100
    tokens_per_request = 200_000

    def request(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        one: dict[str, Any] = {"model": _named(self._model)}
        if self._dims is not None:
            one["outputDimensionality"] = self._dims
        return f"/{_named(self._model)}:batchEmbedContents", {
            "requests": [{**one, "content": {"parts": [{"text": text}]}} for text in texts]
        }

    def embeddings(self, answer: Any) -> list[Any]:
        return [item["values"] for item in answer["embeddings"]]


class GeminiLLM(RemoteLLM):
    """POST /models/MODEL:generateContent."""

    vendor = GEMINI
    default_model = "gemini-2.5-flash"

    def request(self, messages: Sequence[Message], *, json: bool) -> tuple[str, dict[str, Any]]:
        system = [{"text": message.content} for message in messages if message.role == "system"]
        settings = {
            "temperature": self._temperature,
            "topP": self._top_p,
            "maxOutputTokens": self._max_tokens,
            "responseMimeType": "application/json" if json else None,
        }
        return f"/{_named(self._model)}:generateContent", {
            "systemInstruction": {"parts": system} if system else None,
            "contents": [
                {
                    "role": "model" if message.role == "assistant" else "user",
                    "parts": [{"text": message.content}],
                }
                for message in messages
                if message.role != "system"
            ],
            "generationConfig": {name: value for name, value in settings.items() if value is not None},
        }

    def completion(self, answer: Any) -> Answer:
        blocked = (answer.get("promptFeedback") or {}).get("blockReason")
        if blocked:
            raise self.withheld(blocked)
        candidate = answer["candidates"][0]
        reason = candidate.get("finishReason")
        if reason == "MAX_TOKENS":
            raise self.cut(reason)
        if reason not in _WHOLE:
            raise self.withheld(reason)
        parts = candidate["content"]["parts"]
        text = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
        usage = answer.get("usageMetadata")
        written = [tokens_named(usage, name) for name in ("candidatesTokenCount", "thoughtsTokenCount")]
        total = None if written[0] is None else sum(filter(None, written))
        return Answer(text, tokens_named(usage, "promptTokenCount"), total)


def _named(model: str) -> str:
    return model if model.startswith("models/") else f"models/{model}"
