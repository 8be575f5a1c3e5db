"""Keyword and vector hits → one ranking, with a score that means the same for every query.

Normalised scores are fused, not ranks: a rank throws away how sure BM25 is about a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from powermem_cli.model import Hit
from powermem_cli.terms import STOP_WORDS, query_terms

CANDIDATES: Final = 300  # from each side
VECTOR_WEIGHT: Final = 0.6
KEYWORD_WEIGHT: Final = 0.4
FREQUENT: Final = 0.2  # share of the memories from which on a name says nothing about what is asked
FEW_MEMORIES: Final = 20  # below that, a share says nothing either
HALF_SURE: Final = 6.0  # keyword score (nats) of one rare word, at which keywords alone make a similarity of 0.5

AS_LIKELY_AS_NOT: Final = 0.30
CURVE_WIDTH: Final = 0.08

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


def fuse(near: Iterable[Hit], matching: Sequence[Hit]) -> list[Hit]:
    """One ranking, best first, ties by id, of cosines (*near*) and keyword scores (*matching*).

    The order is that of 0.6 · vector + 0.4 · keywords, each side normalised over the union to 0..1. The score is
    0..1 and comparable between queries: the best and the worst hit get what their cosine and keyword score are worth
    by themselves, those between them their place on that line; 0.5 is as likely the answer as not (see `_likely`).
    """
    cosines = {hit.id: hit.score for hit in near}
    keywords = {hit.id: hit.score for hit in matching}
    if not cosines and not keywords:
        return []
    lowest = min(cosines.values(), default=0.0)
    union = sorted({*cosines, *keywords})
    vector_side = _normalised([cosines.get(id, lowest) for id in union])
    keyword_side = _normalised([keywords.get(id, 0.0) for id in union])
    fused = [_mixed(v, k, bool(cosines), bool(keywords)) for v, k in zip(vector_side, keyword_side, strict=True)]
    worth = [
        _mixed(_within(cosines.get(id, 0.0)), _sureness(keywords.get(id, 0.0)), bool(cosines), bool(keywords))
        for id in union
    ]
    bottom, top = min(worth), max(worth)
    best = max(fused) or 1.0
    # By what was fused and not by the score: those that are worth nothing at all would be in no order.
    order = sorted(zip(fused, union, strict=True), key=lambda pair: (-pair[0], pair[1]))
    return [Hit(id, _likely(bottom + (top - bottom) * score / best)) for score, id in order]


def _mixed(vector: float, keyword: float, has_vectors: bool, has_keywords: bool) -> float:
    if not has_keywords:
        return vector
    if not has_vectors:
        return keyword
    return VECTOR_WEIGHT * vector + KEYWORD_WEIGHT * keyword


def _within(cosine: float) -> float:
    """Of float32 vectors it may be a little more than 1."""
    return min(1.0, max(0.0, cosine))


def _normalised(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    if high == low:
        return [1.0 if high > 0 else 0.0] * len(values)
    return [(value - low) / (high - low) for value in values]


def _likely(worth: float) -> float:
    """A logistic curve through what was measured on the sample questions: answers are worth 0.42 in the median, the
    best hits among the memories of somebody who does not know 0.30, tenth hits 0.15; a word-for-word repeat 0.9.
    """
    return 1 / (1 + math.exp((AS_LIKELY_AS_NOT - worth) / CURVE_WIDTH))


def _sureness(keyword_score: float) -> float:
    return keyword_score / (keyword_score + HALF_SURE)
