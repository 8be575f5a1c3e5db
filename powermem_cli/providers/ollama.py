"""Ollama, by its own API: it says how many tokens it took, and refuses a text that is too long instead of cutting it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from powermem_cli.model import Message
from powermem_cli.providers.http import Answer
from powermem_cli.providers.remote import RemoteEmbedder, RemoteLLM, Vendor, tokens_named

OLLAMA: Final = Vendor(
    name="ollama",
    base_url="http://localhost:11434",
    needs_key=False,
    models_path="/api/tags",
    models_at=("models", "name"),
)


class OllamaEmbedder(RemoteEmbedder):
    """POST /api/embed."""

    vendor = OLLAMA
    default_model = "nomic-embed-text"
    texts_per_request = 32

    def request(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        return "/api/embed", {
            "model": self._model,
            "input": list(texts),
            "truncate": False,
            "dimensions": self._dims,
        }

    def embeddings(self, answer: Any) -> list[Any]:
        return list(answer["embeddings"])

    def prompt_tokens(self, answer: Any) -> int | None:
        return tokens_named(answer, "prompt_eval_count")


class OllamaLLM(RemoteLLM):
    """POST /api/chat."""

    vendor = OLLAMA
    default_model = "llama3.1"

    def request(self, messages: Sequence[Message], *, json: bool) -> tuple[str, dict[str, Any]]:
        settings = {"temperature": self._temperature, "top_p": self._top_p, "num_predict": self._max_tokens}
        return "/api/chat", {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "stream": False,
            # What does not fit is refused, and then read in parts; else the beginning would be dropped without a word.
            "truncate": False,
            "shift": False,
            "format": "json" if json else None,
            "options": {name: value for name, value in settings.items() if value is not None},
        }

    def completion(self, answer: Any) -> Answer:
        if answer.get("done_reason") == "length" or answer.get("done") is False:
            raise self.cut(answer.get("done_reason"))
        return Answer(
            answer["message"]["content"], tokens_named(answer, "prompt_eval_count"), tokens_named(answer, "eval_count")
        )
