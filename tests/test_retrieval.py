"""Two lists of hits become one ranking, and a name that stands everywhere is not what a query is about."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from powermem_cli.model import Hit
from powermem_cli.retrieval import Ranking, names_in, without_frequent_names

ids = st.integers(1, 40)
cosines = st.dictionaries(ids, st.floats(-1.000001, 1.000001), max_size=15)
keywords = st.dictionaries(ids, st.floats(0.0001, 60), max_size=15)


def hits(scores: dict[int, float]) -> list[Hit]:
    return [Hit(id, score) for id, score in scores.items()]


def fuse(near: list[Hit], matching: list[Hit]) -> list[Hit]:
    return Ranking(near, matching).hits(100)


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


boosts = st.lists(st.tuples(ids, st.floats(-0.3, 0.5)), max_size=20)


@given(cosines, keywords, boosts)
def test_boosts_move_memories_and_scores_still_fall_with_the_place(near, matching, boosts):
    ranking = Ranking(hits(near), hits(matching))
    before = dict(ranking.values)
    for id, amount in boosts:
        ranking.boost(id, "why", amount)
    assert set(ranking.values) == set(before), "nothing comes in that was not found"
    order = ranking.hits(100)
    assert [hit.id for hit in order] == sorted(before, key=lambda one: (-ranking.values[one], one)) == ranking.best(100)
    scores = [hit.score for hit in order]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_boost_lifts_one_above_another():
    ranking = Ranking(hits({1: 0.6, 2: 0.5}), hits({1: 4.0, 2: 3.9}))
    ranking.boost(2, "period", 1.5)
    assert ranking.best(2) == [2, 1]
    assert ranking.parts(2)["boosts"] == {"period": 1.5}


def test_what_was_not_found_may_be_let_in_and_lifted():
    ranking = Ranking(hits({1: 0.6, 9: 0.5}), hits({1: 4.0}))
    ranking.admit([1, 4])
    assert ranking.best(9) == [1, 4, 9], "it is worth as little as the last, and ties are by id"
    ranking.boost(4, "answers", 2.0)
    assert ranking.best(1) == [4]
    parts = {"cosine": None, "bm25": None, "vector": 0.0, "keywords": 0.0, "boosts": {"answers": 2.0}, "value": 2.0}
    assert ranking.parts(4) == parts


def test_the_parts_of_a_value_add_up_to_it():
    ranking = Ranking(hits({1: 0.6, 2: 0.5, 3: 0.1}), hits({1: 2.0, 2: 4.0}))
    ranking.boost(2, "speaker", 0.15)
    parts = ranking.parts(2)
    assert (parts["cosine"], parts["bm25"]) == (0.5, 4.0)
    assert parts["vector"] == pytest.approx(0.6 * 0.8)
    assert parts["keywords"] == pytest.approx(0.4)
    assert parts["value"] == pytest.approx(parts["vector"] + parts["keywords"] + 0.15)
    assert ranking.parts(3)["bm25"] is None


def test_what_a_reranker_judged_comes_first_in_its_order():
    ranking = Ranking(hits({1: 0.9, 2: 0.8, 3: 0.7, 4: 0.6}), [])
    ranking.judge({1: 0.2, 2: 0.7})
    order = ranking.hits(4)
    assert [hit.id for hit in order] == [2, 1, 3, 4]
    assert [hit.score for hit in order][:2] == [0.7, 0.2]
    assert all(hit.score <= 0.2 for hit in order[2:])
    assert ranking.parts(2)["reranker"] == 0.7


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
