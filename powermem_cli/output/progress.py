"""How far a run has come: a bar on a terminal, a line now and then in a log, or nothing.

The bar is one line that whoever calls `update` writes over: no thread, and no cursor to give back after a crash.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TextIO

from powermem_cli.output.console import encodable, has_colour, is_terminal, marks_for, width_of
from powermem_cli.output.safe import safe

Mode = Literal["auto", "bar", "log", "none"]
Clock = Callable[[], float]

_REDRAW_AFTER: Final = 0.1  # seconds
_LOG_AFTER: Final = 5.0  # seconds
_SPEED_OVER: Final = 10.0  # seconds: the last part of the run, which the speed is taken from
_TROUBLES: Final = ("retried", "rejected", "failed")
_NOT_ENDED: Final = frozenset({"retried", "not_started"})
_LABEL_WIDTH: Final = 24
_BAR_WIDTH: Final = (10, 30)
_GAP: Final = "  "
_OVERWRITE: Final = "\r\x1b[K"
_GREEN: Final = "32"
_BOLD: Final = "1"  # stands out on every background; the yellow of many terminals is not seen on white
_DIM: Final = "2"


class Progress(Protocol):
    """Told by the one who works: start, then updates and messages in any number, then finish."""

    def start(self, total_bytes: int | None, label: str = "", done_bytes: int = 0) -> None:
        """*total_bytes* of *label* are to be read, None if nobody knows; *done_bytes* of them are behind us."""
        ...

    def update(self, bytes_read: int, counts: Mapping[str, int]) -> None:
        """*bytes_read* is counted from the start of the input; *counts* are records by status, and "retried"."""
        ...

    def message(self, text: str) -> None:
        """A line of talk between two updates."""
        ...

    def finish(self) -> None:
        """Leave the stream at the start of a line."""
        ...


def progress_for(
    mode: Mode, stream: TextIO, environ: Mapping[str, str] = os.environ, clock: Clock = time.monotonic
) -> Progress:
    """*auto* is a bar on a terminal that can write over a line, and nothing elsewhere: cron mails what it gets."""
    if mode == "auto":
        mode = "bar" if is_terminal(stream) and environ.get("TERM") != "dumb" else "none"
    if mode == "bar":
        return Bar(stream, environ, clock)
    return Log(stream, clock) if mode == "log" else Silent(stream)


class Silent:
    """No word but the messages."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False

    def start(self, total_bytes: int | None, label: str = "", done_bytes: int = 0) -> None:
        pass

    def update(self, bytes_read: int, counts: Mapping[str, int]) -> None:
        pass

    def message(self, text: str) -> None:
        self._write(encodable(safe(text), self._stream) + "\n")

    def finish(self) -> None:
        pass

    def _write(self, text: str) -> None:
        if self._gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # Who watched has left: the terminal is hung up, or the disk behind 2> is full. The work goes on.
            self._gone = True


class Log(Silent):
    """A line every few seconds."""

    every = _LOG_AFTER

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._next = 0.0
        self._label = ""
        self._course = Course(None, 0, 0.0)
        self._bytes = 0
        self._counts: Mapping[str, int] = {}

    def start(self, total_bytes: int | None, label: str = "", done_bytes: int = 0) -> None:
        now = self._clock()
        self._next = now + self.every
        self._label = encodable(safe(label, single_line=True), self._stream)
        self._course = Course(total_bytes, done_bytes, now)
        self._bytes = done_bytes

    def update(self, bytes_read: int, counts: Mapping[str, int]) -> None:
        self._bytes = bytes_read
        self._counts = counts
        now = self._clock()
        if now >= self._next:
            self._next = now + self.every
            self._show(self._course.at(now, bytes_read, counts))

    def _show(self, place: Place) -> None:
        self.message(", ".join([part.strip() for part in (self._label, *place.parts().values()) if part]))


