"""The picture at the top of the README, from a real run: `python tests/picture.py` draws it anew.

What differs from run to run is left out (speed) or the same each time (ids); tests/test_picture.py compares the rest.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from program import Powermem
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text
from terminal import in_terminal

REPOSITORY: Final = Path(__file__).parents[1]
PICTURES: Final = REPOSITORY / "samples" / "pictures"
COLUMNS: Final = 96
COMMANDS: Final = (
    ("add", "--file", "chats.jsonl"),
    ("search", "what is our daughter allergic to?", "--user", "ana", "-k", "3"),
    ("add", "--file", "chats.jsonl"),
)
_ERASE: Final = "\r\x1b[K"
_SPEED: Final = re.compile(r"\s+[\d.]+ s · [\d,]+/s|  [\d,.]+/s(?=  |$)", re.MULTILINE)
_FIRST_ID: Final = 228140915712000000

_LIGHT: Final = TerminalTheme(
    (255, 255, 255),
    (36, 41, 47),
    [
        *((36, 41, 47), (207, 34, 46), (17, 99, 41), (122, 78, 0)),
        *((9, 105, 218), (130, 80, 223), (27, 124, 131), (87, 96, 106)),
    ],
)
THEMES: Final = {"dark": SVG_EXPORT_THEME, "light": _LIGHT}

# Rich's own form without the web font: what a reader's machine has for a terminal will do.
_FORM: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix, .{unique_id}-title {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
.{unique_id}-matrix {{ font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def shown(folder: Path) -> str:
    """What a terminal shows of COMMANDS, with its colours."""
    powermem = Powermem(folder)
    shutil.copy(REPOSITORY / "samples" / "chats.jsonl", folder)
    screen = []
    for command in COMMANDS:
        words = [f'"{word}"' if " " in word else word for word in command]
        code, said = in_terminal(powermem, *command, columns=COLUMNS)
        assert code == 0, said
        lines = [line.rpartition(_ERASE)[2] for line in said.rstrip("\n").split("\n")]
        screen += [f"\x1b[1m$ powermem {' '.join(words)}\x1b[0m", *lines, ""]
    return _steady("\n".join(screen))


def drawn(screen: str, theme: str) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Text.from_ansi(screen))
    svg = console.export_svg(title="powermem", theme=THEMES[theme], code_format=_FORM, unique_id="powermem")
    if theme == "light":  # rich frames its window as on a dark page
        svg = svg.replace("rgba(255,255,255,0.35)", "rgba(31,35,40,0.25)")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def place(theme: str) -> Path:
    return PICTURES / f"first-minute-{theme}.svg"


def _steady(screen: str) -> str:
    ids: dict[str, str] = {}
    without_speed = _SPEED.sub("", screen)
    return re.sub(
        r"(?<!\d)\d{18}(?!\d)", lambda found: ids.setdefault(found[0], str(_FIRST_ID + len(ids))), without_speed
    )


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        screen = shown(Path(name))
    PICTURES.mkdir(exist_ok=True)
    for theme in THEMES:
        place(theme).write_text(drawn(screen, theme), "utf-8")
    print(screen)
