"""Two lists of hits become one ranking, and a name that stands everywhere is not what a query is about."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from powermem_cli.model import Hit
from powermem_cli.retrieval import fuse, names_in, without_frequent_names

ids = st.integers(1, 40)
cosines = st.dictionaries(ids, st.floats(-1.000001, 1.000001), max_size=15)
keywords = st.dictionaries(ids, st.floats(0.0001, 60), max_size=15)


def hits(scores: dict[int, float]) -> list[Hit]:
    return [Hit(id, score) for id, score in scores.items()]


@given(cosines, keywords)
def test_a_ranking_holds_every_memory_once_best_first_scored_in_0_to_1(near, matching):
    ranking = fuse(hits(near), hits(matching))
    assert sorted(hit.id for hit in ranking) == sorted({*near, *matching})
    assert all(0 <= hit.score <= 1 for hit in ranking)
    scores = [hit.score for hit in ranking]
    assert scores == sorted(scores, reverse=True)


def test_equals_are_in_the_order_of_their_ids():
    assert [hit.id for hit in fuse(hits({5: 0.4, 2: 0.4, 9: 0.4}), hits({2: 3.0, 9: 3.0, 5: 3.0}))] == [2, 5, 9]


@given(cosines, keywords, st.randoms())
def test_the_order_in_which_hits_come_says_nothing(near, matching, random):
    shuffled = [random.sample(hits(side), len(side)) for side in (near, matching)]
    assert fuse(*shuffled) == fuse(hits(near), hits(matching))


@given(cosines)
def test_without_keywords_the_order_is_that_of_the_cosines(near):
    order = sorted(near, key=lambda one: (-near[one], one))
    ranking = fuse(hits(near), [])
    assert [near[hit.id] for hit in ranking] == pytest.approx([near[id] for id in order], abs=1e-9)


@given(keywords)
def test_without_vectors_the_order_is_that_of_the_keywords(matching):
    order = sorted(matching, key=lambda one: (-matching[one], one))
    ranking = fuse([], hits(matching))
    assert [matching[hit.id] for hit in ranking] == pytest.approx([matching[id] for id in order], abs=1e-9)


def test_scores_decide_and_not_ranks():
    """3 is second in both lists, but hardly behind the first in either."""
    near = hits({1: 0.80, 3: 0.79, 2: 0.10})
    matching = hits({2: 9.0, 3: 8.9, 1: 0.5})
    assert [hit.id for hit in fuse(near, matching)] == [3, 1, 2]


def test_a_score_means_the_same_for_every_query():
    (alone,) = fuse([Hit(1, 0.7)], [])
    among_others, *_ = fuse([Hit(1, 0.7), Hit(2, 0.2), Hit(3, 0.1)], [])
    assert alone.score == among_others.score > 0.95


def test_what_is_no_way_near_scores_low_although_it_is_the_best_there_is():
    best, *_ = fuse(hits({1: 0.05, 2: 0.01}), [])
    assert best.score < 0.05
    (opposite,) = fuse(hits({1: -0.3}), [])
    assert opposite.score < best.score


def test_nothing_found_is_an_empty_ranking():
    assert fuse([], []) == []


class TestNames:
    def test_capitalised_words_that_are_no_stop_words_are_names(self):
        assert names_in("When did Caroline meet Åsa in new York?") == {
            "Caroline": "carolin",
            "Åsa": "asa",
            "York": "york",
        }
        assert names_in("what does she like") == {}

    def test_a_frequent_name_is_left_out_of_the_query_to_embed(self):
        assert self.left("What does Caroline cook?", {"carolin": 90}) == "What does cook?"

    def test_with_its_genitive_too(self):
        assert self.left("What is Caroline's hobby?", {"carolin": 90}) == "What is hobby?"

    @pytest.mark.parametrize(
        ("count", "total"), [(20, 100), (10, 19), (0, 100)], ids=["not frequent", "few memories", "unknown"]
    )
    def test_a_name_stays_that_says_something(self, count, total):
        assert self.left("What does Caroline cook?", {"carolin": count}, total) == "What does Caroline cook?"

    def test_it_stays_if_nothing_else_would_be_asked(self):
        assert self.left("Who is Caroline?", {"carolin": 90}) == "Who is Caroline?"

    def test_only_the_frequent_one_of_two_goes(self):
        assert self.left("Did Caroline call Melanie yesterday?", {"carolin": 90, "melani": 3}) == (
            "Did call Melanie yesterday?"
        )

    @staticmethod
    def left(query: str, counts: dict[str, int], total: int = 100) -> str:
        return without_frequent_names(query, names_in(query), counts, total)
