"""What a text, a message, a scope id and a metadata object must be to be kept: checked at every door, once.

Each function takes what a caller wrote and returns it in the one form used inside, or raises InvalidInput.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from powermem_cli.errors import InvalidInput
from powermem_cli.model import Message, Scope

LONGEST_TEXT: Final = 8 * 1024 * 1024  # bytes of UTF-8
LONGEST_ID: Final = 255  # bytes of UTF-8
LARGEST_METADATA: Final = 64 * 1024  # bytes of canonical JSON
DEEPEST_JSON: Final = 100
LONGEST_NUMBER: Final = 1000  # digits

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical_json(value: Any) -> str:
    """The one JSON form of a value: sorted keys, no blanks, no NaN."""
    return _encode(value)


def check_text(value: Any, field: str) -> str:
    """A text to remember, byte for byte as it came."""
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be text, not {_kind(value)}", field=field, code="input.type")
    if not value or value.isspace():
        raise InvalidInput(f"{field} is empty", field=field, code="input.empty")
    if len(value) * 4 > LONGEST_TEXT and len(value.encode("utf-8", "surrogatepass")) > LONGEST_TEXT:
        raise InvalidInput(f"{field} is longer than 8 MiB", field=field, code="input.too_long")
    if (bad := _NOT_TEXT.search(value)) is not None:
        what = "U+0000" if bad.group() == "\0" else "a lone surrogate"
        raise InvalidInput(f"{field} has {what} at character {bad.start()}", field=field, code="input.character")
    return value


def check_id(value: Any, field: str) -> str | None:
    """A scope id, a key: None stays None, an integer becomes its text, anything else stays as it is."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > 64:  # no id of anything; str() refuses thousands of digits
            raise InvalidInput(f"{field} is no 64-bit integer", field=field, code="input.number")
        value = str(value)
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a string, not {_kind(value)}", field=field, code="input.type")
    if not value:
        raise InvalidInput(f"{field} is empty", field=field, code="input.empty")
    if (bad := _CONTROL.search(value)) is not None:
        raise InvalidInput(
            f"{field} has the control character U+{ord(bad.group()):04X}", field=field, code="input.character"
        )
    if len(value.encode()) > LONGEST_ID:
        raise InvalidInput(f"{field} is longer than {LONGEST_ID} bytes", field=field, code="input.too_long")
    return value


def check_scope(user_id: Any = None, agent_id: Any = None, run_id: Any = None) -> Scope:
    return Scope(check_id(user_id, "user_id"), check_id(agent_id, "agent_id"), check_id(run_id, "run_id"))


def check_messages(value: Any, field: str = "messages") -> tuple[Message, ...]:
    """A string, one message dict or a list of them. Turns without text (tool calls) are left out."""
    if isinstance(value, str):
        return (Message("user", check_text(value, field)),)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise InvalidInput(
            f"{field} must be text, a message or a list of messages, not {_kind(value)}", field=field, code="input.type"
        )
    turns = [_message(one, f"{field}[{i}]") for i, one in enumerate(value)]
    kept = tuple(turn for turn in turns if turn is not None)
    if not kept:
        raise InvalidInput(f"{field} has no text", field=field, code="input.empty")
    return kept


def _message(value: Any, field: str) -> Message | None:
    if isinstance(value, str):
        return Message("user", check_text(value, field))
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"{field} must be a dict with role and content, not {_kind(value)}", field=field, code="input.type"
        )
    role = value.get("role", "user")
    if not isinstance(role, str) or not role or len(role) > 64 or _CONTROL.search(role):
        raise InvalidInput(f"{field}.role must be a short string", field=f"{field}.role", code="input.type")
    if "content" not in value and not (value.get("tool_calls") or value.get("function_call")):
        raise InvalidInput(f"{field} has no content", field=field, code="input.missing")
    content = value.get("content")
    if isinstance(content, (list, tuple)):
        content = _joined_parts(content, f"{field}.content")
    if content is None or (isinstance(content, str) and (not content or content.isspace())):
        return None
    return Message(role.lower(), check_text(content, f"{field}.content"))


def _joined_parts(parts: Sequence[Any], field: str) -> str:
    """The text parts of a multi-part content; pictures and sounds are no text and are left out."""
    texts = []
    for i, part in enumerate(parts):
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            text = part.get("text")
            if isinstance(text, str):
                texts.append(text)
            elif part.get("type") in (None, "text"):
                raise InvalidInput(f"{field}[{i}].text must be text", field=field, code="input.type")
        else:
            raise InvalidInput(f"{field}[{i}] must be a part with text", field=field, code="input.type")
    return "\n".join(text for text in texts if text)


def check_metadata(value: Any, field: str = "metadata") -> dict[str, Any]:
    """A JSON object of at most 64 KiB; None is the empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{field} must be an object, not {_kind(value)}", field=field, code="input.type")
    if not value:
        return {}
    checked: dict[str, Any] = _json(value, field, 0)
    if len(canonical_json(checked).encode()) > LARGEST_METADATA:
        raise InvalidInput(f"{field} is larger than 64 KiB", field=field, code="input.too_long")
    return checked


def _json(value: Any, field: str, depth: int) -> Any:
    """A copy made of plain JSON values alone."""
    if isinstance(value, str):
        if (bad := _NOT_TEXT.search(value)) is not None:
            what = "U+0000" if bad.group() == "\0" else "a lone surrogate"
            raise InvalidInput(f"{field} has {what}", field=field, code="input.character")
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > 63:
            raise InvalidInput(f"{field} is no 64-bit integer", field=field, code="input.number")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"{field} is {value}, which JSON does not have", field=field, code="input.number")
        return value
    if depth >= DEEPEST_JSON:
        raise InvalidInput(f"{field} is nested more than {DEEPEST_JSON} deep", field=field, code="input.too_deep")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidInput(f"{field} has a key that is {_kind(key)}", field=field, code="input.type")
            _json(key, field, depth)
        return {key: _json(one, f"{field}.{key[:80]}", depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(one, field, depth + 1) for one in value]
    raise InvalidInput(
        f"{field} must be JSON; {_kind(value)} is not", field=field, code="input.type", hint="write a time as a string"
    )


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )
