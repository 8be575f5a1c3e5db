"""The sample questions, asked in other words than were said, find the memory they ask for."""

from __future__ import annotations

import asyncio

from benchmarks.evaluate import SAMPLES, ask_all, hit_rate, sample_records


def test_most_questions_find_their_memory_among_the_first_five(tmp_path):
    asked = asyncio.run(ask_all({"vector_store": {"provider": "sqlite", "config": {"path": str(tmp_path / "s.db")}}}))
    assert len(asked) >= 100
    assert hit_rate(asked, 5) >= 0.9
    assert hit_rate(asked, 30) >= 0.97


def test_the_samples_are_what_the_readme_says():
    chats = [record for record in sample_records() if record.messages]
    months = {record.created_at // (30 * 86_400_000_000) for record in chats if record.created_at is not None}
    assert len(chats) == len((SAMPLES / "chats.jsonl").read_text("utf-8").splitlines()) == 575
    assert len({record.scope.user_id for record in chats}) >= 5
    assert len(months) >= 6
