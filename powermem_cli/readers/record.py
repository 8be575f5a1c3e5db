"""One raw row (an object or a text) to a Record: which field is what, and what a record gets that lacks it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from powermem_cli.errors import InvalidInput
from powermem_cli.model import Message, Record, Scope, Source
from powermem_cli.readers import cells
from powermem_cli.readers.base import FIELD_OF, FORMATS, NAMES, Reading
from powermem_cli.readers.keys import key_rule
from powermem_cli.readers.mapping import Mapped
from powermem_cli.readers.rejects import is_reject_line, unwrapped, with_options
from powermem_cli.rules import LONGEST_TEXT, check_id, check_messages, check_metadata, check_scope, check_text
from powermem_cli.times import parse_time

Row = dict[str, Any]

_RANK: Final = {name: rank for names in NAMES.values() for rank, name in enumerate(names)}
_TURNS: Final = {"conversations": ("from", "value"), "chat_messages": ("sender", "text")}
_ROLES: Final = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
_USUAL_ROLES: Final = {"user", "assistant", "system"}
_SURELY_SHORT: Final = LONGEST_TEXT // 4  # characters


class RecordMaker:
    """Makes the Records of one input. *reading* has a format that was found, never "auto"."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._meaning = _meaning_of(reading.format)
        self._mapped = Mapped(reading.mapping) if reading.mapping else None
        self._key_of = key_rule(reading.key)
        self._is_plain = self._meaning is None and self._mapped is None
        self._metadata = check_metadata(reading.metadata)
        self._infer = False if reading.infer is None and FORMATS[reading.format].ready_facts else reading.infer
        self._scope_of = _scopes(reading.scope)
        self._inner: tuple[Any, RecordMaker] | None = None

    def make(self, value: Any, source: Source, size: int) -> Record:
        """Raises InvalidInput, with the field as it is called in *value*."""
        if type(value) is dict and "code" in value and is_reject_line(value):
            return self._again(value, source, size)
        extra: Row = {}
        row = value if self._is_plain else self._meant(value, extra)
        if type(row) is not dict:
            if type(row) is not str:
                raise InvalidInput("a record is an object or a string", code="input.type")
            row = {"memory": row}
        record = self._record(row, extra, source, size)
        return record if self._key_of is None else replace(record, key=self._key_of(value))

    def _record(self, row: Row, extra: Row, source: Source, size: int) -> Record:
        names: dict[str, str] = {}  # of the fields that are there, as they are called in the row
        for name, value in row.items():
            field = FIELD_OF.get(name)
            if field is None:
                extra[name] = value
            elif value is not None:
                if field in names:
                    name = self._rival(row, names[field], name, extra)  # noqa: PLW2901
                names[field] = name
        messages, memory = self._content(row, names, extra)
        key = check_id(row[named], named) if (named := names.get("key")) else None
        created_at = _time(row[named], named) if (named := names.get("created_at")) else None
        expires_at = _time(row[named], named) if (named := names.get("expires_at")) else None
        infer = _flag(row["infer"]) if "infer" in names else self._infer
        if extra or "metadata" in names:
            metadata = check_metadata({**self._metadata, **extra, **_object(row.get("metadata"))})
        else:
            metadata = dict(self._metadata)
        scope = self._scope(row, names)
        return Record(messages, memory, scope, metadata, key, created_at, infer, source, size, expires_at)

    def _rival(self, row: Row, one: str, other: str, extra: Row) -> str:
        """Of two names for one field the better; the other is metadata."""
        better, worse = sorted((one, other), key=_RANK.__getitem__)
        extra[worse] = row[worse]
        return better

    def _content(self, row: Row, names: dict[str, str], extra: Row) -> tuple[tuple[Message, ...], str | None]:
        turns, text = names.get("messages"), names.get("memory")
        if turns and text:
            if (turns == "messages") == (text == "memory"):
                raise InvalidInput(
                    f"{turns} and {text} are both there: a record is a conversation or a memory", code="input.both"
                )
            # One goes by its own name, the other by one that many things have.
            displaced = text if turns == "messages" else turns
            extra[displaced] = row[displaced]
            turns, text = (turns, None) if displaced == text else (None, text)
        if turns:
            return _messages(row[turns], turns), None
        if text:
            return (), check_text(row[text], text)
        raise InvalidInput(_nothing_to_keep(row), code="input.missing", field="memory")

    def _scope(self, row: Row, names: dict[str, str]) -> Scope:
        user, agent, run = names.get("user_id"), names.get("agent_id"), names.get("run_id")
        parts = (user and row[user], agent and row[agent], run and row[run])
        try:
            return self._scope_of(*parts)
        except TypeError:  # a list or an object is none, and can't be looked up either
            return check_scope(*parts)

    def _meant(self, value: Any, extra: Row) -> Any:
        """The row that *value* is in the terms of this format, after --map."""
        if self._mapped is None or type(value) is not dict:
            return self._meaning(value) if self._meaning else value
        rest, fields = self._mapped.taken_from(value)
        if self._meaning is cells.row:
            fields = cells.row(fields)
        row = self._meaning(rest) if self._meaning else rest
        return self._mapped.put_into(row, fields, extra)

    def _again(self, line: Row, source: Source, size: int) -> Record:
        """The record of a line of rejects, read with the options it was read with the first time."""
        value, options = unwrapped(line)
        if not options:
            return self.make(value, source, size)
        if self._inner is None or self._inner[0] != options:
            self._inner = options, RecordMaker(with_options(self._reading, options))
        return self._inner[1].make(value, source, size)


