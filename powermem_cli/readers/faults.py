"""What is said of a piece of input that is no record: what is wrong, and at which line, column and byte.

The `source` of a Rejected has the byte where the piece begins, so that pieces join up, and the line and column where
it goes wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from powermem_cli.errors import InvalidInput
from powermem_cli.model import Rejected, Source
from powermem_cli.readers.base import LONGEST_RECORD
from powermem_cli.readers.lines import HOLE, LONG, SHOWN
from powermem_cli.readers.strict_json import BadJson

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Faults:
    """*measure* counts the bytes of the input that a piece of UTF-8 was, in the *encoding* of the input."""

    encoding: str
    measure: Callable[[bytes], int]

    def bad_json(self, error: BadJson, text: str, source: Source, size: int) -> Rejected:
        return self.at(error.code, error.message, error.at, text, source, size)

    def at(self, code: str, message: str, at: int, text: str, source: Source, size: int) -> Rejected:
        """*text* goes wrong at its character *at*."""
        place, byte = self._place(text[:at], source)
        return Rejected(code, f"{message} (byte {byte:,})", place, text, size)

    def not_text(self, raw: bytes, source: Source, size: int) -> Rejected:
        """*raw* has U+0000, or is no UTF-8: because the input is none, or is not the encoding it should be."""
        shown = raw.decode("utf-8", "backslashreplace")
        try:
            return self.at("input.character", "U+0000", raw.decode().index("\0"), shown, source, size)
        except UnicodeDecodeError as error:
            before, rest = raw[: error.start].decode(), raw[error.start :]
        # Where it was transcoded, lone surrogates stand for what was no text.
        bad = rest[0] if self.encoding == "utf-8" else ord(rest.decode("utf-8", "surrogatepass")[0])
        what = f"invalid {self.encoding.upper()} byte 0x{bad & 0xFF:02x}"
        if 0xD800 <= bad < 0xDC80 or bad > 0xDCFF:
            what = f"the lone surrogate U+{bad:04X}"
        return self.at("input.encoding", what, len(before), shown, source, size)

    def _place(self, before: str, source: Source) -> tuple[Source, int]:
        """The line and column after *before*, which begins at *source*; and the byte."""
        lines = before.count("\n")
        column = len(before) - before.rfind("\n") if lines else (source.column or 1) + len(before)
        place = source._replace(line=source.line + lines, column=column, lines=source.lines - lines)
        return place, source.byte + self.measure(before.encode())


def against_the_rules(error: InvalidInput, raw: str, source: Source, size: int) -> Rejected:
    return Rejected(error.code, error.message, source, raw, size)


def broken_off(state: int, raw: bytes, trouble: str, source: Source, size: int) -> Rejected:
    """A piece that is LONG, TORN or a HOLE; only its beginning is kept, in a form that is no record by accident."""
    if state == HOLE:
        return Rejected("input.character", f"NULs ({size:,} bytes)", source, "\0 …", size)
    shown = raw[:SHOWN].decode("utf-8", "backslashreplace") + " …"
    if state == LONG:
        limit = LONGEST_RECORD // _MEBIBYTE
        return Rejected("input.too_long", f"longer than {limit} MiB ({size:,} bytes)", source, shown, size)
    return Rejected("input.truncated", f"{trouble} (byte {source.byte + size:,})", source, shown, size)


def quoted(value: str | Mapping[str, str]) -> str:
    """The JSON of a text or a row that came without."""
    return json.dumps(value, ensure_ascii=False)
