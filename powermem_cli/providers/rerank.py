"""Rerankers: Cohere, what speaks like it (Jina, SiliconFlow, vLLM), and Qwen's own form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from powermem_cli.providers.remote import RemoteReranker, Vendor


class CohereReranker(RemoteReranker):
    """POST /rerank, the form that most rerank servers share."""

    vendor = Vendor(name="cohere", base_url="https://api.cohere.com/v2")
    default_model: ClassVar[str | None] = "rerank-v3.5"

    def request(self, query: str, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        return "/rerank", {"model": self._model, "query": query, "documents": list(texts), "top_n": len(texts)}

    def results(self, answer: Any) -> list[Any]:
        return list(answer["results"])


class JinaReranker(CohereReranker):
    vendor = Vendor(name="jina", base_url="https://api.jina.ai/v1")
    default_model = "jina-reranker-v2-base-multilingual"


class SiliconFlowReranker(CohereReranker):
    vendor = Vendor(name="siliconflow", base_url="https://api.siliconflow.cn/v1")
    default_model = "BAAI/bge-reranker-v2-m3"


class VLLMReranker(CohereReranker):
    vendor = Vendor(name="vllm", base_url="http://localhost:8000/v1", needs_key=False)
    default_model = None


class QwenReranker(RemoteReranker):
    """POST /services/rerank/text-rerank/text-rerank."""

    vendor = Vendor(name="qwen", base_url="https://dashscope.aliyuncs.com/api/v1")
    default_model = "gte-rerank-v2"

    def request(self, query: str, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        return "/services/rerank/text-rerank/text-rerank", {
            "model": self._model,
            "input": {"query": query, "documents": list(texts)},
            "parameters": {"return_documents": False, "top_n": len(texts)},
        }

    def results(self, answer: Any) -> list[Any]:
        return list(answer["output"]["results"])
