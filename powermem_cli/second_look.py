"""A second look at the best hits of a question, in words: what their texts are, and not only what they are about.

All amounts are on the scale of a ranking's values, where the best fused score is near 1; they were measured on the
development set (tests/benchmarks/evaluation.md), each with the others in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from powermem_cli.model import StoredMemory

PERIOD: Final = 0.4  # for a memory of the time that the question names
ASKS: Final = -0.15  # for a memory that only asks: what a question finds first is the same question
ASKS_WORDS: Final = 20  # words up to which that counts in full; a long question tells something, too
ANSWERS: Final = 0.4  # of the value of a question, for the turn behind it: "Left." has no word of what it answers
SPEAKER: Final = 0.15  # for what somebody said whom the question names
KIND: Final = 0.06  # for a number where one is asked for, or a time
MOST_READ: Final = 2000  # characters of a memory, which may have millions
SAME_TALK: Final = 3600 * 1_000_000  # microseconds between two turns of one conversation

_SENTENCE = re.compile(r"[^.!?。！？]+[.!?。！？]*")
_ASKING = re.compile(r"[?？][\s\"'»”)]*\Z")
_SPEAKER = re.compile(r"\s*([^\W\d_][^\W\d_.'’ -]*(?:[ .'’-]+[^\W\d_]+){0,3})[:：]\s")
_WORD = re.compile(r"\w+")

_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|old|long|far|high|tall|deep|wide|big|large|heavy|fast|often)\b"
    r"|\b(?:wie (?:viele?|alt|lange|weit|hoch|teuer|groß|oft)|cuánt[ao]s?|combien)\b|多少|几|いくつ|いくら|何人",
    re.IGNORECASE,
)
_ASKS_TIME = re.compile(
    r"\b(?:when|what time|(?:which|what) (?:day|date|month|year)|since when|until when)\b"
    r"|\b(?:wann|cuándo|quand)\b|什么时候|哪天|いつ",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|[一二三四五六七八九十百千万]|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w{3,5}teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|half|dozen|once|twice)\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\d[:.]\d\d\b|\b(?:19|20)\d\d\b|\d(?:st|nd|rd|th)\b|[年月日周週]"
    r"|\b(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day|yesterday|today|tomorrow|tonight|weekend|weeks?|months?|years?"
    r"|ago|since|spring|summer|autumn|winter|morning|evening|easter|christmas|[ap]m|next|last)\b",
    re.IGNORECASE,
)


def boosts(
    question: str, rows: Mapping[int, StoredMemory], values: Mapping[int, float]
) -> Iterator[tuple[int, str, float]]:
    """(id, reason, amount) for each thing that speaks for or against one of *rows*; *values* is the ranking so far."""
    named = {*_WORD.findall(question)}
    kinds = [
        (reason, pattern)
        for reason, asked, pattern in (("number", _ASKS_NUMBER, _NUMBER), ("time", _ASKS_TIME, _TIME))
        if asked.search(question)
    ]
    for id, row in rows.items():
        speaker = _SPEAKER.match(row.text)
        start = 0 if speaker is None else speaker.end()
        said = row.text[start : start + MOST_READ]
        if speaker is not None and speaker[1].split()[-1] in named:
            yield id, "speaker", SPEAKER
        for reason, pattern in kinds:
            if pattern.search(said):
                yield id, reason, KIND
        if share := _asking(said):
            yield id, "asks", ASKS * share
        before = rows.get(id - 1)
        if before is not None and asks(before.text) and _same_talk(before, row):
            yield id, "answers", ANSWERS * max(0.0, values.get(before.id, 0.0))


def asks(text: str) -> bool:
    """Whether a text ends with a question, so that the next turn may answer it."""
    return ("?" in text or "？" in text) and _ASKING.search(text[-MOST_READ:]) is not None


def _asking(text: str) -> float:
    """How much of a text is questions, 0..1, the less the longer it is."""
    if "?" not in text and "？" not in text:
        return 0.0
    sentences = [sentence.strip() for sentence in _SENTENCE.findall(text)]
    asked = sum(len(sentence) for sentence in sentences if asks(sentence))
    words = len(_WORD.findall(text))
    return asked / max(1, sum(map(len, sentences))) * min(1.0, ASKS_WORDS / max(1, words))


def _same_talk(before: StoredMemory, row: StoredMemory) -> bool:
    return before.scope == row.scope and 0 <= row.created_at - before.created_at <= SAME_TALK
