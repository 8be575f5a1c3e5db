"""What LLMs really answer: each of the malformed answers is mended into the very facts it holds, or refused whole."""

from __future__ import annotations

import functools
import json

import pytest

from powermem_cli.answers import Found, Verdict, read_facts, read_verdicts
from powermem_cli.loose_json import Unusable

FACTS = ["I live in Rome", 'He said "no, {never}", I left', "我住在北京 [北京]"]
WHOLE = json.dumps({"facts": FACTS}, ensure_ascii=False)
PRETTY = json.dumps({"facts": FACTS}, indent=2)
NOTHING = '{"facts": []}'


@functools.cache
def mended() -> dict[str, str]:
    """Name → an answer that holds exactly FACTS."""
    around = {
        "plain": "{}",
        "fence": "```json\n{}\n```",
        "fence without a name": "```\n{}\n```",
        "tildes": "~~~json\n{}\n~~~",
        "fence that is never closed": "```json\n{}",
        "fence on one line": "```json {}```",
        "prose before": "Sure! Here are the facts:\n{}",
        "prose behind": "{}\nLet me know if you need more.",
        "prose with braces": "As {{you}} asked, [see above]: {}\nI hope {{this}} helps [1].",
        "fence and prose": "Here it is:\n```json\n{}\n```\nDone.",
        "thought": '<think>The user lives in Rome. {{"facts": []}}?</think>\n{}',
        "thought whose beginning was kept": "the user says so much </think>{}",
        "thoughts": "<think>a</think><think>b {{</think>\n\n{}",
        "thinking": "<thinking>Let me see [</thinking>{}",
        "byte order mark": "\ufeff{}",
        "blanks": "\n\n   {}   \n\t",
        "twice the same": "{0}\n{0}",
        "wrapped": '{{"response": {}}}',
    }
    made = {f"{name}, {form}": text.format(body) for name, text in around.items() for form, body in forms().items()}
    made["JSON in a string"] = json.dumps(WHOLE)
    return made


def forms() -> dict[str, str]:
    """Name → an object that holds exactly FACTS, as some model writes it."""
    inner = WHOLE[1:-1]
    return {
        "whole": WHOLE,
        "pretty": PRETTY,
        "comma in the list": WHOLE.replace("]}", ",]}"),
        "comma in the object": WHOLE[:-1] + ",}",
        "commas and lines": PRETTY.replace("\n  ]", ",\n  ]").replace("\n}", ",\n}"),
        "objects": json.dumps({"facts": [{"fact": text} for text in FACTS]}),
        "texts": json.dumps({"facts": [{"text": text, "user_id": "mallory", "confidence": 0.9} for text in FACTS]}),
        "another name": json.dumps({"memories": [{"memory": text} for text in FACTS]}),
        "more than asked": "{" + inner + ', "count": 3, "ok": true, "user_id": "mallory"}',
        "Python's words": "{" + inner + ', "ok": True, "error": None,}',
        "comments": "{\n// what I found\n" + inner + " // that is all\n}",
        "repeats": json.dumps({"facts": [*FACTS, FACTS[0]]}),
        "blank entries": json.dumps({"facts": ["", *FACTS, "  "]}),
        "lone surrogate escapes": json.dumps({"facts": [FACTS[0] + "\0", *FACTS[1:]]}),
    }


@functools.cache  # one of them has ten million characters
def refused() -> dict[str, str]:
    """Name → an answer of no use. None of them says that there are no facts."""
    made = {f"cut after {n} of {len(WHOLE)}": WHOLE[:n] for n in range(1, len(WHOLE))}
    made |= {f"cut in a fence after {n}": "```json\n" + PRETTY[:n] for n in range(12, len(PRETTY), 4)}
    listed = json.dumps([{"fact": text} for text in FACTS])
    made |= {f"cut list after {n}": listed[:n] for n in range(1, len(listed), 5)}
    return made | {
        "nothing": "",
        "blanks": " \n ",
        "null": "null",
        "true": "true",
        "a number": "42",
        "prose": "I could not find any facts.",
        "refusal": "I'm sorry, but I can't help with that.",
        "HTML": "<html><body>502 Bad Gateway</body></html>",
        "SSE": 'data: {"choices": [{"delta": {"content": "x"}}]}\n\ndata: [DONE]',
        "empty object": "{}",
        "error object": '{"error": "rate limit"}',
        "facts are null": '{"facts": null}',
        "facts are a number": '{"facts": 3}',
        "facts are false": '{"facts": false}',
        "an entry is null": '{"facts": ["a fact", null]}',
        "an entry is a number": '{"facts": ["a fact", 7]}',
        "an entry is a list": '{"facts": [["a fact"]]}',
        "an entry of another form": '{"facts": [{"a": "b"}]}',
        "only blank entries": '{"facts": [" ", ""]}',
        "placeholders": '{"facts": ["…", "..."]}',
        "two answers": '{"facts": ["a fact"]}\n{"facts": ["another"]}',
        "two answers, one empty": '{"facts": []} or {"facts": ["another"]}',
        "key twice": '{"facts": ["a fact"], "facts": []}',
        "key twice, single quotes": "{'facts': ['a fact'], 'facts': []}",
        "whole, then cut": '{"facts": ["a fact"]}\n{"fac',
        "broken, then empty": '{"facts": ["a" "b"]} {"facts": []}',
        "empty within broken": '{"facts": ["a", {"facts": []}',
        "unescaped quotes": '{"facts": ["He said "hi" to me"]}',
        "thought without end": '<think>The user lives in Rome {"facts": []}',
        "only a thought": '<think>{"facts": []}</think>',
        "too long a fact": json.dumps({"facts": ["x" * 2049]}),
        "too many facts": json.dumps({"facts": [f"fact {i}" for i in range(101)]}),
        "far too long": '{"facts": ["' + "x" * 10_000_000 + '"]}',
        "very deep": '{"facts": ' + "[" * 50_000 + "]" * 50_000 + "}",
    }