class Bar(Log):
    """One line, written over a few times a second."""

    every = _REDRAW_AFTER

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ, clock: Clock = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._environ = environ
        self._marks = marks_for(stream)
        self._colour = has_colour(stream, environ)
        self._label_width = 0
        self._line = ""

    def start(self, total_bytes: int | None, label: str = "", done_bytes: int = 0) -> None:
        from rich.cells import cell_len, set_cell_size  # noqa: PLC0415  some characters take two columns

        super().start(total_bytes, label, done_bytes)
        if cell_len(self._label) > _LABEL_WIDTH:
            ellipsis = self._marks.ellipsis
            self._label = set_cell_size(self._label, _LABEL_WIDTH - len(ellipsis)) + ellipsis
        self._label_width = cell_len(self._label)
        self._show(self._course.at(self._clock(), done_bytes, {}))

    def message(self, text: str) -> None:
        self._write(_OVERWRITE if self._line else "")
        super().message(text)
        self._write(self._line)

    def finish(self) -> None:
        if self._line and not any(self._counts.values()):  # nothing came of it: why, somebody else says
            self._write(_OVERWRITE)
        elif self._line:
            self._show(self._course.at(self._clock(), self._bytes, self._counts))
            self._write("\n")
        self._line = ""

    def _show(self, place: Place) -> None:
        self._line = self._drawn(place, width_of(self._stream, self._environ) - 1)  # the last column might wrap
        self._write(_OVERWRITE + self._line)

    def _drawn(self, place: Place, width: int) -> str:
        """As many parts as there is room for, the important ones first; what is left over makes the bar longer."""
        parts = {"label": self._label, "bar": "" if place.share is None else " " * _BAR_WIDTH[0]}
        parts |= place.parts(f" {self._marks.dot} ")
        used, chosen = -len(_GAP), set()
        for name in ("share", "records", "troubles", "bar", "left", "label", "speed"):
            cost = len(_GAP) + (self._label_width if name == "label" else len(parts[name]))
            if parts[name] and used + cost <= width:
                used += cost
                chosen.add(name)
        if place.share is not None:
            parts["bar"] = self._bar(place.share, min(_BAR_WIDTH[0] + width - used, _BAR_WIDTH[1]))
        parts["troubles"] = self._painted(parts["troubles"], _BOLD)
        return _GAP.join([text for name, text in parts.items() if name in chosen])

    def _bar(self, share: float, width: int) -> str:
        halves = int(share * width * 2)
        done = self._marks.bar * (halves // 2) + self._marks.bar_end * (halves % 2)
        return self._painted(done, _GREEN) + self._painted(self._marks.bar_rest * (width - len(done)), _DIM)

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and text else text


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands; None is what nobody can know."""

    share: float | None
    records: int
    speed: float | None  # records per second
    left: float | None  # seconds
    troubles: Mapping[str, int]

    def parts(self, between: str = ", ") -> dict[str, str]:
        """In the order in which they are read; "" for what is not known."""
        speed = None if self.speed is None else f"{self.speed:,.0f}/s" if self.speed >= 10 else f"{self.speed:.1f}/s"
        return {
            "share": "" if self.share is None else f"{int(self.share * 100):3d}%",
            "records": f"{self.records:,} record{'' if self.records == 1 else 's'}",
            "speed": speed or "",
            "left": "" if self.left is None else f"{_clock_face(self.left)} left",
            "troubles": between.join([f"{number:,} {name}" for name, number in self.troubles.items()]),
        }


class Course:
    """The last seconds of a run, for its speed."""

    def __init__(self, total_bytes: int | None, done_bytes: int, now: float) -> None:
        self._total = total_bytes
        self._seen = deque([(now, done_bytes, 0)])

    def at(self, now: float, bytes_read: int, counts: Mapping[str, int]) -> Place:
        records = sum([number for name, number in counts.items() if name not in _NOT_ENDED])
        self._seen.append((now, bytes_read, records))
        while self._seen[1][0] < now - _SPEED_OVER:
            self._seen.popleft()
        then, bytes_then, records_then = self._seen[0]
        seconds = now - then
        known = self._total is not None and bytes_read <= self._total  # it may have grown meanwhile
        per_second = (bytes_read - bytes_then) / seconds if seconds > 0 else 0.0
        to_read = (self._total or 0) - bytes_read
        return Place(
            share=bytes_read / self._total if known and self._total else None,
            records=records,
            speed=(records - records_then) / seconds if seconds >= _REDRAW_AFTER else None,
            left=to_read / per_second if to_read > 0 and per_second > 0 else None,
            troubles={name: counts[name] for name in _TROUBLES if counts.get(name)},
        )


def _clock_face(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
