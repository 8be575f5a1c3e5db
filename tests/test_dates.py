"""Which time a question speaks of, in the languages that are read; and what is no time."""

from __future__ import annotations

from datetime import date, datetime, timezone

import pytest
from hypothesis import given, strategies as st

from powermem_cli.dates import periods_in

TODAY = date(2026, 11, 21)  # a Saturday


def read(question: str, today: date = TODAY) -> list[str]:
    """Each period as `first day..day after`."""
    return ["..".join(str(datetime.fromtimestamp(at / 1e6, timezone.utc).date()) for at in p) for p in
            periods_in(question, today)]  # fmt: skip


@pytest.mark.parametrize(
    "question",
    [
        *("what did we do on 2024-05-03?", "on 3 May 2024", "May 3rd, 2024", "the 3rd of May 2024", "may 3 2024"),
        *("am 3. Mai 2024", "03.05.2024?", "el 3 de mayo de 2024", "le 3 mai 2024", "2024年5月3日に", "2024/5/3"),
    ],
)
def test_a_day(question):
    assert read(question) == ["2024-05-03..2024-05-04"]


@pytest.mark.parametrize(
    ("question", "period"),
    [
        ("in March 2025", "2025-03-01..2025-04-01"),
        ("in December 2024", "2024-12-01..2025-01-01"),
        ("2025-03", "2025-03-01..2025-04-01"),
        ("mars 2025", "2025-03-01..2025-04-01"),
        ("2025年3月", "2025-03-01..2025-04-01"),
        ("in 2023", "2023-01-01..2024-01-01"),
        ("im Jahr 2023", "2023-01-01..2024-01-01"),
        ("2023年", "2023-01-01..2024-01-01"),
        ("today", "2026-11-21..2026-11-22"),
        ("yesterday?", "2026-11-20..2026-11-21"),
        ("vorgestern", "2026-11-19..2026-11-20"),
        ("¿qué hicimos ayer?", "2026-11-20..2026-11-21"),
        ("昨天去了哪里", "2026-11-20..2026-11-21"),
        ("last week", "2026-11-09..2026-11-16"),
        ("letzte Woche", "2026-11-09..2026-11-16"),
        ("la semana pasada", "2026-11-09..2026-11-16"),
        ("la semaine dernière", "2026-11-09..2026-11-16"),
        ("先週", "2026-11-09..2026-11-16"),
        ("this month", "2026-11-01..2026-12-01"),
        ("上个月", "2026-10-01..2026-11-01"),
        ("last year", "2025-01-01..2026-01-01"),
        ("last Friday", "2026-11-20..2026-11-21"),
        ("on Saturday", "2026-11-14..2026-11-15"),
        ("two weeks ago", "2026-11-04..2026-11-11"),
        ("vor 14 Tagen", "2026-11-07..2026-11-08"),
        ("in the last 3 days", "2026-11-18..2026-11-22"),
    ],
)
def test_a_period(question, period):
    assert read(question) == [period]


def test_without_a_year_it_is_of_this_one_or_the_ten_before():
    assert read("on 30 July")[-1] == "2026-07-30..2026-07-31"
    assert len(read("in March")) == len(read("im März")) == len(read("7月3日")) == 11
    assert len(read("on February 29")) == 3, "there was none in the other years"


def test_several():
    assert read("between 3 May 2024 and 2024-06-01") == ["2024-05-03..2024-05-04", "2024-06-01..2024-06-02"]


@pytest.mark.parametrize(
    "question",
    [
        *("May I march on?", "what does she drink?", "Who won 3 to 2?", "room 2024", "version 2.3.1", "", "31.02.2024"),
        *("we were 2000 people", "the 99999999 weeks", "March!", "call 0491 55 37 20"),
    ],
)
def test_no_time(question):
    assert read(question) == []


@given(st.text(max_size=60), st.dates(date(1, 1, 1), date(9999, 12, 31)))
def test_whatever_is_asked_whenever_is_no_error(question, today):
    assert all(period.start < period.end for period in periods_in(question, today))


@given(
    st.sampled_from(["{} weeks ago", "last {} years", "vor {} Monaten", "{} days ago"]),
    st.integers(0, 999),
    st.dates(date(1970, 1, 1), date(2199, 12, 31)),
)
def test_a_count_of_units_is_before_today(question, count, today):
    (period,) = periods_in(question.format(count), today)
    assert period.start <= (today - date(1970, 1, 1)).days * 86_400_000_000
