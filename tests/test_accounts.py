"""What was asked of providers: sums, words, and the file where it is noted."""

from __future__ import annotations

from powermem_cli.accounts import as_json, in_words, note, noted, since, total
from powermem_cli.providers.base import Usage

SOME = {"extract": Usage(3, 1, 0, 1200, 80), "embed": Usage(40, 0, 2, 5000, 0, estimated=True)}


def test_what_lies_between_two_looks():
    before = {"embed": Usage(10, 0, 1, 1000)}
    assert since(before, {"embed": Usage(50, 0, 3, 6000), "rerank": Usage()}) == {"embed": Usage(40, 0, 2, 5000)}
    assert since({}, {"embed": Usage()}) == {}


def test_all_stages_together_and_each():
    assert total(SOME) == Usage(43, 1, 2, 6200, 80, estimated=True)
    shown = as_json(SOME)
    assert shown["http"] == {"calls": 43, "retries": 1, "rate_limited": 2}
    assert shown["tokens"] == {"prompt": 6200, "completion": 80, "estimated": True}
    assert shown["stages"]["extract"]["tokens"] == {"prompt": 1200, "completion": 80, "estimated": False}
    assert as_json({})["http"] == {"calls": 0, "retries": 0, "rate_limited": 0}


def test_in_words():
    assert in_words(SOME) == "43 calls (3 extract, 40 embed; 1 again) · ~6,280 tokens"
    assert in_words({"embed": Usage(1, 0, 0, 9)}) == "1 call · 9 tokens"
    assert in_words({"embed": Usage(3, 2, 0, 9), "extract": Usage()}) == "3 calls (2 again) · 9 tokens"
    assert in_words({}) == ""


def test_what_is_noted_adds_up_for_each_store(tmp_path):
    note(tmp_path, "a", SOME)
    note(tmp_path, "a", {"embed": Usage(1, 0, 0, 10)})
    note(tmp_path, "b", {"embed": Usage(7, 0, 0, 70)})
    assert noted(tmp_path, "a") == {**SOME, "embed": Usage(41, 0, 2, 5010, estimated=True)}
    assert noted(tmp_path, "b") == {"embed": Usage(7, 0, 0, 70)}
    assert noted(tmp_path, "c") == {}


def test_it_is_for_nobody_else_and_nothing_is_noted_for_nothing(tmp_path):
    note(tmp_path, "a", {"embed": Usage()})
    assert list(tmp_path.iterdir()) == []
    note(tmp_path, "a", SOME)
    [file] = tmp_path.glob("spent/a/*.jsonl")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_line_that_was_not_written_whole_counts_as_nothing(tmp_path):
    note(tmp_path, "a", SOME)
    [file] = tmp_path.glob("spent/a/*.jsonl")
    whole = file.read_bytes()
    for damage in (b'{"at": 1, "stages": {"embed": {"calls": 4', b"[]\n", b'{"stages": {"embed": 3}}\n', b"\xff\n"):
        file.write_bytes(whole + damage)
        assert noted(tmp_path, "a") == SOME
