"""What failed is kept until it ends in another way: through kills, damage, and never told twice in one run."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from powermem_cli.errors import ProviderRejected, StoreError
from powermem_cli.failed import PARKED_AFTER, Failed
from powermem_cli.identity import identify
from powermem_cli.model import Record, Rejected, Retried, Source
from powermem_cli.readers import as_reject_line
from powermem_cli.readers.retried import as_retried

ERROR = ProviderRejected("not this one", provider="test")


def record(number: int, version: int = 1) -> Record:
    source = Source("a.jsonl", number + 1, 10 * number)
    return Record(memory=f"text {number}.{version}", key=str(number), source=source)


def opened(folder: Path) -> Failed:
    failed = Failed(folder / "failed.jsonl")
    assert failed.open() is None
    return failed


def note(failed: Failed, one: Record) -> None:
    failed.note(identify(one), as_reject_line(one, ERROR))


def waiting(failed: Failed, *, parked: bool = False) -> list[tuple[str, int]]:
    return [(line["record"]["memory"], line["runs"]) for line in failed.lines(parked=parked)]


def test_it_waits_for_the_next_run_and_not_for_this_one(tmp_path):
    failed = opened(tmp_path)
    note(failed, record(0))
    note(failed, record(0))
    assert (len(failed), waiting(failed)) == (1, [])
    failed.compact()
    assert waiting(opened(tmp_path)) == [("text 0.1", 1)]
    assert stat.S_IMODE((tmp_path / "failed.jsonl").stat().st_mode) == 0o600


def test_runs_are_counted_of_one_version_alone(tmp_path):
    for version in (1, 1, 2):
        failed = opened(tmp_path)
        note(failed, record(0, version))
        note(failed, record(0, version))
        failed.compact()
    assert waiting(opened(tmp_path)) == [("text 0.2", 1)]


def test_after_enough_runs_it_is_parked_until_it_is_revived(tmp_path):
    for version in range(PARKED_AFTER):
        failed = opened(tmp_path)
        assert not failed.is_parked(identify(record(0)))
        note(failed, record(0))
        note(failed, record(1, version))
        failed.compact()
    failed = opened(tmp_path)
    assert (failed.parked, len(failed)) == (1, 2)
    assert waiting(failed, parked=True) == [("text 0.1", PARKED_AFTER)]
    assert failed.is_parked(identify(record(0)))
    assert not failed.is_parked(identify(record(0, version=2)))
    assert failed.revive() == 1
    assert (failed.parked, sorted(waiting(failed))) == (0, [("text 0.1", 0), ("text 1.4", 1)])
    assert waiting(opened(tmp_path))


def test_what_has_ended_is_forgotten_also_after_a_kill(tmp_path):
    failed = opened(tmp_path)
    for number in range(3):
        note(failed, record(number))
    failed.forget(identify(record(1)).key)
    failed.sync()
    failed.close()  # killed here: nothing was tidied up
    assert [text for text, _ in waiting(opened(tmp_path))] == ["text 0.1", "text 2.1"]
    last = opened(tmp_path)
    for number in (0, 2):
        last.forget(identify(record(number)).key)
    last.compact()
    assert list(tmp_path.iterdir()) == []


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2), st.booleans()), max_size=12), cut=st.integers(0))
def test_wherever_a_kill_cuts_it_off_what_stands_before_counts(tmp_path_factory, steps, cut):
    folder = tmp_path_factory.mktemp("job")
    path = folder / "failed.jsonl"
    failed, expected, sizes = opened(folder), [{}], [0]
    for number, version, fails in steps:
        if fails:
            note(failed, record(number, version))
        else:
            failed.forget(identify(record(number)).key)
        now = {**expected[-1], number: f"text {number}.{version}"} if fails else expected[-1].copy()
        if not fails:
            now.pop(number, None)
        expected.append(now)
        sizes.append(path.stat().st_size if path.exists() else 0)
    failed.close()
    if not path.exists():
        return
    at = cut % (sizes[-1] + 1)
    path.write_bytes(path.read_bytes()[:at])
    again = opened(folder)
    possible = (
        [now for now, size in zip(expected, sizes, strict=True) if size <= at][-1],
        *(now for now, size in zip(expected, sizes, strict=True) if size - 1 == at),
    )
    assert {text for text, _ in waiting(again)} in [set(now.values()) for now in possible]
    note(again, record(9))
    again.close()
    assert "text 9.1" in {text for text, _ in waiting(opened(folder))}


def test_no_changed_byte_makes_another_record_of_it(tmp_path):
    failed = opened(tmp_path)
    for number in range(2):
        note(failed, record(number))
    failed.close()
    path = tmp_path / "failed.jsonl"
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        damaged = Failed(path)
        if damaged.open() is not None:
            assert len(damaged) == 0
            (kept,) = tmp_path.glob("*.corrupt-*")
            kept.unlink()
            continue
        for line in damaged.lines():
            item = as_retried(line, str(path))
            if isinstance(item, Rejected):
                assert item.source.file == str(path)  # it moves no mark of an input
            else:
                assert isinstance(item, Retried)
                assert item.memory in {"text 0.1", "text 1.1"}


def test_what_can_not_be_read_is_an_error_that_names_it(tmp_path):
    (tmp_path / "failed.jsonl").mkdir()
    with pytest.raises(StoreError, match=r"failed\.jsonl"):
        Failed(tmp_path / "failed.jsonl").open()


def test_a_link_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text(json.dumps({"precious": True}), "utf-8")
    (tmp_path / "failed.jsonl").symlink_to(victim)
    with pytest.raises(StoreError, match=r"failed\.jsonl"):
        Failed(tmp_path / "failed.jsonl").open()
    assert victim.read_text("utf-8") == json.dumps({"precious": True})
