"""What the texts of the best hits say for or against them."""

from __future__ import annotations

import pytest

from powermem_cli.model import Scope, StoredMemory
from powermem_cli.second_look import ANSWERS, ASKS, KIND, SPEAKER, asks, boosts

HOUR = 3_600_000_000


def given(question: str, *texts: str, values: dict[int, float] | None = None, gap: int = 1000) -> dict[int, dict]:
    """What each text is given, by its place from 1 on; they follow each other by *gap* microseconds."""
    rows = {
        id: StoredMemory(id, text, Scope("anna"), {}, id * gap, id * gap) for id, text in enumerate(texts, 1) if text
    }
    found: dict[int, dict] = {id: {} for id in rows}
    for id, reason, amount in boosts(question, rows, values or dict.fromkeys(rows, 0.5)):
        assert reason not in found[id], "each reason counts once"
        found[id][reason] = amount
    return found


def test_a_plain_statement_is_given_nothing():
    assert given("what does she drink?", "She drinks tea") == {1: {}}


@pytest.mark.parametrize("text", ["Tom: How many boxes?", "¿Cuántas cajas?", "你好吗？", '"Really?"'])
def test_a_memory_that_only_asks_goes_down(text):
    assert given("how was it", text)[1]["asks"] == pytest.approx(ASKS, rel=0.15)


def test_the_less_the_more_it_says_besides():
    half, little = (given("boxes", text)[1]["asks"] for text in ("It is blue. Is it red?", "word " * 60 + "is it?"))
    assert ASKS < half < little < 0


@pytest.mark.parametrize("text", ["It is blue.", "What a day!", "Is it? No.", ""])
def test_what_ends_with_no_question_does_not_ask(text):
    assert not asks(text)


def test_the_turn_behind_a_question_is_given_a_share_of_what_that_is_worth():
    found = given("which leg", "Nora: Which one?", "Tom: Left.", "Nora: Poor you.", values={1: 0.9, 2: 0.1, 3: 0.1})
    assert found[2] == {"answers": pytest.approx(ANSWERS * 0.9)}
    assert "answers" not in found[3]


def test_only_within_one_talk():
    assert "answers" not in given("which leg", "Which one?", "Left.", gap=2 * HOUR)[2]
    rows = {
        1: StoredMemory(1, "Which one?", Scope("anna"), {}, 0, 0),
        2: StoredMemory(2, "Left.", Scope("ben"), {}, 0, 0),
    }
    assert [id for id, *_ in boosts("which leg", rows, {1: 1.0, 2: 0.0})] == [1]


def test_who_is_named_in_the_question_and_speaks():
    found = given(
        "What did Tom break?", "Tom: My ankle.", "Nora: Tom broke his ankle.", "Captain Tom: Aye.", "Tom said"
    )
    assert [bool("speaker" in reasons) for reasons in found.values()] == [True, False, True, False]
    assert found[1]["speaker"] == SPEAKER


@pytest.mark.parametrize(
    ("question", "text", "reason"),
    [
        ("How many boxes?", "Sixty-one boxes", "number"),
        ("Wie viele Kisten?", "61 Kisten", "number"),
        ("几个箱子", "六个箱子", "number"),
        ("When did she come?", "She came yesterday", "time"),
        ("Wann kam sie?", "Um 17:30", "time"),
    ],
)
def test_the_kind_of_answer_that_is_asked_for(question, text, reason):
    assert given(question, text) == {1: {reason: KIND}}
    assert given("Why?", text) == {1: {}}