def _meaning_of(format_name: str) -> Callable[[Any], Any] | None:
    module = FORMATS[format_name].row
    if module is None:
        return None
    meaning: Callable[[Any], Any] = importlib.import_module(f"powermem_cli.readers.{module}").row
    return meaning


def _scopes(defaults: Scope) -> Callable[[Any, Any, Any], Scope]:
    @lru_cache(maxsize=4096, typed=True)  # typed: True is no 1
    def scope_of(user_id: Any, agent_id: Any, run_id: Any) -> Scope:
        return check_scope(
            defaults.user_id if user_id is None else user_id,
            defaults.agent_id if agent_id is None else agent_id,
            defaults.run_id if run_id is None else run_id,
        )

    return scope_of


def _messages(value: Any, name: str) -> tuple[Message, ...]:
    if name == "messages":
        return _plain_turns(value) or check_messages(value, name)
    if not isinstance(value, list):
        raise InvalidInput(f"{name} must be a list of messages", field=name, code="input.type")
    who, what = _TURNS[name]
    return check_messages([_turn(one, who, what, f"{name}[{i}]") for i, one in enumerate(value)], name)


def _plain_turns(value: Any) -> tuple[Message, ...]:
    """The turns of a list in which all is as it mostly is; () leaves the judgement to the rules.

    What a reader gives has no U+0000 and no lone surrogates, so length is all that could be wrong with a text.
    """
    if type(value) is not list:
        return ()
    turns = []
    for one in value:
        if type(one) is not dict or len(one) != 2:
            return ()
        role, content = one.get("role"), one.get("content")
        if type(role) is not str or role not in _USUAL_ROLES:
            return ()
        if type(content) is not str or len(content) > _SURELY_SHORT or content.isspace():
            return ()
        if content:
            turns.append(Message(role, content))
    return tuple(turns)


def _nothing_to_keep(row: Row) -> str:
    """A record of another shape: its fields are what --map can name."""
    names = [name for name, value in row.items() if isinstance(value, str) and len(name) < 40 and name not in _RANK][:3]
    said = "neither messages nor memory is there"
    return f"{said}, but {', '.join(names)}: --map memory={names[0]} takes one of them" if names else said


def _turn(value: Any, who: str, what: str, field: str) -> Any:
    """A turn in the words of another program, in ours; what is in ours already stays."""
    if not isinstance(value, Mapping) or who not in value:
        return value
    role = value[who]
    if not isinstance(role, str):
        raise InvalidInput(f"{field}.{who} must be text", field=f"{field}.{who}", code="input.type")
    # Claude gives both; `content` is the one with parts, and may be all there is.
    return {"role": _ROLES.get(role.lower(), role), "content": value.get(what) or value.get("content", "")}


def _time(value: Any, name: str) -> int:
    try:
        return parse_time(value)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}", field=name, code="input.time") from None


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput("infer must be true or false", field="infer", code="input.type")
    return value


def _object(value: Any) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise InvalidInput("metadata must be an object", field="metadata", code="input.type")
    return value or {}
