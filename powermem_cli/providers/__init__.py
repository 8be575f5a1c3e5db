"""Who embeds, who answers, who reranks: chosen by name; a module is imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from powermem_cli.errors import ConfigError
from powermem_cli.model import Vector
from powermem_cli.providers.base import LLM, Embedder, Limits, Reranker
from powermem_cli.registry import create

_HERE: Final = "powermem_cli.providers."

EMBEDDERS: Final = {
    "local": _HERE + "local:LocalEmbedder",
    "sentence-transformers": _HERE + "sentence_transformers:SentenceTransformersEmbedder",
    "openai": _HERE + "openai:OpenAIEmbedder",
    "qwen": _HERE + "openai:QwenEmbedder",
    "ollama": _HERE + "ollama:OllamaEmbedder",
    "gemini": _HERE + "gemini:GeminiEmbedder",
    "siliconflow": _HERE + "openai:SiliconFlowEmbedder",
    "vllm": _HERE + "openai:VLLMEmbedder",
    "openrouter": _HERE + "openai:OpenRouterEmbedder",
    "azure": _HERE + "openai:AzureEmbedder",
}
LLMS: Final = {
    "openai": _HERE + "openai:OpenAILLM",
    "qwen": _HERE + "openai:QwenLLM",
    "deepseek": _HERE + "openai:DeepSeekLLM",
    "siliconflow": _HERE + "openai:SiliconFlowLLM",
    "vllm": _HERE + "openai:VLLMLLM",
    "openrouter": _HERE + "openai:OpenRouterLLM",
    "azure": _HERE + "openai:AzureLLM",
    "ollama": _HERE + "ollama:OllamaLLM",
    "anthropic": _HERE + "anthropic:AnthropicLLM",
    "gemini": _HERE + "gemini:GeminiLLM",
}
RERANKERS: Final = {
    "qwen": _HERE + "rerank:QwenReranker",
    "jina": _HERE + "rerank:JinaReranker",
    "cohere": _HERE + "rerank:CohereReranker",
    "siliconflow": _HERE + "rerank:SiliconFlowReranker",
    "vllm": _HERE + "rerank:VLLMReranker",
}
_OTHER_NAMES: Final = {"dims": "embedding_dims", "api_base_url": "base_url"}


def create_embedder(choice_provider: str, options: Mapping[str, Any]) -> Embedder:
    """The embedder of that name, made with *options*; nothing is opened yet. Raises ConfigError."""
    made: Any = create("embedder", EMBEDDERS, choice_provider, _own_names(options))
    if not hasattr(made, "limits"):
        embedder: Embedder = made
        return embedder
    from powermem_cli.providers.grouped import GroupedEmbedder  # noqa: PLC0415  only for what is asked by requests

    return GroupedEmbedder(made)


def built_in_model() -> Callable[[Sequence[str]], list[Vector]]:
    """What the "local" embedder embeds with, for a process that has no event loop."""
    from powermem_cli.providers.local import LocalEmbedder  # noqa: PLC0415  only when it is chosen

    return LocalEmbedder().embed_now


def request_limits(choice_provider: str, options: Mapping[str, Any]) -> Limits | None:
    """How much one embedding request may hold; None for an embedder that makes none. Raises ConfigError."""
    made: Any = create("embedder", EMBEDDERS, choice_provider, _own_names(options))
    limits: Limits | None = getattr(made, "limits", None)
    return limits


def create_llm(choice_provider: str, options: Mapping[str, Any]) -> LLM:
    """The LLM of that name, made with *options*; nothing is opened yet. Raises ConfigError."""
    llm: LLM = create("llm", LLMS, choice_provider, _own_names(options))
    return llm


def create_reranker(choice_provider: str, options: Mapping[str, Any]) -> Reranker:
    """The reranker of that name, made with *options*; nothing is opened yet. Raises ConfigError."""
    reranker: Reranker = create("reranker", RERANKERS, choice_provider, _own_names(options))
    return reranker


def _own_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """*options* without the other spellings, as `openai_base_url`, that configurations of other versions have."""
    named: dict[str, Any] = {}
    for name, value in options.items():
        own = _OTHER_NAMES.get(name, "base_url" if name.endswith("_base_url") else name)
        if own in named:
            raise ConfigError(f"{own} is given twice, the second time as {name!r}", code="config.option")
        named[own] = value
    return named
