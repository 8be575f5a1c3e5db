"""Days, months and years that a question speaks of, as periods of time: "yesterday", "in March", "am 3. Mai 2024".

English, German, Spanish, French, Chinese and Japanese are read. What is not understood is no period, and takes
nothing from a question.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from typing import Final, NamedTuple

YEARS_BACK: Final = 10  # that a date without its year may be of, besides this one
DAY, WEEK, MONTH, YEAR = _UNIT_NUMBERS = (1, 2, 3, 4)
_DAYS_IN: Final = dict(zip(_UNIT_NUMBERS, (1, 7, 30, 365), strict=True))
_EPOCH: Final = date(1970, 1, 1)
_MICROSECONDS: Final = 86_400_000_000  # of a day


def _numbered(lines: str, start: int = 1) -> dict[str, int]:
    """The words of each line with its number."""
    return {name: number for number, line in enumerate(lines.strip().splitlines(), start) for name in line.split()}


_MONTHS: Final = _numbered("""
    january jan januar jänner enero janvier
    february feb februar febrero février
    march mar märz marzo mars
    april apr abril avril
    may mai mayo
    june jun juni junio juin
    july jul juli julio juillet
    august aug agosto août
    september sep sept septiembre septembre
    october oct oktober okt octubre octobre
    november nov noviembre novembre
    december dec dezember dez diciembre décembre
""")
_WEEKDAYS: Final = _numbered("""
    monday montag lunes lundi
    tuesday dienstag martes mardi
    wednesday mittwoch miércoles mercredi
    thursday donnerstag jueves jeudi
    friday freitag viernes vendredi
    saturday samstag sábado samedi
    sunday sonntag domingo dimanche
""")
_NUMBERS: Final = _numbered("""
    a an one einem einer un una une
    two zwei dos deux
    three drei tres trois
    four vier cuatro quatre
    five fünf cinco cinq
    six sechs seis
""")
_UNITS: Final = _numbered("""
    day days tag tage tagen día días jour jours
    week weeks woche wochen semana semanas semaine semaines
    month months monat monate monaten mes meses mois
    year years jahr jahre jahren año años an ans année
