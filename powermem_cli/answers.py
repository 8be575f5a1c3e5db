"""What an LLM answered, as values: facts, or what to do about each. An answer that can't be trusted is refused whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from powermem_cli.loose_json import Unusable, values_in
from powermem_cli.model import Event

LONGEST_FACT: Final = 2048  # bytes of UTF-8
MOST_FACTS: Final = 100  # of one record
_EVENTS: Final = {"ADD": "ADD", "UPDATE": "UPDATE", "DELETE": "DELETE", "NONE": "NONE", "NOOP": "NONE"}
_FACTS: Final = ("facts", "fact", "extracted_facts", "memories", "memory")
_DECISIONS: Final = ("decisions", "decision", "memory", "memories", "actions", "results")
_TEXT: Final = ("text", "fact", "memory", "content")
_NEVER_TEXT = re.compile("[\0\ud800-\udfff]")
_WORD = re.compile(r"\w")


class Found(NamedTuple):
    """What a conversation holds: *facts* to remember, and what is to be forgotten."""

    facts: tuple[str, ...]
    forget: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """What to do about one statement, both by the numbers under which they were shown (from 1 on)."""

    statement: int
    event: Event
    memory: int | None = None
    text: str | None = None


def read_facts(answer: str) -> Found:
    """Raises Unusable. No facts are only what an answer says to be none."""
    values = [_unwrapped(value, _FACTS) for value in values_in(answer)]
    if len(values) == 1 and isinstance(values[0], list):
        values = [{"facts": values[0]}]
    (found, *others) = [value for value in values if _first(value, _FACTS) is not None] or [None]
    if found is None:
        raise Unusable('it has no "facts"')
    if others:
        raise Unusable("it holds more than one answer")
    facts = _texts(_first(found, _FACTS), "facts")
    forget = _texts(found.get("forget") or [], "forget")
    return Found(tuple(dict.fromkeys(facts)), tuple(dict.fromkeys(forget)))


def read_verdicts(answer: str, statements: int, memories: int) -> list[Verdict]:
    """At least one for each of so many *statements*, about none but so many *memories*. Raises Unusable."""
    values = [_unwrapped(value, _DECISIONS) for value in values_in(answer)]
    if len(values) != 1:
        raise Unusable("it holds more than one answer")
    items = values[0] if isinstance(values[0], list) else _first(values[0], _DECISIONS)
    if isinstance(items, Mapping):
        items = [items]
    if items is None and isinstance(values[0], Mapping) and "event" in values[0]:
        items = [values[0]]
    if not isinstance(items, list):
        raise Unusable('it has no list of "decisions"')
    verdicts = [_verdict(item, statements, memories) for item in items]
    missing = sorted({*range(1, statements + 1)} - {verdict.statement for verdict in verdicts})
    if missing:
        raise Unusable(f"it says nothing about {', '.join(map(str, missing))}")
    touched = [verdict.memory for verdict in verdicts if verdict.event in {"UPDATE", "DELETE"}]
    if len(touched) != len({*touched}):
        raise Unusable("it does two things to one memory")
    return verdicts


def _verdict(item: Any, statements: int, memories: int) -> Verdict:
    if not isinstance(item, Mapping):
        raise Unusable("a decision is no object")
    named = _first(item, ("event", "action", "operation"))
    event = _EVENTS.get(named.strip().upper()) if isinstance(named, str) else None
    if event is None:
        raise Unusable(f"{named!r:.40} is none of ADD, UPDATE, DELETE, NONE")
    statement = _number(_first(item, ("statement", "fact")), statements, "statement")
    memory = None
    if event in {"UPDATE", "DELETE"}:
        memory = _number(_first(item, ("memory", "id", "memory_id")), memories, "memory")
    text = item.get("text")
    if event == "UPDATE" and text is not None:
        text = _texts([text], "text")[0]
    return Verdict(statement, cast("Event", event), memory, text if event == "UPDATE" else None)


def _number(value: Any, most: int, what: str) -> int:
    if isinstance(value, str) and value.strip().isdecimal() and len(value) <= len(str(most)) + 2:
        value = int(value)
    if type(value) is not int or not 1 <= value <= most:
        raise Unusable(f"{value!r:.40} is no number of a {what} that was shown")
    return value


def _unwrapped(value: Any, names: Sequence[str]) -> Any:
    """What stands in an object of one other name, as {"response": {…}}."""
    if isinstance(value, Mapping) and len(value) == 1 and _first(value, names) is None:
        (inner,) = value.values()
        return inner if isinstance(inner, Mapping) else value
    return value


def _first(value: Any, names: Sequence[str]) -> Any:
    if not isinstance(value, Mapping):
        return None
    return next((value[name] for name in names if value.get(name) is not None), None)


def _texts(items: Any, what: str) -> list[str]:
    """Each as it may be kept; blank ones are left out. Raises Unusable."""
    if isinstance(items, (str, Mapping)):
        items = [items]
    if not isinstance(items, list):
        raise Unusable(f'"{what}" is no list')
    if len(items) > MOST_FACTS:
        raise Unusable(f'"{what}" has more than {MOST_FACTS} entries')
    texts = [_clean(_first(item, _TEXT) if isinstance(item, Mapping) else item) for item in items]
    kept = [text for text in texts if text]
    if items and not kept:
        raise Unusable(f'"{what}" has only blank entries')
    return kept


def _clean(value: Any) -> str:
    if not isinstance(value, str):
        raise Unusable("an entry is no text")
    # Two halves of a character may have come as two escapes; one alone is nothing.
    text = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = _NEVER_TEXT.sub("", text).strip()
    if text and not _WORD.search(text):
        raise Unusable("an entry has no word in it")
    if len(text.encode()) > LONGEST_FACT:
        raise Unusable(f"an entry is longer than {LONGEST_FACT} bytes")
    return text
