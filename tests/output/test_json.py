from __future__ import annotations

import io
import json
import os

import pytest
from hypothesis import given, settings, strategies as st

from powermem_cli.output.json import write_document, write_lines

HIT = {
    "id": 7180000000000000123,
    "memory": "Likes tea",
    "score": 0.5,
    "metadata": {"id": 5, "ids": [1]},
    "user_id": "u1",
    "agent_id": None,
}


def written(write, value, encoding="utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    write(value, stream)
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def test_ids_are_text_but_the_users_own_data_stays():
    found = json.loads(written(write_document, {"results": [HIT]}))
    assert found["results"] == [{**HIT, "id": "7180000000000000123"}]
    effects = {"memories": [{"id": 1}], "memory_ids": (2, 3), "record": {"id": 4}, "job": {"id": "j"}}
    assert json.loads(written(write_document, effects)) == {
        "memories": [{"id": "1"}],
        "memory_ids": ["2", "3"],
        "record": {"id": 4},
        "job": {"id": "j"},
    }


def test_a_document_is_laid_out_and_a_line_is_a_line():
    assert written(write_document, {"a": ["é", 1]}) == '{\n  "a": [\n    "é",\n    1\n  ]\n}\n'
    assert written(write_lines, [{"a": "é\n"}, {"b": None}]) == '{"a": "é\\n"}\n{"b": null}\n'
    assert written(write_lines, []) == ""


def test_what_a_terminal_must_not_see_is_escaped():
    text = "\x1b\x7f\x9b\u2028\u202e\ufeff\U000e0041\ud800"
    line = written(write_lines, [{text: text}])
    assert line.isprintable() or line[:-1].isprintable()
    assert line[:-1].isascii()
    assert json.loads(line) == {text: text}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_that_is_not_utf8_gets_ascii(encoding):
    line = written(write_lines, [{"a": "é漢🍵"}], encoding)
    assert line.isascii()
    assert json.loads(line) == {"a": "é漢🍵"}


def test_nan_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_lines([{"a": float("nan")}], io.StringIO())


def test_the_reader_has_a_line_as_soon_as_it_is_written():
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as reader, os.fdopen(writing, "w", encoding="utf-8") as writer:
        write_lines([{"n": 1}], writer)
        assert reader.readline() == '{"n": 1}\n'
        write_document({}, writer)
        assert reader.readline() == "{}\n"


TEXTS = st.text(st.characters(), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.just("metadata"), VALUES), st.sampled_from(["utf-8", "ascii"]))
def test_any_value_comes_back(value, encoding):
    line = written(write_lines, [value], encoding)
    assert line.count("\n") == 1
    assert json.loads(line) == value
