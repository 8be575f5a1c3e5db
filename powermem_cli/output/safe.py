"""Text of strangers for a terminal: what could move the cursor, hide or reorder becomes visible."""

from __future__ import annotations

import re
from typing import Final

# C0, DEL and C1 command a terminal; bidi embeddings and isolates reorder what is read; line and paragraph separators,
# the byte order mark, interlinear marks and tag characters are not seen; lone surrogates can't be written at all.
# Joiners and the marks U+200E/F stay: Arabic, Hebrew, Indic scripts and emoji need them.
_BELOW_SPACE: Final = "\x00-\x08\x0b-\x1f"
_REST: Final = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
UNSAFE: Final = re.compile(f"[{_BELOW_SPACE}{_REST}]")
_UNSAFE_IN_LINE: Final = re.compile(f"[{_BELOW_SPACE}\t\n{_REST}]")
_NAMED: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def safe(text: str, *, single_line: bool = False) -> str:
    r"""*text* with each unsafe character written as `\x1b` or `\u202e`; with *single_line* tabs and newlines, too."""
    return (_UNSAFE_IN_LINE if single_line else UNSAFE).sub(_visible, text)


def _visible(found: re.Match[str]) -> str:
    character = found.group()
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
