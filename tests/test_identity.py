"""By what a record is known again, and by what not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, strategies as st

from powermem_cli.identity import digest, identify
from powermem_cli.model import Message, Record, Scope, Source

TALK = Record(
    messages=(Message("user", "I like tea"), Message("assistant", "Noted")),
    scope=Scope("anna", "helper", "r1"),
    key="c-1",
)

names = st.none() | st.text("ab", min_size=1, max_size=2)
turns = st.lists(st.builds(Message, st.sampled_from(["user", "ab"]), st.text("ab", min_size=1, max_size=3)), max_size=3)
said = st.tuples(turns.map(tuple), st.none()) | st.tuples(st.just(()), st.text("ab", min_size=1, max_size=3))
records = st.builds(
    lambda what, scope, key, infer: Record(messages=what[0], memory=what[1], scope=scope, key=key, infer=infer),
    said,
    st.builds(Scope, names, names, names),
    names,
    st.sampled_from([None, True, False]),
)


def content_of(record: Record) -> tuple[object, ...]:
    return (record.messages, record.memory, record.scope, record.infer)


def test_where_it_stood_when_it_was_and_what_is_noted_beside_it_say_nothing():
    elsewhere = replace(TALK, metadata={"a": 1}, created_at=1, source=Source("other.jsonl", 7, 100), size=88)
    assert identify(elsewhere) == identify(TALK)


def test_a_key_is_its_own_in_its_scope_whatever_the_record_says():
    longer = replace(TALK, messages=(*TALK.messages, Message("user", "and coffee")))
    assert identify(longer).key == identify(TALK).key
    assert identify(longer).content != identify(TALK).content
    others = [replace(TALK, scope=scope) for scope in (Scope("ben", "helper", "r1"), Scope("anna", "helper"), Scope())]
    assert len({identify(record).key for record in (TALK, *others)}) == 4


def test_without_a_key_the_content_is_the_key():
    plain = replace(TALK, key=None)
    assert identify(plain).key == identify(plain).content == identify(TALK).content


def test_a_key_is_never_taken_for_a_content():
    assert identify(Record(memory="x", key="x")).key not in identify(Record(memory="x"))


@given(records, records)
def test_two_records_are_one_exactly_if_their_keys_or_else_their_contents_are(one, other):
    same_content = content_of(one) == content_of(other)
    assert (identify(one).content == identify(other).content) == same_content
    has_key = one.key is not None or other.key is not None
    same = (one.key, one.scope) == (other.key, other.scope) if has_key else same_content
    assert (identify(one).key == identify(other).key) == same


def test_digests_have_16_bytes_and_tell_texts_apart():
    texts = ["a", "A", "a ", "á", "a\u0301", "漢字", "😀"]
    assert {len(digest(text)) for text in texts} == {16}
    assert len({digest(text) for text in texts}) == len(texts)
    identity = identify(TALK)
    assert (len(identity.key), len(identity.content)) == (16, 16)
