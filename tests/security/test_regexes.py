"""No input makes a pattern or a parser take for ever. Nothing is timed: what is not linear ends in the time limit."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import pkgutil
import re
from collections.abc import Iterator

import pytest
from readers.tools import piped, rejects

import powermem_cli
from powermem_cli.envfile import read_env_file
from powermem_cli.errors import ConfigError, UsageError
from powermem_cli.output.safe import safe
from powermem_cli.providers.verdict import named_limits, retry_after
from powermem_cli.readers import Reading
from powermem_cli.readers.strict_json import BadJson, parse
from powermem_cli.times import parse_time

LONG = 100_000  # characters: with one step for each pair of them there is no end in sight
SEARCHED = 2_000  # a search may begin at each character, so that pairs are what an honest pattern may take
NOT_OURS = ("powermem_cli.powermem", "powermem_cli.__main__")


def modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(powermem_cli.__path__, "powermem_cli."):
        if found.name not in NOT_OURS:
            yield found.name


def patterns() -> Iterator[tuple[str, re.Pattern]]:
    for name in modules():
        module = importlib.import_module(name)
        for variable, value in vars(module).items():
            if isinstance(value, re.Pattern) and (variable != "UNSAFE" or name.endswith("safe")):
                yield f"{name.removeprefix('powermem_cli.')}.{variable}", value


def adversarial(pattern: re.Pattern, length: int) -> Iterator[str]:
    """Long runs of what the pattern speaks of, with an end that does not fit."""
    spoken = dict.fromkeys([*re.sub(r"\\.|[\[\](){}?*+|^$]", "", str(pattern.pattern))[:12], *'aA0 \t\n"\\.-_:,'])
    pairs = ['\\"', "a ", "0a", "0.", "a.", "a-", '""', "\\\\", "[{", ": ", "\n\n", "é", "0:"]
    for piece in [*spoken, *pairs]:
        yield (piece * (length // len(piece) + 1))[:length] + "\0!"


@pytest.mark.parametrize(("name", "pattern"), list(patterns()), ids=lambda part: part if isinstance(part, str) else "")
def test_a_pattern(name, pattern):
    as_given = (lambda text: text.encode()) if isinstance(pattern.pattern, bytes) else (lambda text: text)
    for text in adversarial(pattern, LONG):
        pattern.match(as_given(text))
        pattern.fullmatch(as_given(text))
    for text in adversarial(pattern, SEARCHED):
        for _ in itertools.islice(pattern.finditer(as_given(text)), SEARCHED * 2):
            pass


def test_there_are_patterns():
    assert len(list(patterns())) > 20


BOMBS = {
    "quotes that never end": b'[{"' + b'\\"' * 500_000,
    "brackets": b"[" * 1_000_000,
    "braces": b'{"a":' * 200_000,
    "brackets in a string": b'{"memory": "' + b"[{" * 500_000 + b'"}',
    "digits": b'{"a": ' + b"9" * 1_000_000 + b"}",
    "a fraction": b'{"a": 1.' + b"9" * 1_000_000 + b"}",
    "an exponent": b'{"a": 1e' + b"9" * 1_000_000 + b"}",
    "backslashes": b'{"a": "' + b"\\" * 1_000_001 + b'"}',
    "surrogates": b'{"a": "' + b"\\ud800" * 150_000 + b'"}',
    "quotes": b'"' * 50_000,
    "blanks": b'{"results"' + b" " * 1_000_000,
    "keys": b"{" + b'"a":1,' * 150_000 + b'"b":1}',
    "cells": b"memory,user\n" + b'"' * 50_000,
    "stray quotes": b"memory,user\n" + b'x"y,"z\n' * 5_000,
    "commas": b"memory," * 9_000 + b"x\n" + b"," * 1_000_000,
    "tabs": b"\t" * 1_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("format_name", ["auto", "jsonl", "json", "csv", "text"])
def test_a_bomb_is_a_reject_or_refused(name, format_name):
    try:
        items = piped(BOMBS[name] + b'\n"last"\n', Reading(format=format_name))
    except UsageError:
        return
    assert len(items) > 0 or name == "tabs"
    assert all(len(item.raw) <= len(BOMBS[name]) + 20 for item in rejects(items))


@pytest.mark.parametrize("depth", [101, 1_000, 100_000, 1_000_000])
def test_depth_is_refused_without_recursion(depth):
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, '[{"a":' * depth):
        with pytest.raises(BadJson) as caught:
            parse(text)
        assert caught.value.code == "input.too_deep"


@pytest.mark.parametrize(
    "text", ["1" * LONG + "!", "1.1" * LONG, "1s" * LONG + "!", "1m1" * LONG, "Fri, 99999999999 Nov 2026 06:33:56 GMT", "Fri, 21 Nov 2026 06:33:56 +99999999999999999999"]
)  # fmt: skip
def test_a_header_of_a_provider(text):
    headers = {"retry-after": text, "date": text, "x-ratelimit-reset-requests": text}
    assert retry_after(headers) is None or retry_after(headers) >= 0
    named_limits({**headers, "x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-requests": "1"})
    with pytest.raises(ValueError):
        parse_time(text)


def test_text_for_a_terminal_and_a_file_of_settings(tmp_path):
    for piece in ("\x1b", "\u202e", "a", "\\"):
        assert len(safe(piece * LONG)) >= LONG
    path = tmp_path / "x.env"
    for line in (
        'SQLITE_PATH="' + "\\" * LONG,
        "SQLITE_PATH='" + "a" * LONG,
        "SQLITE_PATH=" + " " * LONG + "#",
        "export " * LONG,
    ):
        path.write_text(f"{line}\nLLM_MODEL=x\n", "utf-8")
        with contextlib.suppress(ConfigError):
            read_env_file(path, "x.env")
