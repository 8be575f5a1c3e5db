"""The picture at the top of the README shows what the program says today."""

from __future__ import annotations

import html
import re

import picture
import pytest
from terminal import SGR

SCORE = re.compile(r"\b0\.\d{3}\b")  # the last digit is that of the machine's floating point


def words(text: str) -> list[str]:
    """Line by line, whatever the spaces; they are drawn as no-break spaces, or not at all."""
    return [" ".join(SCORE.sub("0.###", line).split()) for line in text.splitlines() if line.strip()]


def words_of(svg: str) -> list[str]:
    """The texts of each line, which are told by where they stand."""
    matrix = svg.partition('class="powermem-matrix"')[2]
    lines: dict[float, str] = {}
    for height, text in re.findall(r'<text [^>]*\by="([\d.]+)"[^>]*>(.*?)</text>', matrix):
        lines[float(height)] = lines.get(float(height), "") + " " + html.unescape(text)
    return words("\n".join(lines[height] for height in sorted(lines)))


def test_it_is_what_the_program_says(tmp_path):
    """After a change of that: python tests/picture.py"""
    screen = words(SGR.sub("", picture.shown(tmp_path)))
    assert "575 added (652 memories)" in screen[2]
    for theme in picture.THEMES:
        assert words_of(picture.place(theme).read_text("utf-8")) == screen


@pytest.mark.parametrize("theme", picture.THEMES)
def test_it_loads_nothing_from_elsewhere_and_the_readme_shows_it(theme):
    drawing = picture.place(theme)
    svg = drawing.read_text("utf-8")
    assert re.findall(r"https?://[^\"' )]+", svg) == ["http://www.w3.org/2000/svg"]
    assert "@font-face" not in svg
    readme = (picture.REPOSITORY / "README.md").read_text("utf-8")
    assert drawing.relative_to(picture.REPOSITORY).as_posix() in readme.partition("\n## ")[0]
