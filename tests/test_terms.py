"""The words a memory is found by: the same for a memory and for a query, in every script."""

from __future__ import annotations

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import apsw
import pytest
from hypothesis import given, strategies as st

from powermem_cli import terms as terms_module
from powermem_cli.terms import LONGEST_TERM, query_terms, terms_of, words_of

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Apples, APPLE; apple!", ["appl", "appl", "appl"]),
        ("running runs ran", ["run", "run", "ran"]),
        ("don't rock'n'roll", ["dont", "rocknrol"]),
        ("Anna’s tea = Anna's tea", ["anna", "tea", "anna", "tea"]),
        ("café CAFE\u0301 cafe", ["cafe", "cafe", "cafe"]),
        ("Straße STRASSE", ["strass", "strass"]),
        ("ﬁne ＴＥＡ", ["fine", "tea"]),
        ("我喜欢喝绿茶", ["我喜", "喜欢", "欢喝", "喝绿", "绿茶"]),
        ("茶", ["茶"]),
        ("Tokyo東京tower", ["tokyo", "東京", "tower"]),
        ("ขอบคุณ", ["ขอ", "อบ", "บค", "คุ", "ุณ"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("תל־אביב", ["תל", "אביב"]),
        ("ジョン・スミス", ["ジョ", "ョン", "スミ", "ミス"]),
        ("৳500", ["500"]),
        ("7 apples for 3.50", ["7", "appl", "for", "3", "50"]),
        ("snake_case a.b@c.de", ["snake", "case", "a", "b", "c", "de"]),
        ("'' -- \"\" * NEAR( ^ ) :", ["near"]),
        ("", []),
        ("?!… 😀", []),
    ],
)
def test_the_terms_of_a_text(text, terms):
    assert terms_of(text) == terms


@given(ANY_TEXT)
def test_a_term_holds_letters_digits_and_marks_only(text):
    for term in terms_of(text):
        assert 0 < len(term) <= LONGEST_TERM
        assert {unicodedata.category(character)[0] for character in term} <= {"L", "M", "N"}


@given(ANY_TEXT)
def test_a_full_text_that_splits_at_blanks_sees_the_same_terms(text):
    """FTS5 with the tokenizer of the SQLite store: every term is one token, and is found again."""
    terms = dict.fromkeys(terms_of(text))
    with apsw.Connection(":memory:") as db:
        db.execute("CREATE VIRTUAL TABLE words USING fts5 (terms, detail=none, tokenize='ascii')")
        db.execute("CREATE VIRTUAL TABLE seen USING fts5vocab (words, row)")
        db.execute("INSERT INTO words VALUES (?)", (" ".join(terms),))
        assert {term for (term,) in db.execute("SELECT term FROM seen")} == set(terms)
    db.close()


@given(ANY_TEXT)
def test_what_is_asked_in_the_words_of_a_text_is_found(text):
    asked = query_terms(text)
    assert set(asked) <= set(terms_of(text))
    assert len(asked) == len(set(asked))
    assert bool(asked) == bool(terms_of(text))


@given(ANY_TEXT)
def test_case_and_form_of_letters_say_nothing(text):
    assert terms_of(unicodedata.normalize("NFD", text)) == terms_of(unicodedata.normalize("NFC", text))
    if text.isascii():
        assert terms_of(text.upper()) == terms_of(text)


def test_words_that_only_say_how_it_is_asked_are_left_out_of_a_query():
    assert query_terms("What does she like about the green tea?") == ["green", "tea"]
    assert query_terms("What’s it about?") == query_terms("what's it about") == ["what", "it", "about"]


def test_a_word_without_end_is_cut():
    (term,) = terms_of("x" * 10_000)
    assert len(term) == LONGEST_TERM
    assert terms_of("x" * 9_000) == [term]


def test_words_are_in_order_with_repeats():
    assert words_of("Tea, tea and TEA") == ["tea", "tea", "and", "tea"]


def test_a_full_cache_is_emptied_and_all_goes_on(monkeypatch):
    monkeypatch.setattr(terms_module, "CACHED_WORDS", 10)
    monkeypatch.setattr(terms_module, "_terms", terms_module._Terms())
    text = " ".join(f"apples{i}" for i in range(100))
    assert terms_of(text) == [f"apples{i}" for i in range(100)]
    assert len(terms_module._terms) <= 10


def test_many_threads_get_the_terms_one_would_get():
    """A stemmer holds the word it is working on."""
    texts = [" ".join(f"{word}{i} running{i % 7}" for word in ("hopefully", "relational")) for i in range(300)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(terms_of, texts))
    assert together == [terms_of(text) for text in texts]
