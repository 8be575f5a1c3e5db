from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings, strategies as st

from powermem_cli.output.safe import safe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain [/nope] [bold]x", "plain [/nope] [bold]x"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x1b]52;c;eA==\x07", r"\x1b]52;c;eA==\x07"),
        ("a\rb\x00\x08", r"a\rb\x00\x08"),
        ("\x7f\x80\x85\x9b\x9f", r"\x7f\x80\x85\x9b\x9f"),
        ("\u202eabc\u202c \u2066x\u2069", r"\u202eabc\u202c \u2066x\u2069"),
        ("\u2028\u2029\ufeff\ufff9\ufffb", r"\u2028\u2029\ufeff\ufff9\ufffb"),
        ("a\U000e0041\U000e007f", r"a\U000e0041\U000e007f"),
        ("\ud800\udcff", r"\ud800\udcff"),
    ],
)
def test_the_unsafe_becomes_visible(text, shown):
    assert safe(text) == shown


@pytest.mark.parametrize(
    "text",
    ["نص\u200f عربي\u200e", "क्\u200dष", "می\u200cخواهم", "👩\u200d👩\u200d👧", "❤\ufe0f", "e\u0301", "漢字", "\xa0", "\xad", "\u2065", "\ufffd"],
)  # fmt: skip
def test_what_scripts_and_emoji_need_stays(text):
    assert safe(text) is text
    assert safe(text, single_line=True) is text


def test_a_single_line():
    assert safe("a\tb\nc\r\n", single_line=True) == r"a\tb\nc\r\n"


def unescaped(text: str) -> str:
    """What was shown, read back."""

    def character(found: re.Match[str]) -> str:
        named = {r"\t": "\t", r"\n": "\n", r"\r": "\r"}.get(found.group())
        digits = found.group()[2:]
        return named or chr(int(digits, 16))

    return re.sub(r"\\[tnr]|\\x..|\\u....|\\U.{8}", character, text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\\"), max_size=50), st.booleans())
def test_no_control_is_left_and_nothing_is_lost(text, single_line):
    shown = safe(text, single_line=single_line)
    left = shown if single_line else shown.replace("\n", "").replace("\t", "")
    assert not {unicodedata.category(character) for character in left} & {"Cc", "Cs"}
    assert safe(shown, single_line=single_line) == shown
    assert unescaped(shown) == text


def test_every_character_alone():
    changed = [code for code in range(0x110000) if safe(chr(code), single_line=True) != chr(code)]
    ranges = [
        (0x00, 0x1F), (0x7F, 0x9F), (0x2028, 0x2029), (0x202A, 0x202E), (0x2066, 0x2069), (0xD800, 0xDFFF),
        (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB), (0xE0000, 0xE007F),
    ]  # fmt: skip
    assert changed == [code for first, last in ranges for code in range(first, last + 1)]
    assert len(changed) == len({safe(chr(code), single_line=True) for code in changed})
