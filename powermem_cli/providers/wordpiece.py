"""BERT-uncased WordPiece without special tokens: text to the numbers of its tokens, words that are unknown left out."""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

LONGEST_WORD: Final = 100  # characters; longer words are unknown
_WINDOW: Final = 1 << 15  # characters split in one go: str.split holds the interpreter lock until it is done
_CACHE_ENTRIES: Final = 1 << 15
_CACHED_LENGTH: Final = 64  # characters; what is longer hardly comes again

# Characters that str.split takes for white space and the tokenizer for control characters, which vanish.
_FALSE_SPACE = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
_ASCII_WORDS = re.compile(r"[a-z0-9]+|[^a-z0-9]").findall
_CONTROL: Final = {"Cc", "Cf", "Cs", "Co"}
_IDEOGRAPH = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f]"
)


class WordPiece:
    """Splits texts by *vocabulary* (token to number). Safe to use from several threads."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._pieces = _Pieces(vocabulary)

    def encode(self, text: str) -> bytes:
        """The token numbers of *text* as little-endian int32, in order."""
        if _FALSE_SPACE.search(text):
            text = _FALSE_SPACE.sub("", text)
        if len(text) <= _WINDOW:
            return b"".join(map(self._pieces.__getitem__, text.split()))
        return b"".join(b"".join(map(self._pieces.__getitem__, part.split())) for part in _windows(text))

    def ids(self, text: str) -> list[int]:
        """The token numbers of *text*, in order."""
        return [number for (number,) in struct.iter_unpack("<i", self.encode(text))]


class _Pieces(dict[str, bytes]):
    """What stands between two blanks → its token numbers, worked out when first asked for; bounded."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        super().__init__()
        self._vocabulary = vocabulary
        self._longest = max(map(len, vocabulary), default=0)

    def __missing__(self, piece: str) -> bytes:
        numbers = [number for word in _words(piece) for number in self._tokens(word)]
        packed = struct.pack(f"<{len(numbers)}i", *numbers)
        if len(piece) <= _CACHED_LENGTH:
            if len(self) >= _CACHE_ENTRIES:
                self.clear()
            self[piece] = packed
        return packed

    def _tokens(self, word: str) -> list[int]:
        """The longest known beginning, then the longest known continuation, …; none if a part is unknown."""
        whole = self._vocabulary.get(word)
        if whole is not None:
            return [whole]
        if len(word) > LONGEST_WORD:
            return []
        numbers, start, mark = [], 0, ""
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                number = self._vocabulary.get(mark + word[start:end])
                if number is not None:
                    break
            else:
                return []
            numbers.append(number)
            start, mark = end, "##"
        return numbers


def _windows(text: str) -> Iterator[str]:
    """*text* in parts that end at white space where there is any."""
    start = 0
    while start < len(text):
        end = start + _WINDOW
        if end < len(text):
            kept = text[start:end].rsplit(None, 1)[0]
            end = start + len(kept) if len(kept) < _WINDOW else end
            end = max(end, start + 1)
        yield text[start:end]
        start = end


def _words(piece: str) -> list[str]:
    """The words and punctuation marks of *piece*, lower case and without accents."""
    if piece.isascii() and piece.isprintable():
        return _ASCII_WORDS(piece.lower())
    kept = "".join(c for c in piece if c != "\ufffd" and unicodedata.category(c) not in _CONTROL)
    decomposed = unicodedata.normalize("NFD", _IDEOGRAPH.sub(r" \g<0> ", kept))
    # Lower case one by one: as a whole, a final sigma would become another letter.
    plain = "".join(c.lower() for c in decomposed if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if _is_punctuation(c) else c for c in plain).split()


def _is_punctuation(character: str) -> bool:
    if character.isascii():
        return not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")
