from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings, strategies as st

from powermem_cli.times import EPOCH, MICROSECOND, YEAR_1900, YEAR_2200, format_time, now, parse_moment, parse_time

MARCH = 1_772_357_400_000_000  # 2026-03-01T09:30:00Z


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T09:30:00Z",
        "2026-03-01t09:30:00z",
        "2026-03-01 09:30:00 UTC",
        "2026-03-01T09:30Z",
        "2026-03-01T09:30:00",
        "2026-03-01 09:30",
        "2026-03-01T09:30:00+00:00",
        "2026-03-01T09:30:00-00:00",
        "2026-03-01T10:30:00+01:00",
        "2026-03-01T10:30:00+0100",
        "2026-02-28T23:30:00-10:00",
        "2026-03-01T09:30:00.0Z",
        "2026-03-01T09:30:00,000000999Z",
        "  2026-03-01T09:30:00Z\n",
        "1772357400",
        "1772357400.0",
        "1772357400000",
        "1772357400000000",
        1772357400,
        1772357400.0,
        1772357400_000,
        1772357400_000_000,
    ],
)
def test_many_ways_to_write_one_moment(text):
    assert parse_time(text) == MARCH


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01", 0),
        (0, 0),
        (-1, -1_000_000),
        ("-1.5", -1_500_000),
        ("2026-03-01T09:30:00.5Z", MARCH + 500_000),
        ("2026-03-01T09:30:00.123456789Z", MARCH + 123_456),
        ("1969-12-31T23:59:59.25Z", -750_000),
        (1772357400.123456, MARCH + 123_456),
        (MARCH + 1, MARCH + 1),
        ("1900-01-01", YEAR_1900),
        ("2200-01-01", YEAR_2200),
    ],
)
def test_the_exact_microsecond(text, micros):
    assert parse_time(text) == micros


@pytest.mark.parametrize("value", [None, True, False, [], {}, b"2026-03-01", datetime(2026, 3, 1, tzinfo=timezone.utc)])
def test_what_is_no_time_by_type(value):
    with pytest.raises(ValueError, match=f"not {type(value).__name__}"):
        parse_time(value)


@pytest.mark.parametrize(
    "text",
    ["", " ", "yesterday", "01.03.2026", "2026-3-1", "2026-03-01T09", "2026-03-01T09:30.5", "1_000", "1e9", "nan", "inf",
     "0x10", "１７７２３５７４００", "2026-03-01T09:30:00+1", "2026-03-01T09:30:00Z tomorrow", "9" * 5000, "12." + "9" * 5000],
)  # fmt: skip
def test_what_is_no_time_by_form(text):
    with pytest.raises(ValueError, match="is no time: write RFC 3339, as 2026-03-01T09:30:00Z"):
        parse_time(text)


@pytest.mark.parametrize(
    "text", ["2026-02-29", "2026-13-01", "2026-00-10", "0000-01-01", "2026-03-01T25:00", "2026-03-01T09:60", "2026-03-01T09:30:61Z"]
)  # fmt: skip
def test_days_and_hours_that_do_not_exist(text):
    with pytest.raises(ValueError, match="there is no such time as"):
        parse_time(text)


@pytest.mark.parametrize(
    "value",
    ["1899-12-31T23:59:59Z", "2200-01-01T00:00:01Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", 9e10, -9e10,
     10**17, -(10**17), pytest.param(10**5000, id="huge"), float("nan"), float("inf"), 1e308],
)  # fmt: skip
def test_times_that_cannot_be_meant(value):
    with pytest.raises(ValueError, match="between 1900 and 2200"):
        parse_time(value)


@settings(deadline=None)
@given(st.integers(YEAR_1900, YEAR_2200))
def test_what_is_written_can_be_read(micros):
    assert parse_time(format_time(micros)) == micros


@settings(deadline=None)
@given(
    st.datetimes(
        datetime(1901, 1, 1), datetime(2199, 1, 1),  # noqa: DTZ001  hypothesis adds the zone
        timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
)  # fmt: skip
def test_any_zone(moment):
    assert parse_time(moment.isoformat()) == (moment - EPOCH) // MICROSECOND


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (MARCH, "2026-03-01T09:30:00Z"),
        (MARCH + 1, "2026-03-01T09:30:00.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_format(micros, text):
    assert format_time(micros) == text


def test_now_is_now():
    before = datetime.now(timezone.utc)
    assert format_time(now()) >= before.isoformat(timespec="seconds").replace("+00:00", "Z")[:-1]
    assert now() <= (datetime.now(timezone.utc) - EPOCH) // MICROSECOND


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_how_long_ago(text, seconds):
    before = now()
    found = parse_moment(text)
    assert before <= found + seconds * 1_000_000 <= now()


def test_a_bare_day_ends_when_the_next_begins():
    assert parse_moment("2026-03-01") == parse_time("2026-03-01T00:00:00Z")
    assert parse_moment("2026-03-01", end=True) == parse_time("2026-03-02T00:00:00Z")
    assert parse_moment("2026-03-01T09:30:00Z", end=True) == parse_time("2026-03-01T09:30:00Z")


@pytest.mark.parametrize("text", ["7", "d", "-7d", "7 days", "999999999w", "٧d", "yesterday", ""])
def test_what_is_no_moment(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_moment(text)
