"""JSON without the liberties of the standard library: what two programs could read differently is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from json import JSONDecodeError, JSONDecoder
from typing import Any, NoReturn

from powermem_cli.rules import DEEPEST_JSON, LONGEST_NUMBER

BLANK = " \t\r\n"

_STEP = [1 if one in b"[{" else -1 if one in b"]}" else 0 for one in range(256)]
_NO_BRACKETS = bytes(one for one in range(256) if not _STEP[one])
_TOKEN = re.compile(r'["{}\[\]]|-?(?:NaN|Infinity)|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?')
_AFTER_NAME = re.compile(r"[ \t\r\n]*:")
_SURROGATE = re.compile("[\ud800-\udfff]")


class BadJson(ValueError):
    """*at* is the index of the character where it goes wrong."""

    def __init__(self, message: str, at: int, code: str = "input.json") -> None:
        super().__init__(message)
        self.message, self.at, self.code = message, at, code


class _Suspicious(ValueError):
    """Something is wrong that the decoder can't say the place of."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Suspicious
    return made


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise _Suspicious
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if len(digits) > LONGEST_NUMBER or number in {float("inf"), float("-inf")}:
        raise _Suspicious
    return number


def _constant(_name: str) -> NoReturn:
    raise _Suspicious


_decode = JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
).raw_decode
_string = JSONDecoder().raw_decode
_encode = json.JSONEncoder(ensure_ascii=False).encode


def parse(text: str) -> Any:
    """The one JSON value that *text* is. Raises BadJson."""
    if text.count("{") + text.count("[") > DEEPEST_JSON and _depth(text) > DEEPEST_JSON:
        _check(text)  # first: the decoder recurses
    try:
        value, end = _decode(text, len(text) - len(text.lstrip(BLANK)))
    except JSONDecodeError as error:
        raise BadJson(f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}", error.pos) from None
    except _Suspicious:
        _check(text)
        raise
    if end != len(text) and (rest := text[end:].lstrip(BLANK)):
        raise BadJson("not valid JSON: something follows the value", len(text) - len(rest))
    if "\\u" in text and ("\\u0000" in text or (("\\ud" in text or "\\uD" in text) and not _is_unicode(value))):
        _check(text)
    return value


def _depth(text: str) -> int:
    """How deep the brackets go; no step of it is Python code for each character."""
    bare = text.replace("\\\\", "").replace('\\"', "")
    outside = "".join(bare.split('"')[::2])
    brackets = outside.encode("utf-8", "surrogatepass").translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def _is_unicode(value: Any) -> bool:
    try:
        _encode(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(text: str) -> None:
    """Raise BadJson for the first fault of *text* that is not one of grammar."""
    names: list[set[str] | None] = []  # of each open object; None for a list
    for token, at in _tokens(text):
        first = token[0]
        if first == '"':
            _check_string(token[1:], at)
        elif first == ":":
            known = names[-1] if names else None
            if known is not None:
                if token[1:] in known:
                    raise BadJson(f'the key "{token[1:]}" is there twice in one object', at, "input.duplicate_key")
                known.add(token[1:])
        elif first in "{[":
            names.append(set() if first == "{" else None)
            if len(names) > DEEPEST_JSON:
                raise BadJson(f"nested more than {DEEPEST_JSON} deep", at, "input.too_deep")
        elif first in "}]":
            del names[-1:]
        else:
            _check_number(token, at)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """Brackets, numbers, strings (decoded, after a quote) and names (decoded, after a colon too), each with its place."""
    at = 0
    while (found := _TOKEN.search(text, at)) is not None:
        at = found.end()
        if found.group() != '"':
            yield found.group(), found.start()
            continue
        try:
            string, at = _string(text, found.start())
        except JSONDecodeError as error:
            raise BadJson(f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}", error.pos) from None
        yield '"' + string, found.start()
        if _AFTER_NAME.match(text, at):
            yield ":" + string, found.start()


def _check_string(string: str, at: int) -> None:
    if "\0" in string:
        raise BadJson("a string has U+0000", at, "input.character")
    if (lone := _SURROGATE.search(string)) is not None:
        raise BadJson(f"a string has the lone surrogate U+{ord(lone.group()):04X}", at, "input.character")


def _check_number(digits: str, at: int) -> None:
    if digits[-1] in "Ny":
        raise BadJson(f"not valid JSON: there is no {digits}", at, "input.number")
    if len(digits) > LONGEST_NUMBER:
        raise BadJson(f"a number of {len(digits):,} digits", at, "input.number")
    if abs(float(digits)) == float("inf"):
        raise BadJson(f"the number {digits[:40]} is too large", at, "input.number")
