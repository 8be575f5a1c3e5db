"""What is fuzzed: for each parser a check of any bytes, which raises where the parser breaks a promise.

A check lets pass what the parser may raise, and nothing else. Another parser is a function and a line in TARGETS.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readers.strategies import SEEDS, TOKENS
from readers.tools import bare, every_byte_has_its_place, piped

from powermem_cli.checkpoint import Job
from powermem_cli.config import parse_config
from powermem_cli.envfile import read_env_file
from powermem_cli.errors import ConfigError, InvalidInput, UsageError
from powermem_cli.filters import parse_filter
from powermem_cli.model import Rejected, Scope
from powermem_cli.output.safe import safe
from powermem_cli.providers.verdict import Asked, judge, judge_error_in_success, named_limits, retry_after
from powermem_cli.readers import Reading, as_reject_line
from powermem_cli.readers.strict_json import BadJson, parse
from powermem_cli.times import YEAR_1900, YEAR_2200, format_time, parse_time


@dataclass(frozen=True)
class Target:
    """*check* takes any bytes; *seeds* are good input, and *tokens* are worth putting into it."""

    check: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    tokens: tuple[bytes, ...] = tuple(TOKENS)


ENCODINGS = (None, None, None, "utf-16-le", "cp1252", "gb18030")
MAPPINGS: tuple[dict[str, str], ...] = ({}, {}, {"memory": "a.0.b", "metadata.x": "user"})


def reader(name: str, format_name: str) -> Target:
    """The first two bytes choose how the others are read."""

    def check(data: bytes) -> None:
        how, step, content = data[:1], data[1:2], data[2:]
        chosen = how[0] if how else 0
        reading = Reading(
            format=format_name,
            encoding=ENCODINGS[chosen % len(ENCODINGS)],
            mapping=MAPPINGS[chosen % len(MAPPINGS)],
            scope=Scope("me"),
        )
        items = every_byte_has_its_place(name, reading, content, 1 + (step[0] if step else 0))
        for item in items:
            if isinstance(item, Rejected):
                check_reject_line(item, reading)

    return Target(check, tuple(b"\0\0" + seed for seed in ([SEEDS[name]] if format_name != "auto" else SEEDS.values())))


def check_reject_line(item: Rejected, reading: Reading) -> None:
    """What is written of a reject is strict JSON on one line, and is one item again, whatever it has become."""
    if reading.format == "auto":
        return
    line = as_reject_line(item, reading=reading)
    assert "\n" not in line
    parse(line)
    [again] = bare(piped(line.encode() + b"\n", format="jsonl"))
    assert again is not None


def check_strict_json(data: bytes) -> None:
    """Never more lenient than the standard library, and the same value."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(BadJson):
        value = parse(text)
        assert json.dumps(value, allow_nan=False) == json.dumps(json.loads(text))
        json.dumps(value, ensure_ascii=False).encode()


