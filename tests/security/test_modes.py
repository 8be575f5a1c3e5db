"""Every file and folder that is made is for its owner alone, from its first moment on and whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from fake_api import DIMS, FakeApi
from program import Powermem

import powermem_cli
from powermem_cli.files import make_folder


def modes(powermem: Powermem, *given: Path) -> dict[str, str]:
    made = [path for path in powermem.folder.rglob("*") if path not in given]
    return {
        str(path.relative_to(powermem.folder)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in made
        if stat.S_IMODE(path.stat().st_mode) != (0o700 if path.is_dir() else 0o600)
    }


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_no_file_of_any_command_is_for_others(powermem, mask):
    """In this process, where the umask that the program itself sets does not help."""
    given = powermem.write("in.jsonl", *({"memory": f"note {number}"} for number in range(50)), 7)
    environ = {"EMBEDDING_PROVIDER": "openai", "EMBEDDING_API_KEY": "sk-1", "EMBEDDING_MODEL": "m"}
    environ["EMBEDDING_DIMS"] = str(DIMS)
    place = powermem.folder / "data" / "deep" / "m.db"
    before = os.umask(mask)
    try:
        with FakeApi() as api:
            environ["OPENAI_EMBEDDING_BASE_URL"] = api.url
            common = ("--db", place, "--log-file", "all.log")
            added = powermem.inside("add", "-f", given, "--batch-size", 8, *common, env=environ)
            assert added.code == 3, added.err
            for name in ("out.jsonl", "out.csv"):
                assert powermem.inside("export", "-o", name, *common, env=environ).code == 0
            assert powermem.inside("config", "init", "-o", "set.env", "--llm", "none", env=environ).code == 0
    finally:
        os.umask(before)
    names = {path.name for path in powermem.folder.rglob("*")}
    assert names >= {"m.db", "rejects.jsonl", "checkpoint.json", "spent", "all.log", "out.jsonl", "out.csv", "set.env"}
    assert modes(powermem, given) == {}


def test_what_is_missing_above_a_folder_is_made_for_its_owner_too(tmp_path):
    before = os.umask(0)
    try:
        for _ in range(2):
            make_folder(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")} == {0o700}
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(OSError, match="file"):
            make_folder(tmp_path / name)


def test_no_mode_is_changed_afterwards():
    """What is opened before it is closed to others may be read by who opened it."""
    package = Path(powermem_cli.__file__).parent
    assert [path for path in package.rglob("*.py") if ".chmod(" in path.read_text("utf-8")] == []
