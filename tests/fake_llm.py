"""A deterministic "LLM": finds facts and decides about them by simple rules, from the very prompts the engine sends.

    with FakeApi(chat=remember) as api: ...

A fact is a sentence of the user's in the first person that is no question. "Forget …" is a wish to forget. Statements
about one attribute ("I live in …", "My … is …") change what is known of it.
"""

from __future__ import annotations

import json
import re
from typing import Any

Messages = list[dict[str, str]]

_FENCED = re.compile(r"\A([0-9a-f]{16})\n(.*)\n\1\Z", re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*(?=\S)|\n+")
_FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|I'll|I'd|my|mine|me|we|we're|we've|our|us)\b|我", re.IGNORECASE)
_FORGET = re.compile(r"(?:please )?forget (?:that |about )?(.+)", re.IGNORECASE)
_ATTRIBUTES = (
    (re.compile(r"\bI(?: now)? (?:live in|moved to|am living in) (.+)", re.IGNORECASE), "home"),
    (re.compile(r"\bI(?: now)? (?:work (?:at|for|as)) (.+)", re.IGNORECASE), "work"),
    (re.compile(r"\bmy ([\w ]+?) (?:is|are)(?: now)? (.+)", re.IGNORECASE), ""),
    (re.compile(r"我(?:住在|搬到)(.+)"), "home"),
)
_WORD = re.compile(r"\w+")
_EMPTY_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "that",
        "i",
        "we",
        "my",
        "our",
        "is",
        "are",
        "am",
        "was",
        "in",
        "at",
        "to",
        "of",
        "about",
        "it",
        "everything",
        "live",
        "lives",
    ]
)


def data_in(messages: Messages) -> dict[str, Any] | None:
    """What the engine fenced in as data; None for any other conversation."""
    for message in messages:
        if message["role"] == "user" and (fenced := _FENCED.match(message["content"])):
            return dict(json.loads(fenced[2]))
    return None


def remember(messages: Messages) -> str:
    """The answer to a prompt of the engine."""
    data = data_in(messages)
    assert data is not None, "the engine asked for something else"
    answer = found(data["conversation"]) if "conversation" in data else {"decisions": decided(data)}
    return json.dumps(answer, ensure_ascii=False)


def found(turns: Messages) -> dict[str, list[str]]:
    """The facts in the user's turns, and what is to be forgotten."""
    facts, forget = [], []
    said = [
        sentence.strip() for turn in turns if turn["role"] == "user" for sentence in _SENTENCE.split(turn["content"])
    ]
    for sentence in said:
        if wish := _FORGET.match(sentence):
            forget.append(wish[1].rstrip(".!"))
        elif _FIRST_PERSON.search(sentence) and not sentence.endswith(("?", "？")):
            facts.append(sentence)
    return {"facts": facts, "forget": forget}


def decided(data: dict[str, Any]) -> list[dict[str, Any]]:
    """At least one decision for each statement, in order; a memory is touched once."""
    decisions, touched = [], set()
    for statement in data["statements"]:
        free = [memory for memory in data["memories"] if memory["number"] not in touched]
        made = _wishes(statement, free) if statement.get("forget") else [_one(statement, free, data["memories"])]
        touched |= {one["memory"] for one in made if "memory" in one}
        decisions += made or [{"statement": statement["number"], "event": "NONE"}]
    return decisions


def attribute(text: str) -> tuple[str, str] | None:
    """What a statement is about and what it says of it, as ("home", "rome"); None for any other statement."""
    for pattern, name in _ATTRIBUTES:
        if match := pattern.search(text):
            return name or match[1].lower(), match[match.lastindex or 1].strip(" .!。").lower()
    return None


def _one(statement: dict[str, Any], free: list[dict[str, Any]], memories: list[dict[str, Any]]) -> dict[str, Any]:
    number, text = statement["number"], statement["text"]
    about = attribute(text)
    if any(
        memory["text"].lower() == text.lower() or (about and attribute(memory["text"]) == about) for memory in memories
    ):
        return {"statement": number, "event": "NONE"}
    for memory in free:
        known = attribute(memory["text"])
        if about and known and about[0] == known[0]:
            return {"statement": number, "event": "UPDATE", "memory": memory["number"], "text": text}
    return {"statement": number, "event": "ADD"}


def _wishes(statement: dict[str, Any], free: list[dict[str, Any]]) -> list[dict[str, Any]]:
    meant = _words(statement["text"])
    return [
        {"statement": statement["number"], "event": "DELETE", "memory": memory["number"]}
        for memory in free
        if meant <= _words(memory["text"])
    ]


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)} - _EMPTY_WORDS
