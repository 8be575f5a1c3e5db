"""ChatGPT's data export: conversations as trees, of which the branch that ends at `current_node` was seen last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from powermem_cli.errors import InvalidInput

_SPOKEN = {"text", "multimodal_text"}  # not code, its output, or what the model thought


def row(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("mapping"), dict):
        raise InvalidInput("no ChatGPT conversation: mapping is not there", code="input.missing")
    conversation = {
        "key": value.get("conversation_id") or value.get("id"),
        "messages": list(_turns(value["mapping"], value.get("current_node")))[::-1],
        "created_at": value.get("create_time"),
    }
    if title := value.get("title"):
        conversation["metadata"] = {"title": title}
    return conversation


def _turns(nodes: dict[str, Any], last: Any) -> Iterator[dict[str, Any]]:
    """What the two said to each other, the newest first."""
    if not isinstance(last, str) or last not in nodes:
        raise InvalidInput("current_node is not in the mapping", field="current_node", code="input.missing")
    unseen = dict(nodes)  # a circle must end
    while isinstance(last, str) and isinstance(node := unseen.pop(last, None), dict):
        if (turn := _turn(node.get("message"))) is not None:
            yield turn
        last = node.get("parent")


def _turn(message: Any) -> dict[str, Any] | None:
    """None for what the user never saw as a turn: system texts, calls of tools, hidden context."""
    if not isinstance(message, dict):
        return None
    author, content, about = (_object(message.get(name)) for name in ("author", "content", "metadata"))
    if author.get("role") not in {"user", "assistant"} or content.get("content_type") not in _SPOKEN:
        return None
    if about.get("is_visually_hidden_from_conversation") or message.get("recipient") not in {None, "all"}:
        return None
    parts = content.get("parts")
    texts = [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
    return {"role": author["role"], "content": texts}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
