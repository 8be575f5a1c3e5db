"""Keyword and vector hits → one ranking, with a score that means the same for every query.

Normalised scores are fused, not ranks: a rank throws away how sure BM25 is about a name.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from powermem_cli.model import Hit
from powermem_cli.terms import STOP_WORDS, query_terms

CANDIDATES: Final = 200  # from each side
VECTOR_WEIGHT: Final = 0.6
KEYWORD_WEIGHT: Final = 0.4
FREQUENT: Final = 0.2  # share of the memories from which on a name says nothing about what is asked
FEW_MEMORIES: Final = 20  # below that, a share says nothing either
HALF_SURE: Final = 6.0  # keyword score (nats) of one rare word, at which keywords alone make a similarity of 0.5

AS_LIKELY_AS_NOT: Final = 0.30
CURVE_WIDTH: Final = 0.08
FIRST_FEW: Final = 10  # of which the best tells what the first is worth: it may be there for what stands before it

_NAME = re.compile(r"\b(?=[a-z]*[^\W\d_a-z])[^\W\d_]+(?:['’]s)?\b")  # looks once for the letter that is no a-z


def names_in(query: str) -> dict[str, str]:
    """Capitalised words of a query that are no stop words, each with its term."""
    names = {}
    for word in _NAME.findall(query):
        if word[0].isupper() and word.lower() not in STOP_WORDS:
            terms = query_terms(word)
            if len(terms) == 1:
                names[word] = terms[0]
    return names


def without_frequent_names(query: str, names: Mapping[str, str], counts: Mapping[str, int], total: int) -> str:
    """The query to embed: a name that stands in every other memory would pull the vector towards all of them.

    Unchanged in small stores, and if nothing would be left to ask about.
    """
    if total < FEW_MEMORIES:
        return query
    frequent = {name for name, term in names.items() if counts.get(term, 0) > FREQUENT * total}
    if not frequent:
        return query
    shorter = re.sub(r"\b(?:" + "|".join(map(re.escape, sorted(frequent, key=len, reverse=True))) + r")\b", " ", query)
    left = [word for word in re.findall(r"[^\W_]+", shorter.lower()) if word not in STOP_WORDS]
    return " ".join(shorter.split()) if left else query


class Ranking:
    """The memories that cosines (*near*) and keyword scores (*matching*) came upon, each with what speaks for it.

    The order is that of `values`: 0.6 · vector + 0.4 · keywords, each side normalised over the union to 0..1, plus
    the boosts given since; ties by id.
    """

    def __init__(self, near: Iterable[Hit], matching: Iterable[Hit]) -> None:
        self._cosines: Mapping[int, float] = dict(near)
        self._keywords: Mapping[int, float] = dict(matching)
        self._boosts: defaultdict[int, dict[str, float]] = defaultdict(dict)
        self._judged: Mapping[int, float] = {}
        self._weights = (VECTOR_WEIGHT, KEYWORD_WEIGHT)
        if not (self._cosines and self._keywords):
            self._weights = (1.0, 0.0) if self._cosines else (0.0, 1.0)
        union = sorted({**self._cosines, **self._keywords})
        lowest = min(self._cosines.values(), default=0.0)
        self._vectors = _normalised([self._cosines.get(id, lowest) for id in union])
        self._words = _normalised([self._keywords.get(id, 0.0) for id in union])
        self._union = union
        near_weight, word_weight = self._weights
        fused = zip(union, self._vectors, self._words, strict=True)
        self.values = {id: near_weight * vector + word_weight * word for id, vector, word in fused}
        self._sorted: list[int] = []  # the order, until something changes it

    def admit(self, ids: Iterable[int]) -> None:
        """Take in memories that neither side came upon: worth nothing by themselves."""
        new = [id for id in ids if id not in self.values]
        if new:
            self.values = dict(sorted({**self.values, **dict.fromkeys(new, 0.0)}.items()))
            self._sorted = []

    def boost(self, id: int, name: str, amount: float) -> None:
        """Move a memory of the ranking up (down, if *amount* is negative) for a reason called *name*."""
        if amount and id in self.values:
            self.values[id] += amount
            self._boosts[id][name] = amount
            self._sorted = []

    def judge(self, relevance: Mapping[int, float]) -> None:
        """What a reranker says of some memories (0..1): these come first, in its order."""
        self._judged = relevance
        self._sorted = []

    def best(self, most: int) -> list[int]:
        """The ids of the first *most*."""
        return self._order()[:most]

    def hits(self, most: int) -> list[Hit]:
        """The first *most* with their scores: 0..1, falling with the place, comparable between queries.

        The best memory gets what the cosine and the keyword score of the first few are worth by themselves, the last
        one what its own are, those between them their place on that line; 0.5 is as likely the answer as not (see
        `_likely`). What a reranker judged has its relevance as the score, and nothing behind it more.
        """
        order = self._order()
        if not order:
            return []
        top = max(map(self._worth, order[:FIRST_FEW]))
        bottom = min(top, self._worth(order[-1]))
        best = max(0.0, *self.values.values()) or 1.0
        limit = min(self._judged.values(), default=1.0)
        hits = []
        for id in order[:most]:
            share = min(1.0, max(0.0, self.values[id] / best))
            score = self._judged.get(id)
            hits.append(Hit(id, min(limit, _likely(bottom + (top - bottom) * share)) if score is None else score))
        return hits

    def parts(self, id: int) -> dict[str, Any]:
        """How a memory came to its place: what was found, what that is worth here, and what was added."""
        near_weight, word_weight = self._weights
        place = bisect_left(self._union, id)
        is_there = self._union[place : place + 1] == [id]
        vector, word = (self._vectors[place], self._words[place]) if is_there else (0.0, 0.0)
        return {
            "cosine": _rounded(self._cosines.get(id)),
            "bm25": _rounded(self._keywords.get(id)),
            "vector": _rounded(near_weight * vector),
            "keywords": _rounded(word_weight * word),
            "boosts": {name: _rounded(amount) for name, amount in self._boosts.get(id, {}).items()},
            "value": _rounded(self.values[id]),
            **({"reranker": _rounded(self._judged[id])} if id in self._judged else {}),
        }

    def _order(self) -> list[int]:
        if not self._sorted:
            # They are in the order of their ids, and a sort keeps the order of equals.
            values, judged = self.values, self._judged
            order = sorted(values, key=values.__getitem__, reverse=True)
            self._sorted = sorted(order, key=lambda one: judged.get(one, -1.0), reverse=True) if judged else order
        return self._sorted

    def _worth(self, id: int) -> float:
        near_weight, word_weight = self._weights
        vector = min(1.0, max(0.0, self._cosines.get(id, 0.0)))  # of float32 vectors it may be a little more than 1
        keyword = self._keywords.get(id, 0.0)
        return near_weight * vector + word_weight * keyword / (keyword + HALF_SURE)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _normalised(values: Sequence[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    if high == low:
        return [1.0 if high > 0 else 0.0] * len(values)
    return [(value - low) / (high - low) for value in values]


def _likely(worth: float) -> float:
    """A logistic curve through what was measured on the sample questions: answers are worth 0.42 in the median, the
    best hits among the memories of somebody who does not know 0.30, tenth hits 0.15; a word-for-word repeat 0.9.
    """
    return 1 / (1 + math.exp((AS_LIKELY_AS_NOT - worth) / CURVE_WIDTH))
