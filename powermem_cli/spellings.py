"""Other ways to write the numbers, days and times of a query: "the 15th of June" finds "June 15" and "2026-06-15"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

LONGEST_NUMBER: Final = 15  # digits
_VALUES: Final = {
    name: str(value)
    for value, name in enumerate(
        """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen twenty
        """.split()  # noqa: SIM905 - a list of literals reads worse
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90"}
_NAMES: Final = {value: name for name, value in _VALUES.items()}
_MONTHS: Final = tuple(
    "january february march april may june july august september october november december".split()  # noqa: SIM905
)
_ORDINAL = re.compile(r"([0-9]+)(?:st|nd|rd|th)")
_HALF_DAY = re.compile(r"([0-9]{1,2})([ap]m)")
_YEAR = re.compile("(?:19|20)[0-9]{2}")
_GROUPED = re.compile(r"(?<![0-9.,'])[0-9]{1,3}(?:[,.'’ ][0-9]{3})+(?![0-9])")


def other_spellings(query: str, words: Sequence[str]) -> Iterator[str]:
    """Words that a memory may have in place of *words*, those of *query* in lower case and in order."""
    if not any(word[0].isdigit() or word in _VALUES for word in words):
        return
    for number in _GROUPED.findall(query):
        yield re.sub("[^0-9]", "", number)
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if ordinal := _ORDINAL.fullmatch(word):
            yield ordinal[1]
        elif time := _HALF_DAY.fullmatch(word):
            yield from time.groups()
        elif word.isdecimal() and len(word) <= LONGEST_NUMBER:
            yield from _of_digits(word, before, after)
        elif word in _VALUES:
            yield _VALUES[word]
    yield from _of_iso(words)


def _of_digits(word: str, before: str, after: str) -> Iterator[str]:
    if word in _NAMES:
        yield _NAMES[word]
    if after in {"am", "pm"}:
        yield word + after
    if len(word) <= 2 and (before in _MONTHS or after in _MONTHS or after == "of"):
        yield _ordinal(int(word))
    if len(word) > 3 and not word.startswith("0") and not _YEAR.fullmatch(word):
        first = len(word) % 3 or 3
        yield word[:first]
        yield from (word[start : start + 3] for start in range(first, len(word), 3))


def _of_iso(words: Sequence[str]) -> Iterator[str]:
    """Of 2026-06-15: june, 15, 15th."""
    for year, month, day in zip(words, words[1:], words[2:], strict=False):
        numbers = len(year) == 4 and all(part.isdecimal() and len(part) <= 4 for part in (year, month, day))
        if numbers and 1 <= int(month) <= 12 and 1 <= int(day) <= 31:
            yield _MONTHS[int(month) - 1]
            yield str(int(day))
            yield _ordinal(int(day))


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