EMPTY = {
    "plain": NOTHING,
    "both": '{"facts": [], "forget": []}',
    "fence": f"```json\n{NOTHING}\n```",
    "prose": f"There is nothing to remember.\n\n{NOTHING}",
    "thought": f"<think>Nothing.</think>{NOTHING}",
    "a bare list": "[]",
}


def test_there_are_enough_of_them():
    assert len(mended()) + len(refused()) > 400


@pytest.mark.parametrize("name", mended())
def test_what_can_be_mended_is(name):
    assert read_facts(mended()[name]) == Found(tuple(FACTS))


@pytest.mark.parametrize("name", refused())
def test_what_cannot_be_mended_is_refused_and_never_no_facts(name):
    with pytest.raises(Unusable) as caught:
        read_facts(refused()[name])
    assert str(caught.value).startswith(('"', "it ", "an entry"))


@pytest.mark.parametrize("name", EMPTY)
def test_no_facts_is_what_says_so(name):
    assert read_facts(EMPTY[name]) == Found(())


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ('["one", "two"]', ("one", "two")),
        ("['one', 'it is \"two\"']", ("one", 'it is "two"')),
        ("{'facts': ['one', None or 'two']}", None),
        ("{“facts”: [“one”, “two”]}", ("one", "two")),
        ('{"facts": "one"}', ("one",)),
        ('{"fact": {"text": "one"}}', ("one",)),
        ('{"facts": ["line one\nline two"]}', ("line one\nline two",)),
        (r'{"facts": ["a \ud83d\ude00 b", "lone \ud800"]}', ("a 😀 b", "lone \ufffd")),
        ('{"facts": ["see http://x.org/a//b, [ok] }"]}', ("see http://x.org/a//b, [ok] }",)),
    ],
)
def test_other_ways_to_write_it(answer, facts):
    if facts is None:
        with pytest.raises(Unusable):
            read_facts(answer)
    else:
        assert read_facts(answer).facts == facts


def test_what_is_to_be_forgotten_stands_apart():
    assert read_facts('{"facts": ["a"], "forget": ["b", "b"]}') == Found(("a",), ("b",))


def decisions(*items: object) -> str:
    return json.dumps({"decisions": items})


@pytest.mark.parametrize(
    ("answer", "verdicts"),
    [
        (decisions({"statement": 1, "event": "ADD"}), [Verdict(1, "ADD")]),
        (decisions({"statement": "1", "event": "add "}), [Verdict(1, "ADD")]),
        (
            decisions({"statement": 1, "event": "UPDATE", "memory": 2, "text": "new"}),
            [Verdict(1, "UPDATE", 2, "new")],
        ),
        (decisions({"statement": 1, "event": "UPDATE", "memory": "2"}), [Verdict(1, "UPDATE", 2)]),
        (decisions({"statement": 1, "event": "DELETE", "id": 1, "user_id": "bob"}), [Verdict(1, "DELETE", 1)]),
        (decisions({"fact": 1, "action": "NOOP", "memory": 99}), [Verdict(1, "NONE")]),
        ('[{"statement": 1, "event": "NONE"}]', [Verdict(1, "NONE")]),
        ('{"statement": 1, "event": "NONE"}', [Verdict(1, "NONE")]),
        ('```json\n{"decisions": [{"statement": 1, "event": "ADD"},]}\n```', [Verdict(1, "ADD")]),
    ],
)
def test_decisions(answer, verdicts):
    assert read_verdicts(answer, 1, 2) == verdicts


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{}",
        decisions(),
        decisions("ADD"),
        decisions({"statement": 1}),
        decisions({"event": "ADD"}),
        decisions({"statement": 1, "event": "REPLACE"}),
        decisions({"statement": 0, "event": "ADD"}),
        decisions({"statement": 2, "event": "ADD"}),
        decisions({"statement": True, "event": "ADD"}),
        decisions({"statement": 1.0, "event": "ADD"}),
        decisions({"statement": 1, "event": "DELETE"}),
        decisions({"statement": 1, "event": "DELETE", "memory": 3}),
        decisions({"statement": 1, "event": "DELETE", "memory": -1}),
        decisions({"statement": 1, "event": "DELETE", "memory": "²"}),
        decisions({"statement": 1, "event": "DELETE", "memory": 227971164582969345}),
        decisions({"statement": 1, "event": "UPDATE", "memory": [1], "text": "new"}),
        decisions({"statement": 1, "event": "UPDATE", "memory": 1, "text": ""}),
        decisions({"statement": 1, "event": "UPDATE", "memory": 1, "text": 7}),
        decisions({"statement": 1, "event": "UPDATE", "memory": 1, "text": "x" * 2049}),
        decisions(*[{"statement": 1, "event": event, "memory": 1, "text": "new"} for event in ("UPDATE", "DELETE")]),
        decisions({"statement": 1, "event": "ADD"})[:-2],
    ],
)
def test_decisions_of_no_use(answer):
    with pytest.raises(Unusable):
        read_verdicts(answer, 1, 2)


def test_every_statement_is_decided():
    with pytest.raises(Unusable, match="nothing about 2, 3"):
        read_verdicts(decisions({"statement": 1, "event": "ADD"}), 3, 1)
