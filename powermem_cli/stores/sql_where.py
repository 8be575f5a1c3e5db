"""A Where as an SQL condition for the database servers; how each dialect says a thing is left to a subclass."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from powermem_cli import times
from powermem_cli.filters import LARGEST_INTEGER, All, Filter, Not, Test, Value
from powermem_cli.stores.base import Where

_COMPARE: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_INTEGERS: Final = frozenset({"id", "created_at", "updated_at"})
TRUE: Final = "TRUE"
FALSE: Final = "FALSE"


@dataclass(frozen=True, slots=True)
class Text:
    """An SQL expression for a text: *exact* compares and orders it by code point, *characters* is for LIKE.

    *guard* is a condition under which it is a text at all.
    """

    exact: str
    characters: str
    guard: str = TRUE


@dataclass(frozen=True, slots=True)
class JsonTypes:
    """What the engine calls the types of JSON, as lists of SQL literals."""

    string: str
    number: str
    array: str
    null: str


class Statement(ABC):
    """One statement in the making: conditions become text, and what they compare with is gathered in *values*.

    A condition may be NULL where it does not hold; only NOT has to care.
    """

    types: ClassVar[JsonTypes]

    def __init__(self) -> None:
        self.values: list[Any] = []

    @abstractmethod
    def bind(self, value: Any) -> str:
        """The mark that stands for *value*."""

    @abstractmethod
    def encoded(self, text: str) -> Any:
        """A text as a value to bind that is compared with `Text.exact`."""

    @abstractmethod
    def one_of(self, expression: str, values: Sequence[Any]) -> str:
        """The expression is one of these values, as they would be bound; at least one."""

    @abstractmethod
    def text_column(self, name: str) -> Text: ...

    @abstractmethod
    def json_at(self, path: tuple[str, ...]) -> str:
        """The JSON at a path of object keys, NULL where there is none. A key is letters, digits, _ and - only."""

    @abstractmethod
    def json_type(self, node: str) -> str: ...

    @abstractmethod
    def json_text(self, node: str) -> Text: ...

    @abstractmethod
    def json_value(self, value: Value) -> str:
        """The mark for a value that is compared with JSON."""

    @abstractmethod
    def json_equals(self, path: tuple[str, ...], value: Value) -> str: ...

    @abstractmethod
    def json_one_of(self, node: str, values: Sequence[Value]) -> str: ...

    @abstractmethod
    def json_holds(self, node: str, value: Value) -> str:
        """The array at *node* has this element."""

    @abstractmethod
    def within(self, text: str, part: str) -> str:
        """*part* stands in *text*, both exact."""

    @abstractmethod
    def lower(self, characters: str) -> str: ...

    def where(self, where: Where, *, expired: bool = False) -> str:
        """Scope comes first and is ANDed: no filter can widen it. *expired*: what has expired is among them."""
        scope = (
            ("user_id", where.scope.user_id),
            ("agent_id", where.scope.agent_id),
            ("run_id", where.scope.run_id),
        )
        parts = [f"{self.text_column(name).exact} = {self._exact(id)}" for name, id in scope if id is not None]
        if where.ids is not None:
            parts.append(self.one_of("id", where.ids) if where.ids else FALSE)
        if not expired:
            parts.append(f"(expires_at IS NULL OR expires_at > {self.bind(times.now())})")
        if where.filter is not None:
            parts.append(self.filter(where.filter))
        return _joined(parts, " AND ", TRUE)

    def filter(self, source: Filter) -> str:
        if isinstance(source, Test):
            return self._column_test(source) if source.column else self._json_test(source)
        if isinstance(source, Not):
            return _negated(self.filter(source.part))
        parts = [self.filter(part) for part in source.parts]
        return _joined(parts, " AND ", TRUE) if isinstance(source, All) else _joined(parts, " OR ", FALSE)

    def _exact(self, text: str) -> str:
        return self.bind(self.encoded(text))

    def _column_test(self, test: Test) -> str:
        assert test.column is not None
        if test.op in {"ne", "nin"}:
            return _negated(self._column_test(_positive(test)))
        if test.op == "exists":
            return f"{test.column} IS {'NOT ' if test.value else ''}NULL"
        if test.op in {"eq", "in"}:
            return self._column_in(test.column, _options(test))
        assert not isinstance(test.value, tuple)
        if test.column in _INTEGERS:
            return self._integer_compare(test.column, test.op, test.value)
        return self._text_test(self.text_column(test.column), test.op, test.value)

    def _column_in(self, column: str, options: Iterable[Value]) -> str:
        nothing, values = _split(options)
        parts = [f"{column} IS NULL"] if nothing else []
        if column in _INTEGERS:
            integers = _integers(values)
            parts += [self.one_of(column, integers)] if integers else []
        else:
            texts = [one for one in values if isinstance(one, str)]
            parts += [self._text_in(self.text_column(column), texts)] if texts else []
        return _joined(parts, " OR ", FALSE)

    def _text_in(self, text: Text, options: Sequence[str]) -> str:
        if len(options) == 1:
            return f"{text.exact} = {self._exact(options[0])}"
        return self.one_of(text.exact, [self.encoded(one) for one in options])

    def _integer_compare(self, column: str, op: str, value: Value) -> str:
        if op == "contains" or not isinstance(value, (int, float)) or isinstance(value, bool):
            return FALSE
        # Between integers a fraction says the same as the whole number beside it, and that is exact everywhere.
        bound = (math.floor if op in {"gt", "lte"} else math.ceil)(value)
        if abs(bound) > LARGEST_INTEGER:
            return TRUE if (bound > 0) == (op in {"lt", "lte"}) else FALSE
        return f"{column} {_COMPARE[op]} {self.bind(bound)}"

    def _text_test(self, text: Text, op: str, value: Value) -> str:
        if not isinstance(value, str):
            return FALSE
        if op in {"like", "ilike"}:
            fold = op == "ilike"
            condition = self._like(
                self.lower(text.characters) if fold else text.characters, value.lower() if fold else value
            )
        elif op == "contains":
            condition = self.within(text.exact, self._exact(value))
        else:
            condition = f"{text.exact} {_COMPARE[op]} {self._exact(value)}"
        return condition if text.guard == TRUE else f"({text.guard} AND {condition})"

    def _like(self, characters: str, pattern: str) -> str:
        return f"{characters} LIKE {self.bind(as_like(pattern))} ESCAPE '!'"

    def _json_test(self, test: Test) -> str:
        node = self.json_at(test.path)
        if test.op in {"ne", "nin"}:
            return _negated(self._json_test(_positive(test)))
        if test.op == "exists":
            return _negated(self._no_value(node)) if test.value else self._no_value(node)
        if test.op in {"eq", "in"}:
            return self._json_in(node, test.path, _options(test))
        assert not isinstance(test.value, tuple)
        if test.op == "contains":
            holds = f"({self.json_type(node)} IN ({self.types.array}) AND {self.json_holds(node, test.value)})"
            return f"({holds} OR {self._text_test(self.json_text(node), test.op, test.value)})"
        if isinstance(test.value, str):
            return self._text_test(self.json_text(node), test.op, test.value)
        is_number = f"{self.json_type(node)} IN ({self.types.number})"
        return f"({is_number} AND {node} {_COMPARE[test.op]} {self.json_value(test.value)})"

    def _json_in(self, node: str, path: tuple[str, ...], options: Iterable[Value]) -> str:
        nothing, values = _split(options)
        parts = [self._no_value(node)] if nothing else []
        if len(values) == 1:
            parts.append(self.json_equals(path, values[0]))
        elif values:
            parts.append(self.json_one_of(node, values))
        return _joined(parts, " OR ", FALSE)

    def _no_value(self, node: str) -> str:
        return f"COALESCE({self.json_type(node)}, {self.types.null}) = {self.types.null}"


def as_like(pattern: str) -> str:
    """The pattern with `!` where it has a backslash, which is no plain character in an SQL literal."""
    made: list[str] = []
    characters = iter(pattern)
    for character in characters:
        taken = next(characters, "\\") if character == "\\" else ""
        plain = taken or (character if character not in "%_" else "")
        made.append(("!" + plain if plain in "%_!" else plain) if plain else character)
    return "".join(made)


def _joined(parts: Sequence[str], word: str, empty: str) -> str:
    if len(parts) < 2:
        return parts[0] if parts else empty
    return f"({word.join(parts)})"


def _negated(condition: str) -> str:
    return f"(({condition}) IS NOT TRUE)"


def _positive(test: Test) -> Test:
    return Test(test.column, test.path, "eq" if test.op == "ne" else "in", test.value)


def _options(test: Test) -> tuple[Value, ...]:
    return test.value if isinstance(test.value, tuple) else (test.value,)


def _split(options: Iterable[Value]) -> tuple[bool, list[Value]]:
    """Whether "no value" is among the options, and the others."""
    listed = list(options)
    return None in listed, [one for one in listed if one is not None]


def _integers(values: Iterable[Value]) -> list[int]:
    """Those among them that a 64-bit integer may equal."""
    numbers = [one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)]
    return [int(one) for one in numbers if one == math.floor(one) and abs(one) <= LARGEST_INTEGER]
