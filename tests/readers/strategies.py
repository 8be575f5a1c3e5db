"""Arbitrary records, and what arbitrary bytes begin from, for the tests that hold for all of them."""

from __future__ import annotations

import codecs

from hypothesis import strategies as st

from powermem_cli.model import Message, Record, Scope
from powermem_cli.readers.base import FIELD_OF
from powermem_cli.times import YEAR_1900, YEAR_2200

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
awkward = st.sampled_from(
    ["\u2028", "\x85", "\r", "\n", '"', "\\", "\\u0000", "{", "]", ",", "\t", "\ufeff", "😀", ": "]
)
text = (
    st.lists(st.text(characters, min_size=1, max_size=8) | awkward, min_size=1, max_size=6)
    .map("".join)
    .filter(lambda one: not one.isspace())
)
one_line = text.map(lambda one: one.replace("\n", " ")).filter(lambda one: not one.isspace() and not one.endswith("\r"))
identifier = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
scope = st.builds(Scope, *[st.none() | identifier] * 3)
leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
value = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)
metadata = st.dictionaries(text.filter(lambda name: name not in FIELD_OF), value, max_size=3)
message = st.builds(Message, st.sampled_from(["user", "assistant", "system", "tool", "x"]), text)
content = st.fixed_dictionaries({"memory": text}) | st.fixed_dictionaries(
    {"messages": st.lists(message, min_size=1, max_size=3).map(tuple)}
)
extras = st.fixed_dictionaries(
    {
        "scope": scope,
        "metadata": metadata,
        "key": st.none() | identifier,
        "created_at": st.none() | st.integers(YEAR_1900, YEAR_2200),
        "infer": st.none() | st.booleans(),
    }
)
any_record = st.builds(lambda one, others: Record(**one, **others), content, extras)

SEEDS = {
    "jsonl": b'{"memory":"a b","user_id":"u"}\n{"messages":[{"role":"user","content":"x"}],"id":1}\r\n"text"\n\n',
    "json": b'[{"memory":"a","metadata":{"x":[1,2]}},\n {"memory":"b"}, "c"]\n{"results":[{"memory":"q"}],"rel":[1]}',
    "csv": b'memory,user,topic\n"a ""b""",u,t\n"multi\nline",u,\n,,\n',
    "tsv": b'memory\tuser\na\tb\n"c\t"\td\n',
    "text": b"one\n two\r\n\nthree",
    "mem0": b'{"results":[{"id":"1","memory":"x","hash":"h"}]}',
    "powermem": b'{"id":"1","memory":"x","user_id":null}\n',
    "chatgpt": b'[{"mapping":{"a":{"message":{"author":{"role":"user"},"content":{"content_type":"text","parts":["hi"]}}}},'
    b'"title":"t","current_node":"a"}]',
    "claude": b'[{"uuid":"1","name":"n","chat_messages":[{"sender":"human","text":"hi"}]}]',
}
TOKENS = [
    *(bytes([one]) for one in b'"\n\r{}[],:\\ \0\xff\xc3;|'),
    *(b"\\u0000", b"\\ud800", b'"results":[', b"null", b"1e999", b"NaN", b"-", codecs.BOM_UTF8, b"\x1f\x8b"),
    *(b'{"code":"x","message":"","record":', b'"options":{"format":"csv"},', b"[" * 200, b'{"a":' * 200),
]
