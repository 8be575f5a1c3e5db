"""Who holds a lock, and what it says of itself. (That it is free after kill -9 is tested with the jobs.)"""

from __future__ import annotations

import os
import stat

from powermem_cli import lock


def test_one_has_it_until_it_is_closed(tmp_path):
    path = tmp_path / "lock"
    assert lock.holder(path) is None
    held = lock.acquire(path, "powermem add -f a.jsonl")
    assert held is not None
    assert lock.acquire(path) is None
    said = lock.holder(path)
    assert said is not None
    assert said.startswith(f"process {os.getpid()} on ")
    assert said.endswith(": powermem add -f a.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    held.close()
    assert lock.holder(path) is None
    again = lock.acquire(path)
    assert again is not None
    again.close()


def test_no_password_of_a_store_is_written_down(tmp_path):
    held = lock.acquire(tmp_path / "lock", "powermem add --db postgresql://ana:hunter2@db.example/memories")
    assert held is not None
    said = lock.holder(tmp_path / "lock")
    held.close()
    assert "postgresql://…@db.example/memories" in str(said)
    assert "hunter2" not in str(said)


def test_a_long_command_is_cut(tmp_path):
    held = lock.acquire(tmp_path / "lock", "x" * 10_000)
    assert held is not None
    assert len(str(lock.holder(tmp_path / "lock"))) <= lock.LONGEST
    held.close()
