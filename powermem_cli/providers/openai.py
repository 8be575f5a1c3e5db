"""OpenAI, and everything that speaks like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from powermem_cli.errors import ProviderError
from powermem_cli.model import Message
from powermem_cli.providers.http import Answer
from powermem_cli.providers.remote import RemoteEmbedder, RemoteLLM, Vendor, in_order, tokens_named

OPENAI: Final = Vendor(name="openai", base_url="https://api.openai.com/v1")
QWEN: Final = Vendor(
    name="qwen",
    base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
    rate_limits=frozenset({"insufficientquota"}),  # there it is the name of a minute's limit
)
SILICONFLOW: Final = Vendor(name="siliconflow", base_url="https://api.siliconflow.cn/v1")
DEEPSEEK: Final = Vendor(name="deepseek", base_url="https://api.deepseek.com")
OPENROUTER: Final = Vendor(name="openrouter", base_url="https://openrouter.ai/api/v1")
VLLM: Final = Vendor(name="vllm", base_url="http://localhost:8000/v1", needs_key=False)
AZURE: Final = Vendor(name="azure", base_url=None, key_header="api-key")
"""*base_url* is `https://NAME.openai.azure.com/openai/v1`, *model* the name of a deployment."""
_BROKEN_OFF: Final = {"error", "abort", "insufficient_system_resource"}  # of OpenRouter, vLLM and DeepSeek


class CompatibleEmbedder(RemoteEmbedder):
    """POST /embeddings of a server of which no more is known."""

    encoding: ClassVar[str | None] = None

    def request(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        return "/embeddings", {
            "model": self._model,
            "input": list(texts),
            "encoding_format": self.encoding if self._usual else None,
            "dimensions": self._dims,
        }

    def embeddings(self, answer: Any) -> list[Any]:
        return [item["embedding"] for item in in_order(self.vendor.name, answer["data"], "embed.invalid")]


class OpenAIEmbedder(CompatibleEmbedder):
    """At an address of one's own it is only what speaks like OpenAI, with limits of its own."""

    vendor = OPENAI
    default_model = "text-embedding-3-small"
    texts_per_request = 256
    tokens_per_request = 250_000
    encoding = "base64"

    def most_texts(self) -> int:
        return self.texts_per_request if self._usual else CompatibleEmbedder.texts_per_request


class QwenEmbedder(CompatibleEmbedder):
    vendor = QWEN
    default_model = "text-embedding-v4"
    tokens_per_request = 80_000

    def most_texts(self) -> int:
        return 25 if self._model.endswith(("-v1", "-v2")) else 10


class SiliconFlowEmbedder(CompatibleEmbedder):
    vendor = SILICONFLOW
    default_model = "BAAI/bge-m3"
    texts_per_request = 32


class OpenRouterEmbedder(CompatibleEmbedder):
    vendor = OPENROUTER


class VLLMEmbedder(CompatibleEmbedder):
    vendor = VLLM


class AzureEmbedder(CompatibleEmbedder):
    vendor = AZURE
    texts_per_request = 256
    tokens_per_request = 250_000


class CompatibleLLM(RemoteLLM):
    """POST /chat/completions."""

    optional = (*RemoteLLM.optional, "max_completion_tokens", "enable_thinking")
    extra: ClassVar[dict[str, Any]] = {}

    def request(self, messages: Sequence[Message], *, json: bool) -> tuple[str, dict[str, Any]]:
        longest = "max_completion_tokens" if self._usual and self.vendor is OPENAI else "max_tokens"  # the newer name
        return "/chat/completions", {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "temperature": self._temperature,
            "top_p": self._top_p,
            longest: self._max_tokens,
            "response_format": {"type": "json_object"} if json else None,
            **self.extra,
        }

    def completion(self, answer: Any) -> Answer:
        choice = answer["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        if reason == "length":
            raise self.cut(reason)
        if reason in _BROKEN_OFF:
            raise ProviderError(f"the answer broke off ({reason})", provider=self.vendor.name)
        if reason == "content_filter" or message.get("refusal"):
            raise self.withheld(message.get("refusal") or reason)
        usage = answer.get("usage")
        return Answer(
            message["content"], tokens_named(usage, "prompt_tokens"), tokens_named(usage, "completion_tokens")
        )


class OpenAILLM(CompatibleLLM):
    vendor = OPENAI
    default_model = "gpt-4o-mini"


class QwenLLM(CompatibleLLM):
    vendor = QWEN
    default_model = "qwen-plus"
    extra: ClassVar[dict[str, Any]] = {"enable_thinking": False}  # the open models refuse a call that does not say so


class DeepSeekLLM(CompatibleLLM):
    vendor = DEEPSEEK
    default_model = "deepseek-chat"


class SiliconFlowLLM(CompatibleLLM):
    vendor = SILICONFLOW


class OpenRouterLLM(CompatibleLLM):
    vendor = OPENROUTER


class VLLMLLM(CompatibleLLM):
    vendor = VLLM


class AzureLLM(CompatibleLLM):
    vendor = AZURE
