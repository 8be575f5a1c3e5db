"""The JSON in what an LLM wrote: fences, prose, thoughts and small slips are looked past, a cut answer is not.

What is not whole is never completed: half a list of facts looks exactly like a whole one.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any, Final

LONGEST: Final = 1_000_000  # characters; an answer of more than that is none
_LONGEST_LITERAL: Final = 100_000  # what ast is given: it is slow, and recursive

_OPEN_THOUGHT = re.compile(r"<(?:think|thinking|reasoning)>", re.IGNORECASE)
_END_OF_THOUGHT = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[\w+-]*[ \t]*$", re.MULTILINE)
_STRING: Final = r'("(?:[^"\\]|\\.)*(?:"|\\?\Z))'
_COMMENT = re.compile(_STRING + r"|//[^\n]*", re.DOTALL)
_SLIP = re.compile(_STRING + r"|,(?=\s*[}\]])|\b(True|False|None)\b", re.DOTALL)
_SINGLE_QUOTED = re.compile(r"[{\[]\s?'")
_OPENING = re.compile(r"[{\[]")
_KEY = re.compile(r"""["'”]\s?:""")
_WORDS: Final = {"True": "true", "False": "false", "None": "null"}
_CURLY: Final = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"'})


class Unusable(Exception):
    """What was wrong with an answer, in words its writer can do something with."""


def values_in(text: str) -> list[Any]:
    """The JSON objects that stand in *text*, each once; or the one value that *text* is. Raises Unusable."""
    if len(text) > LONGEST:
        raise Unusable("it is far too long")
    body = _FENCE.sub("", _without_thoughts(text)).strip().lstrip("\ufeff")
    if not body:
        raise Unusable("it is empty")
    whole = _whole(body)
    if whole is not None:
        return [whole]
    found: list[Any] = []
    for region in _regions(body):
        value = _parsed(region)
        if isinstance(value, dict) and value not in found:
            found.append(value)
        elif value is None and _KEY.search(region):
            raise Unusable("it is not valid JSON")
    if not found:
        raise Unusable("it holds no JSON object")
    return found


def _without_thoughts(text: str) -> str:
    *_, text = _END_OF_THOUGHT.split(text)  # the opening tag is often kept by the server
    if _OPEN_THOUGHT.search(text):
        raise Unusable("it ends in the midst of a thought")
    return text


def _whole(body: str) -> Any:
    """The value that *body* is from end to end; None if it is none."""
    value = _parsed(body) if body[0] in "{[\"'" else None
    if isinstance(value, str) and value.strip()[:1] in {"{", "["}:  # JSON in a string of JSON
        return _parsed(value.strip())
    return value


def _regions(body: str) -> list[str]:
    """The parts from an opening bracket to the one that closes it. Raises Unusable if one is never closed."""
    regions: list[str] = []
    opening = _OPENING.search(body)
    while opening is not None:
        end = _closing(body, opening.start())
        if end is None:
            raise Unusable("it ends before its JSON does")
        regions.append(body[opening.start() : end + 1])
        opening = _OPENING.search(body, end + 1)
    return regions


def _closing(body: str, start: int) -> int | None:
    depth, in_string, escaped = 0, False, False
    for i in range(start, len(body)):
        sign = body[i]
        if in_string:
            in_string = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            in_string = True
        elif sign in "{[":
            depth += 1
        elif sign in "}]":
            depth -= 1
            if depth == 0:
                return i
    return None


def _parsed(text: str) -> Any:
    """The value, slips mended; None if it is none (nobody answers `null`)."""
    value = _strictly(text)
    if value is None:
        value = _strictly(_mended(text.translate(_CURLY) if '"' not in text else text))
    return _literal(text) if value is None else value


def _strictly(text: str) -> Any:
    try:
        return json.loads(text, strict=False, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError):
        return None


def _mended(text: str) -> str:
    text = _COMMENT.sub(lambda found: found.group(1) or "", text)
    return _SLIP.sub(lambda found: found.group(1) or _WORDS.get(found.group(2), ""), text)


def _literal(text: str) -> Any:
    """What stands there as Python writes it, with single quotes."""
    if not _SINGLE_QUOTED.match(text) or len(text) > _LONGEST_LITERAL:
        return None
    try:
        tree = ast.parse(text, mode="eval")
        if any(isinstance(node, ast.Dict) and _has_key_twice(node) for node in ast.walk(tree)):
            return None
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _has_key_twice(node: ast.Dict) -> bool:
    keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
    return len(keys) != len({*keys})


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands there twice")
    return made
