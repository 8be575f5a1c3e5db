"""Which encoding the first bytes of an input announce, and whether they are text at all."""

from __future__ import annotations

import codecs
import re
import shlex
from typing import Final

from powermem_cli.errors import UsageError
from powermem_cli.readers.base import check_encoding

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)

_ZIP: Final = b"PK\x03\x04"
_KINDS = (
    (b"SQLite format 3\0", "an SQLite database"),
    (_ZIP, "a zip archive (or a document that is one)"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data"),
    (b"\xfd7zXZ\0", "xz data"),
    (b"BZh91AY&SY", "bzip2 data"),
    (b"\x04\x22\x4d\x18", "LZ4 data"),
    (b"\x1f\x8b", "gzip data within gzip data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"%PDF-", "a PDF document"),
    (b"PAR1", "a Parquet file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x7fELF", "a program"),
)

SAMPLE: Final = 4096  # bytes that are looked at

_HOLE = re.compile(rb"^\0+|\0{16,}", re.MULTILINE)  # NULs of a writer that crashed: to be rejected
_CONTROLS = bytes({*range(32)} - set(b"\t\n\f\r\x1b"))  # not DEL: a line of rejects, which is JSON, may have it


def encoding_of(head: bytes, wanted: str | None) -> tuple[str, int]:
    """Python's name of the encoding, and the length of the byte order mark. The mark is believed before *wanted*."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    encoding = check_encoding(wanted or "utf-8")
    if encoding in {"utf-16", "utf-32"}:
        raise UsageError(
            f"the input has no byte order mark: which {encoding} is it?", hint=f"{encoding}-le or {encoding}-be"
        )
    return encoding.replace("utf-8-sig", "utf-8"), 0


def _hint(magic: bytes, name: str) -> str:
    if magic == _ZIP and name != "-":  # as ChatGPT and Claude give it to you
        return f"of an export of chats: unzip -p {shlex.quote(name)} conversations.json | powermem add - --user ME"
    return "unpack or export it first"


def check_is_text(head: bytes, name: str) -> None:
    """Raises UsageError for a file of a known binary kind, and for one full of control bytes."""
    for magic, kind in _KINDS:
        if head.startswith(magic):
            raise UsageError(f"{name} looks like {kind}, not like text", hint=_hint(magic, name), code="input.binary")
    if head[257:262] == b"ustar":
        raise UsageError(f"{name} looks like a tar archive, not like text", hint="unpack it first", code="input.binary")
    sample = _HOLE.sub(b"", head[:SAMPLE])
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    # A few may be bad records, to be rejected one by one.
    if controls > 8 and controls * 20 > len(sample):
        nulls = sample.count(0) * 4 > len(sample)
        hint = "if it is UTF-16 without a byte order mark: --encoding utf-16-le" if nulls else None
        raise UsageError(f"{name} is binary, not text", hint=hint, code="input.binary")


def is_exact(encoding: str) -> bool:
    """Whether text has but one form in *encoding*: then the bytes of a piece of it can be counted afterwards."""
    if encoding.startswith(("utf-8", "utf-16", "utf-32")):
        return True
    # A charset of single bytes; the others have shifts, or several codes for one character.
    return len(bytes(range(256)).decode(encoding, "replace")) == 256