""")
_DAYS_AGO: Final = _numbered("today heute hoy aujourd'hui\nyesterday gestern ayer hier\nvorgestern anteayer", 0)
_DAYS_AGO_CJK: Final = _numbered("今天 今日\n昨天 昨日\n前天 一昨日 おととい", 0)
_LAST_CJK: Final = _numbered("上周 上週 先週 上星期\n上个月 上個月 先月\n去年", WEEK)
_THIS_CJK: Final = _numbered("这周 這週 今週 本周\n这个月 這個月 今月 本月\n今年", WEEK)
_HINTS: Final = frozenset({*_MONTHS, *_WEEKDAYS, *_UNITS, *_DAYS_AGO, "aujourd"})
_NUMBER_OF_A_DATE: Final = re.compile(r"(?:19|20)[0-9]{2}|[0-9]\.\s?[0-9]|[\u3040-\u30ff\u4e00-\u9fff]")


class Period(NamedTuple):
    """From *start* up to and without *end*, in microseconds since 1970 UTC."""

    start: int
    end: int


Days = tuple[date, date]
"""The first one, and the first one after."""
Read = Callable[[re.Match[str], date], Iterator[Days]]


def periods_in(question: str, today: date) -> list[Period]:
    """The periods a question speaks of; a month or day without its year is that of this year and the ten before."""
    if not _NUMBER_OF_A_DATE.search(question) and _HINTS.isdisjoint(re.findall(r"[^\W\d_]+", question.lower())):
        return []
    found: set[Days] = set()
    for pattern, read in _rules():
        for match in pattern.finditer(question):
            with contextlib.suppress(ValueError, OverflowError):  # the year 0 is no time of a memory
                found.update(read(match, today))
        question = pattern.sub(" ; ", question)  # what is read is read once
    return [
        Period((start - _EPOCH).days * _MICROSECONDS, (end - _EPOCH).days * _MICROSECONDS)
        for start, end in sorted(found)
    ]


def prepare() -> None:
    """Do now what the first question that may speak of a time would wait for."""
    _rules()


def _dated(match: re.Match[str], today: date) -> Iterator[Days]:
    """A date of which any part but one may be missing."""
    parts = {name: part for name, part in match.groupdict().items() if part}
    month = parts.get("month", "1")
    number = int(month) if month.isdecimal() else _MONTHS[month.lower()]
    unit = DAY if "day" in parts else MONTH if "month" in parts else YEAR
    years = [int(parts["year"])] if "year" in parts else range(today.year - YEARS_BACK, today.year + 1)
    for year in years:
        with contextlib.suppress(ValueError):  # the 30th of February
            start = date(year, number, int(parts.get("day", "1")))
            yield start, _after(start, unit)


def _month_alone(match: re.Match[str], today: date) -> Iterator[Days]:
    """Behind a preposition; without one only a long name with its capital within the question: "May they march?"."""
    name = match["month"]
    if match["before"] or (name[0].isupper() and len(name) > 3 and match.start()):
        yield from _dated(match, today)


def _days_ago(match: re.Match[str], today: date) -> Iterator[Days]:
    day = today - timedelta({**_DAYS_AGO, **_DAYS_AGO_CJK}[match["name"].lower()])
    yield day, _after(day, DAY)


def _last_weekday(match: re.Match[str], today: date) -> Iterator[Days]:
    day = today - timedelta((today.isoweekday() - _WEEKDAYS[match["name"].lower()] - 1) % 7 + 1)
    yield day, _after(day, DAY)


def _ago(match: re.Match[str], today: date) -> Iterator[Days]:
    """Three weeks ago is that day, half a week to either side."""
    number, days = _number(match), _DAYS_IN[_unit(match)]
    day = today - timedelta(number * days)
    yield day - timedelta(days // 2), day + timedelta(days // 2 + 1)


def _until_now(match: re.Match[str], today: date) -> Iterator[Days]:
    """The last three weeks."""
    yield today - timedelta(_number(match) * _DAYS_IN[_unit(match)]), _after(today, DAY)


def _this_one(match: re.Match[str], today: date) -> Iterator[Days]:
    yield _around(today, _unit(match))


def _last_one(match: re.Match[str], today: date) -> Iterator[Days]:
    start, _ = _around(today, _unit(match))
    yield _around(start - timedelta(1), _unit(match))


def _unit(match: re.Match[str]) -> int:
    name = match["unit"].lower()
    return _UNITS.get(name) or _LAST_CJK.get(name) or _THIS_CJK[name]


def _number(match: re.Match[str]) -> int:
    number = match["number"]
    return int(number) if number.isdecimal() else _NUMBERS[number.lower()]


def _around(day: date, unit: int) -> Days:
    """The day, the week from Monday on, the month or the year that *day* lies in."""
    start = day
    if unit == WEEK:
        start = day - timedelta(day.weekday())
    elif unit != DAY:
        start = day.replace(day=1) if unit == MONTH else day.replace(month=1, day=1)
    return start, _after(start, unit)


def _after(start: date, unit: int) -> date:
    if unit in {DAY, WEEK}:
        return start + timedelta(_DAYS_IN[unit])
    return date(start.year + 1, 1, 1) if unit == YEAR or start.month == 12 else date(start.year, start.month + 1, 1)


def _any(names: Iterable[str]) -> str:
    return "(?:" + "|".join(sorted(names, key=len, reverse=True)) + ")"


_D = r"(?P<day>3[01]|[12][0-9]|0?[1-9])"
_M = r"(?P<month>1[0-2]|0?[1-9])"
_Y = r"(?P<year>(?:19|20)[0-9]{2})(?![0-9])"
_NAME = rf"(?P<month>{_any(_MONTHS)})\b"
_OF = r"\s(?:of\s|de\s)?"
_IN = r"in|during|since|of|until|last|this|early|late|mid|im|seit|Anfang|Mitte|Ende|en|desde|depuis"
_N = rf"(?P<number>[0-9]{{1,3}}|{_any(_NUMBERS)})"
_U = rf"(?P<unit>{_any(_UNITS)})\b"
_LAST = r"last|past|previous|letzte[mnrs]?|vorige[mnrs]?|últim[ao]s?|derniers|dernières"


@functools.cache
def _rules() -> list[tuple[re.Pattern[str], Read]]:
    """Compiled when first asked for: that takes 20 ms."""
    patterns: list[tuple[str, Read]] = [
        (rf"\b{_Y}[-/.]{_M}(?:[-/.]{_D})?(?![0-9])", _dated),
        (rf"\b{_D}\.\s?{_M}\.(?:\s?{_Y})?(?![0-9])", _dated),
        (rf"(?:{_Y}年)?{_M}月(?:{_D}[日号號])?", _dated),
        (rf"{_Y}年", _dated),
        (rf"\b{_D}(?:st|nd|rd|th|er|\.)?{_OF}{_NAME}(?:[.,]?{_OF}{_Y})?", _dated),
        (rf"\b{_NAME}\.?\s(?:the\s)?{_D}(?:st|nd|rd|th)?\b(?:,?\s{_Y})?", _dated),
        (rf"\b{_NAME}[.,]?{_OF}{_Y}", _dated),
        (rf"\b(?P<before>(?:{_IN})[\s-])?{_NAME}", _month_alone),
        (rf"\b(?:{_IN})\s(?:Jahr\s)?{_Y}(?!\s?[€$%])", _dated),
        (rf"\b(?:{_N}\s{_U}\sago)\b", _ago),
        (rf"\b(?:vor|hace|il\sy\sa)\s{_N}\s{_U}", _ago),
        (rf"\b(?:{_LAST})\s{_N}\s{_U}", _until_now),
        (rf"\b(?:{_LAST})\s{_U}", _last_one),
        (rf"\b(?:la|el|l'|le)\s?{_U}\s(?:pasad[ao]|dernière|dernier)\b", _last_one),
        (rf"\b(?:this|diese[mnrs]?|est[ae]|ce|cette)\s{_U}", _this_one),
        (rf"(?P<unit>{_any(_LAST_CJK)})", _last_one),
        (rf"(?P<unit>{_any(_THIS_CJK)})", _this_one),
        (rf"(?P<name>{_any(_DAYS_AGO_CJK)})", _days_ago),
        (rf"\b(?P<name>{_any(_DAYS_AGO)})\b", _days_ago),
        (rf"\b(?:{_LAST})\s(?P<name>{_any(_WEEKDAYS)})\b", _last_weekday),
        (rf"\b(?:on|am|el|le)\s(?P<name>{_any(_WEEKDAYS)})\b", _last_weekday),
    ]
    return [(re.compile(pattern, re.IGNORECASE), read) for pattern, read in patterns]