def check_time(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        micros = parse_time(data.decode("utf-8", "replace"))
        assert YEAR_1900 <= micros <= YEAR_2200
        assert parse_time(format_time(micros)) == micros


def check_filter(data: bytes) -> None:
    with contextlib.suppress(BadJson, InvalidInput):
        parse_filter(parse(data.decode("utf-8", "replace")))


def check_config(data: bytes) -> None:
    with contextlib.suppress(BadJson, ConfigError):
        parse_config(parse(data.decode("utf-8", "replace")))


def check_env_file(data: bytes) -> None:
    with in_a_file(data) as path, contextlib.suppress(ConfigError):
        values, _ = read_env_file(path, "bad.env")
        assert all(isinstance(value, str) for value in values.values())


def check_checkpoint(data: bytes) -> None:
    """A checkpoint that is none costs reading time, no more: it is set aside, or names a place or refuses the store."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UsageError):
        place = Path(folder)
        (place / "checkpoint.json").write_bytes(data)
        (place / "in.jsonl").write_bytes(b"x" * 3000)
        with Job(place, "job", "store", "reading") as job:
            job.resume_at(str(place / "in.jsonl"))


def check_headers(data: bytes) -> None:
    """The headers of an answer that speak of time; the first byte chooses which."""
    names = ("retry-after", "retry-after-ms", "date", "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens")
    lines = data.decode("latin-1").split("\n")
    headers = {names[i % len(names)]: line for i, line in enumerate(lines)} | {"x-ratelimit-limit-tokens": "5"}
    seconds = retry_after(headers)
    assert seconds is None or 0 <= seconds < 1e13
    named_limits(headers)


def check_error_body(data: bytes) -> None:
    """The first two bytes are the status of the answer, the others its body."""
    asked = Asked("fake", "http://127.0.0.1/v1", "model", "key")
    status = 300 + int.from_bytes(data[:2], "big") % 300
    assert judge(asked, status, {}, data[2:]).error.message
    with contextlib.suppress(ValueError, RecursionError):
        judge_error_in_success(asked, json.loads(data[2:]))


def check_safe(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for single_line in (False, True):
        shown = safe(text, single_line=single_line)
        left = shown if single_line else shown.replace("\n", "").replace("\t", "")
        assert not {unicodedata.category(character) for character in left} & {"Cc", "Cs"}
        assert safe(shown, single_line=single_line) == shown


@contextlib.contextmanager
def in_a_file(data: bytes) -> Any:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


DATES = (
    *(b"3.5", b"-1", b"86400", b"Fri, 21 Nov 2026 06:33:56 GMT", b"Friday, 21-Nov-26 06:33:56 GMT", b"6m0s"),
    *(b"2026-03-01T09:30:00.25+01:00", b"1700000000.5", b"1700000000123456", b"1e9", b"nan"),
)
FILTER = b'{"AND": [{"year": {"gte": 2024}}, {"NOT": {"a.b": {"in": [1, "x", null]}}}, {"created_at": {"lt": "2026-01-01"}}]}'
OPERATORS = (b'"like"', b'"OR"', b'"exists"', b'"contains"', b'"user_id"', b"true", b"9" * 20)
CONFIG = (
    b'{"vector_store": {"provider": "sqlite", "config": {"path": "a.db"}}, "llm": {"provider": "openai", "config": {}}}'
)
ENV = b"# settings\nOPENAI_API_KEY='sk-1'\nexport SQLITE_PATH=\"a\\n.db\" # here\nRERANKER_ENABLED=true\nBROKEN\n"
CHECKPOINT = (
    b'{"schema": 1, "job": "job", "store": "store", "reading": "reading", "inputs":'
    b' {"/in.jsonl": {"byte": 5, "line": 1, "head": "00", "tail": "00"}}, "checksum": "00"}'
)
ERROR_BODY = b'\0\x82{"error": {"message": "slow down", "code": "rate_limit", "details": [{"retryDelay": "3s"}]}}'

TARGETS: dict[str, Target] = {
    **{name: reader(name, name) for name in SEEDS},
    "auto": reader("jsonl", "auto"),
    "strict_json": Target(check_strict_json, tuple(SEEDS.values())),
    "time": Target(check_time, DATES, DATES),
    "filters": Target(check_filter, (FILTER,), (*TOKENS, *OPERATORS)),
    "config": Target(check_config, (CONFIG,)),
    "env_file": Target(
        check_env_file, (ENV,), (b"export ", b"'", b'"', b"\\", b"\n", b"${HOME}", b"#", b"\0", b"\xff")
    ),
    "checkpoint": Target(check_checkpoint, (CHECKPOINT,)),
    "headers": Target(check_headers, DATES, (*DATES, b"\n", b"ms", b"9" * 400)),
    "error_body": Target(check_error_body, (ERROR_BODY,)),
    "safe": Target(check_safe, ("a\x1b[31m\u202e\u2028é😀\t\n".encode(), b"\xed\xa0\x80\xff[/nope]")),
}
