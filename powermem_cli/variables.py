"""Every name that is read from the environment or a .env file, and where its value goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["text", "secret", "address", "integer", "number", "switch"]
"""A "secret" is never shown; an "address" is where secrets of the same section are sent."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One name. *path* leads to its value in the dict form of the configuration."""

    name: str
    path: tuple[str, ...]
    kind: Kind = "text"
    provider: str | None = None
    """Read only when the section's provider is this one; None: with every one."""


def _at(section: str, option: str) -> tuple[str, ...]:
    return (section, "config", *option.split("."))


_KEYS: Final = {
    "openai": ("OPENAI_API_KEY",),
    "qwen": ("DASHSCOPE_API_KEY", "QWEN_API_KEY"),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "gemini": ("GEMINI_API_KEY",),
    "siliconflow": ("SILICONFLOW_API_KEY",),
}
_LLM_URLS: Final = ("openai", "qwen", "anthropic", "deepseek", "gemini", "siliconflow", "ollama", "vllm")
_EMBEDDING_URLS: Final = ("openai", "qwen", "gemini", "siliconflow", "ollama")

VARIABLES: Final = (
    Variable("POWERMEM_USER", ("user_id",)),
    Variable("TIMEZONE", ("timezone",)),
    Variable("POWERMEM_RPM", ("calls", "rpm"), "number"),
    Variable("POWERMEM_TPM", ("calls", "tpm"), "number"),
    Variable("POWERMEM_RETRIES", ("calls", "retries"), "integer"),
    Variable("POWERMEM_TIMEOUT", ("calls", "timeout"), "number"),
    Variable("POWERMEM_CUSTOM_FACT_EXTRACTION_PROMPT", ("custom_fact_extraction_prompt",)),
    Variable("POWERMEM_CUSTOM_UPDATE_MEMORY_PROMPT", ("custom_update_memory_prompt",)),
    Variable("DATABASE_PROVIDER", ("vector_store", "provider")),
    Variable("SQLITE_PATH", _at("vector_store", "path"), provider="sqlite"),
    Variable("SQLITE_COLLECTION", _at("vector_store", "collection_name"), provider="sqlite"),
    Variable("OCEANBASE_HOST", _at("vector_store", "connection_args.host"), "address", provider="oceanbase"),
    Variable("OCEANBASE_PORT", _at("vector_store", "connection_args.port"), "integer", provider="oceanbase"),
    Variable("OCEANBASE_USER", _at("vector_store", "connection_args.user"), provider="oceanbase"),
    Variable("OCEANBASE_PASSWORD", _at("vector_store", "connection_args.password"), "secret", provider="oceanbase"),
    Variable("OCEANBASE_DATABASE", _at("vector_store", "connection_args.db_name"), provider="oceanbase"),
    Variable("OCEANBASE_COLLECTION", _at("vector_store", "collection_name"), provider="oceanbase"),
    Variable("OCEANBASE_INDEX_TYPE", _at("vector_store", "index_type"), provider="oceanbase"),
    Variable("OCEANBASE_VECTOR_METRIC_TYPE", _at("vector_store", "vidx_metric_type"), provider="oceanbase"),
    Variable(
        "OCEANBASE_EMBEDDING_MODEL_DIMS", _at("vector_store", "embedding_model_dims"), "integer", provider="oceanbase"
    ),
    Variable("POSTGRES_HOST", _at("vector_store", "host"), "address", provider="postgres"),
    Variable("POSTGRES_PORT", _at("vector_store", "port"), "integer", provider="postgres"),
    Variable("POSTGRES_USER", _at("vector_store", "user"), provider="postgres"),
    Variable("POSTGRES_PASSWORD", _at("vector_store", "password"), "secret", provider="postgres"),
    Variable("POSTGRES_DATABASE", _at("vector_store", "dbname"), provider="postgres"),
    Variable("POSTGRES_COLLECTION", _at("vector_store", "collection_name"), provider="postgres"),
    Variable("EMBEDDING_PROVIDER", ("embedder", "provider")),
    Variable("EMBEDDING_API_KEY", _at("embedder", "api_key"), "secret"),
    Variable("EMBEDDING_MODEL", _at("embedder", "model")),
    Variable("EMBEDDING_DIMS", _at("embedder", "embedding_dims"), "integer"),
    *(
        Variable(provider.upper() + "_EMBEDDING_BASE_URL", _at("embedder", "base_url"), "address", provider)
        for provider in _EMBEDDING_URLS
    ),
    Variable("LLM_PROVIDER", ("llm", "provider")),
    Variable("LLM_API_KEY", _at("llm", "api_key"), "secret"),
    Variable("LLM_MODEL", _at("llm", "model")),
    Variable("LLM_TEMPERATURE", _at("llm", "temperature"), "number"),
    Variable("LLM_MAX_TOKENS", _at("llm", "max_tokens"), "integer"),
    Variable("LLM_TOP_P", _at("llm", "top_p"), "number"),
    *(
        Variable(provider.upper() + "_LLM_BASE_URL", _at("llm", "base_url"), "address", provider)
        for provider in _LLM_URLS
    ),
    Variable("RERANKER_ENABLED", ("reranker", "enabled"), "switch"),
    Variable("RERANKER_PROVIDER", ("reranker", "provider")),
    Variable("RERANKER_API_KEY", _at("reranker", "api_key"), "secret"),
    Variable("RERANKER_MODEL", _at("reranker", "model")),
    Variable("RERANKER_API_BASE_URL", _at("reranker", "base_url"), "address"),
    # Behind the names above: a provider's own key serves only where no key of the section is given.
    *(
        Variable(name, _at(section, "api_key"), "secret", provider)
        for provider, names in _KEYS.items()
        for name in names
        for section in ("embedder", "llm", "reranker")
    ),
)
"""Where two names lead to the same place, the first that is set is taken."""

NAMES: Final = tuple(dict.fromkeys(variable.name for variable in VARIABLES))
