"""Numbers, days and times are found however they were written."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from powermem_cli.terms import query_terms, search_terms, terms_of


@pytest.mark.parametrize(
    ("query", "memory"),
    [
        ("the 15th of June", "on 15 June"),
        ("June 15", "the 15th of June"),
        ("15 of June", "the 15th of June"),
        ("2026-06-15", "June 15th"),
        ("2026-06-05", "5 June 2026"),
        ("June 3", "3rd of June"),
        ("3pm", "at 3 pm"),
        ("at 3 pm", "3pm sharp"),
        ("seven boxes", "7 boxes"),
        ("7 boxes", "seven boxes"),
        ("1450 a month", "1,450 a month"),
        ("1,450 a month", "1450 a month"),
        ("12 500 copies", "12500 copies"),
        ("1234567", "1,234,567"),
    ],
)
def test_every_term_of_the_number_is_looked_for(query, memory):
    known = {"the", "of", "on", "at", "a", "in"}
    wanted = {term for term in terms_of(memory) if term not in known | {"sharp"}}
    assert wanted <= set(search_terms(query))


def test_what_has_no_number_is_looked_for_as_it_is():
    assert search_terms("what does she drink?") == query_terms("what does she drink?")


def test_a_year_is_no_number_of_thousands():
    assert search_terms("in 2024") == ["2024"]


@given(st.text(max_size=40) | st.text("0123456789,. -amp²③٣", max_size=40))
def test_the_terms_of_a_query_come_first_and_each_once(query):
    terms = search_terms(query)
    assert terms[: len(query_terms(query))] == query_terms(query)
    assert len(terms) == len(set(terms))


def test_a_number_of_any_length_is_no_error():
    assert "9" * 64 in search_terms("June " + "9" * 5000)
