from __future__ import annotations

import enum
import json
import re

import pytest
from hypothesis import given, settings, strategies as st

from powermem_cli.errors import InvalidInput
from powermem_cli.model import Message, Scope
from powermem_cli.rules import (
    DEEPEST_JSON,
    LARGEST_METADATA,
    LONGEST_ID,
    LONGEST_TEXT,
    canonical_json,
    check_id,
    check_messages,
    check_metadata,
    check_scope,
    check_text,
)


def refused(code: str, message: str, check, *values):
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        check(*values)
    assert caught.value.code == code
    return caught.value


class TestText:
    @pytest.mark.parametrize("text", ["x", " tea \r\n", "a\u2028b", "a\u200db", "\ufeffx", "\x1b[31m", "🍵", "\uffff"])
    def test_it_is_kept_as_it_came(self, text):
        assert check_text(text, "memory") is text

    @pytest.mark.parametrize(
        ("value", "code", "message"),
        [
            (None, "input.type", "memory must be text, not null"),
            (3, "input.type", "memory must be text, not a number"),
            (True, "input.type", "memory must be text, not a boolean"),
            (["x"], "input.type", "memory must be text, not a list"),
            (b"x", "input.type", "memory must be text, not bytes"),
            ("", "input.empty", "memory is empty"),
            (" \n\u3000", "input.empty", "memory is empty"),
            ("ab\0", "input.character", "memory has U+0000 at character 2"),
            ("a\udc80", "input.character", "memory has a lone surrogate at character 1"),
        ],
    )
    def test_what_is_refused(self, value, code, message):
        assert refused(code, message, check_text, value, "memory").field == "memory"

    @pytest.mark.parametrize("character", ["a", "é", "語", "🍵"])
    def test_the_length_is_counted_in_bytes(self, character):
        most = LONGEST_TEXT // len(character.encode())
        assert len(check_text(character * most, "memory")) == most
        refused("input.too_long", "memory is longer than 8 MiB", check_text, character * (most + 1), "memory")


class TestId:
    @pytest.mark.parametrize(
        ("value", "kept"),
        [(None, None), ("u1", "u1"), ("U1 ", "U1 "), ("' OR 1=1--", "' OR 1=1--"), (7, "7"), (-7, "-7"), (2**64 - 1, str(2**64 - 1)),
         ("é", "é"), ("e\u0301", "e\u0301"), ("x" * LONGEST_ID, "x" * LONGEST_ID)],
    )  # fmt: skip
    def test_what_is_kept(self, value, kept):
        assert check_id(value, "user_id") == kept

    @pytest.mark.parametrize(
        ("value", "code", "message"),
        [
            (True, "input.type", "user_id must be a string, not a boolean"),
            (1.0, "input.type", "user_id must be a string, not a number"),
            ({}, "input.type", "user_id must be a string, not an object"),
            pytest.param(10**5000, "input.number", "user_id is no 64-bit integer", id="huge"),
            ("", "input.empty", "user_id is empty"),
            ("a\n", "input.character", "user_id has the control character U+000A"),
            ("\x1b", "input.character", "U+001B"),
            ("\x9b", "input.character", "U+009B"),
            ("\ud800", "input.character", "U+D800"),
            ("x" * (LONGEST_ID + 1), "input.too_long", "user_id is longer than 255 bytes"),
            ("語" * 86, "input.too_long", "user_id is longer than 255 bytes"),
        ],
    )
    def test_what_is_refused(self, value, code, message):
        assert refused(code, message, check_id, value, "user_id").field == "user_id"

    def test_a_scope_names_the_part_that_is_wrong(self):
        assert check_scope("u", 7, None) == Scope("u", "7", None)
        assert refused("input.empty", "run_id is empty", check_scope, "u", "a", "").field == "run_id"


