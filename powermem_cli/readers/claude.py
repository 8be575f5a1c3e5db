"""Claude's data export: a list of conversations, each with `chat_messages`."""

from __future__ import annotations

from typing import Any

from powermem_cli.errors import InvalidInput


def row(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or "chat_messages" not in value:
        raise InvalidInput("no Claude conversation: chat_messages is not there", code="input.missing")
    conversation = {
        "key": value.get("uuid"),
        "chat_messages": value["chat_messages"],
        "created_at": value.get("created_at"),
    }
    if title := value.get("name"):
        conversation["metadata"] = {"title": title}
    return conversation
