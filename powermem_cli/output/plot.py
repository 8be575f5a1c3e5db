"""Numbers over days as bars in a terminal, one column of characters per day or per few days."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TextIO

from powermem_cli.output.console import speaks_unicode

HEIGHT: Final = 6
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_ASCII: Final = "  ..::##|"  # as tall, with fewer steps


def places_per_column(numbers: Mapping[int, int], width: int) -> int:
    return -(-(max(numbers) - min(numbers) + 1) // width)


def plot(numbers: Mapping[int, int], width: int, stream: TextIO) -> list[str]:
    """Lines without the days below them. *numbers* of consecutive places, the missing ones 0; at most *width* wide:
    where there are more places, each column is the sum of as many.
    """
    if not numbers:
        return []
    first, last = min(numbers), max(numbers)
    each = places_per_column(numbers, width)
    columns = [0] * ((last - first) // each + 1)
    for place, number in numbers.items():
        columns[(place - first) // each] += number
    most = max(columns)
    marks = _EIGHTHS if speaks_unicode(stream) else _ASCII
    # Whatever is not nothing shows: one of a million is an eighth of a character, too.
    heights = [-(-number * HEIGHT * 8 // most) for number in columns]
    return [
        "".join(marks[min(max(height - 8 * row, 0), 8)] for height in heights).rstrip()
        for row in reversed(range(HEIGHT))
    ]