class TestMessages:
    @pytest.mark.parametrize(
        ("value", "kept"),
        [
            ("Likes tea", [("user", "Likes tea")]),
            ({"role": "Assistant", "content": "Hi"}, [("assistant", "Hi")]),
            ({"content": "Hi"}, [("user", "Hi")]),
            (["a", {"role": "user", "content": " b "}], [("user", "a"), ("user", " b ")]),
            (({"role": "user", "content": "a"},), [("user", "a")]),
            ([{"role": "user", "content": [{"type": "text", "text": "a"}, "b", {"type": "image_url"}]}], [("user", "a\nb")]),
            ([{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"text": ""}]}], [("user", "a")]),
            ([{"role": "user", "content": [{"type": [], "url": "x"}, "a"]}], [("user", "a")]),
            ([{"content": "a"}, {"role": "assistant", "content": None}], [("user", "a")]),
            ([{"content": "a"}, {"role": "assistant", "content": ""}], [("user", "a")]),
            ([{"content": "a"}, {"role": "assistant", "content": " \n"}], [("user", "a")]),
            ([{"content": "a"}, {"role": "assistant", "content": [" "]}], [("user", "a")]),
            ([{"content": "a"}, {"role": "assistant", "tool_calls": [{"id": "1"}]}], [("user", "a")]),
            ([{"content": "a"}, {"role": "assistant", "function_call": {"name": "f"}}], [("user", "a")]),
        ],
    )  # fmt: skip
    def test_what_is_kept(self, value, kept):
        assert check_messages(value) == tuple(Message(role, content) for role, content in kept)

    @pytest.mark.parametrize(
        ("value", "code", "field", "message"),
        [
            (None, "input.type", "messages", "messages must be text, a message or a list of messages, not null"),
            (3, "input.type", "messages", "not a number"),
            (" ", "input.empty", "messages", "messages is empty"),
            ([], "input.empty", "messages", "messages has no text"),
            ([{"role": "tool", "content": None}], "input.empty", "messages", "messages has no text"),
            ([3], "input.type", "messages[0]", "messages[0] must be a dict with role and content, not a number"),
            (["a", {"role": "user"}], "input.missing", "messages[1]", "messages[1] has no content"),
            ([{"role": 3, "content": "a"}], "input.type", "messages[0].role", "messages[0].role must be a short string"),
            ([{"role": "", "content": "a"}], "input.type", "messages[0].role", "must be a short string"),
            ([{"role": "x" * 65, "content": "a"}], "input.type", "messages[0].role", "must be a short string"),
            ([{"role": "a\n", "content": "a"}], "input.type", "messages[0].role", "must be a short string"),
            ([{"content": 3}], "input.type", "messages[0].content", "messages[0].content must be text, not a number"),
            ([{"content": "\0"}], "input.character", "messages[0].content", "U+0000"),
            ([{"content": [{"type": "text"}]}], "input.type", "messages[0].content", "content[0].text must be text"),
            ([{"content": [{"text": 3}]}], "input.type", "messages[0].content", "content[0].text must be text"),
            ([{"content": [3]}], "input.type", "messages[0].content", "content[0] must be a part with text"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, value, code, field, message):
        assert refused(code, message, check_messages, value).field == field


class TestMetadata:
    @pytest.mark.parametrize("value", [None, {}])
    def test_none_is_empty(self, value):
        assert check_metadata(value) == {}

    def test_it_is_a_copy_of_plain_values(self):
        inner = {"b": [1, (2, 3)]}
        checked = check_metadata({"a": inner, "n": None, "t": True, "f": 1.5, "i": 2**63 - 1, "s": "é"})
        inner["b"].append(4)
        assert checked == {"a": {"b": [1, [2, 3]]}, "n": None, "t": True, "f": 1.5, "i": 2**63 - 1, "s": "é"}

    @pytest.mark.parametrize(
        ("value", "code", "message"),
        [
            ([], "input.type", "metadata must be an object, not a list"),
            ("x", "input.type", "metadata must be an object, not text"),
            ({1: "x"}, "input.type", "metadata has a key that is a number"),
            ({"a": {None: 1}}, "input.type", "metadata.a has a key that is null"),
            ({"a": [b"x"]}, "input.type", "metadata.a must be JSON; bytes is not"),
            ({"a": {1, 2}}, "input.type", "metadata.a must be JSON; set is not"),
            ({"a": float("nan")}, "input.number", "metadata.a is nan"),
            ({"a": [-float("inf")]}, "input.number", "metadata.a is -inf"),
            ({"a": 2**63}, "input.number", "metadata.a is no 64-bit integer"),
            ({"a": "\0"}, "input.character", "metadata.a has U+0000"),
            ({"a": {"b": "\ud800"}}, "input.character", "metadata.a.b has a lone surrogate"),
            ({"\0": 1}, "input.character", "metadata has U+0000"),
        ],
    )
    def test_what_is_refused(self, value, code, message):
        refused(code, message, check_metadata, value)

    def test_the_size_is_counted_in_bytes_of_its_json(self):
        room = LARGEST_METADATA - len('{"k":""}')
        assert check_metadata({"k": "x" * room})
        refused("input.too_long", "metadata is larger than 64 KiB", check_metadata, {"k": "x" * (room + 1)})
        refused("input.too_long", "metadata is larger than 64 KiB", check_metadata, {"k": "語" * (room // 2)})

    def test_the_depth_has_a_limit(self):
        def nested(depth: int) -> object:
            return [nested(depth - 1)] if depth else 1

        assert check_metadata({"a": nested(DEEPEST_JSON - 1)})
        refused("input.too_deep", "nested more than 100 deep", check_metadata, {"a": nested(DEEPEST_JSON)})
        refused("input.too_deep", "nested more than 100 deep", check_metadata, {"a": nested(500)})

    def test_a_message_stays_short_whatever_the_key(self):
        error = refused("input.number", "is no 64-bit integer", check_metadata, {"k" * 100_000: 2**63})
        assert len(error.message) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), JSON, max_size=4))
def test_what_is_json_comes_back_from_its_one_form(value):
    checked = check_metadata(value)
    assert checked == value
    assert json.loads(canonical_json(checked)) == value
    assert canonical_json(dict(reversed(checked.items()))) == canonical_json(checked)


def test_the_one_form():
    assert canonical_json({"b": [1, 1.0, None], "a": "é\n"}) == '{"a":"é\\n","b":[1,1.0,null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


class Colour(enum.IntEnum):
    RED = 1


@settings(deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=3) | st.just(Colour.RED),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()) | st.integers(), inner, max_size=3)
    | st.fixed_dictionaries({"role": st.text(max_size=3), "content": inner}) | st.fixed_dictionaries({"type": inner, "text": inner}),
))  # fmt: skip
def test_anything_is_taken_or_refused(value):
    for check in (check_text, check_id, check_messages, check_metadata):
        try:
            taken = check(value, "it")
        except InvalidInput:
            continue
        json.dumps(taken, default=repr, ensure_ascii=False, allow_nan=False).encode()
