"""The codes of errors are for programs: none that was released goes away, and each is made by a real fault somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import asyncpg
import pymysql
import pytest
from fake_api import DIMS, FakeApi, Reply

import powermem_cli
from powermem_cli.cli.error_codes import ERROR_CODES
from powermem_cli.errors import PowerMemError
from powermem_cli.paths import home
from powermem_cli.providers.static_model import StaticModel
from powermem_cli.stores import oceanbase_pool, postgres
from powermem_cli.stores.sqlite_file import translated

TESTS = Path(__file__).parents[1]


def test_no_code_that_programs_know_has_gone():
    """A new one is added to the list; what stands there stays, with its meaning."""
    known = Path(__file__).with_name("error_codes.txt").read_text("utf-8").split()
    assert known == sorted(ERROR_CODES)


def test_every_code_is_asked_for_by_a_test():
    texts = [path.read_text("utf-8") for path in TESTS.rglob("*.py")]
    asked = {code for code in ERROR_CODES if any(f'"{code}"' in text for text in texts)}
    assert sorted(set(ERROR_CODES) - asked) == []


def test_no_code_is_made_that_is_not_listed():
    texts = [path.read_text("utf-8") for path in Path(powermem_cli.__file__).parent.rglob("*.py")]
    made = {code for text in texts for code in re.findall(r'code="([a-z_]+\.[a-z_]+)"', text)}
    assert sorted(made - set(ERROR_CODES)) == []


def said_code(powermem, *command, env=None):
    said = powermem.inside(*command, "--json", env=env)
    document = said.json
    assert document["exit_code"] == said.code != 0
    return document["code"] if "code" in document else document["error"]["code"]


def env_file(powermem, text: str, mode: int = 0o600) -> None:
    (powermem.folder / ".env").write_text(text, "utf-8")
    (powermem.folder / ".env").chmod(mode)


REMOTE = {"EMBEDDING_PROVIDER": "openai", "EMBEDDING_MODEL": "m", "EMBEDDING_DIMS": str(DIMS)}


@pytest.mark.parametrize(
    ("code", "command", "env"),
    [
        ("config.invalid", ["add", "x"], {"SQLITE_COLLECTION": "a/b"}),
        ("config.value", ["add", "x"], {"POWERMEM_RETRIES": "many"}),
        ("config.file", ["list", "--config", "nowhere.json"], {}),
        ("config.name", ["config", "show", "llm.nonsense"], {}),
        ("config.password", ["list", "--db", "postgresql://user:secret@127.0.0.1/x"], {}),
        ("config.key", ["add", "x"], {**REMOTE, "EMBEDDING_API_KEY": "sk-ключ"}),
        (
            "config.base_url",
            ["add", "x"],
            {**REMOTE, "EMBEDDING_API_KEY": "sk-1", "OPENAI_EMBEDDING_BASE_URL": "http://192.0.2.1"},
        ),
        ("input.unreadable", ["add", "-f", "nowhere.jsonl"], {}),
    ],
)
def test_a_command_that_ends_in(powermem, code, command, env):
    assert said_code(powermem, *command, env=env) == code


def test_settings_that_others_may_write(powermem):
    env_file(powermem, "LLM_PROVIDER=openai\n", 0o606)
    assert said_code(powermem, "list") == "config.unsafe_file"


def test_a_record_that_failed_too_often(powermem):
    path = powermem.write("in.jsonl", {"memory": "poison"}, {"memory": "x"})
    with FakeApi() as api:
        api.rule = lambda request: Reply(400) if "poison" in str(request.body) else None
        env = {**REMOTE, "EMBEDDING_API_KEY": "sk-1", "OPENAI_EMBEDDING_BASE_URL": api.url}
        for _ in range(6):
            said = powermem.inside("add", "-f", path, "--batch-size", 1, "--no-resume", "--jsonl", env=env)
    failed = [line["error"]["code"] for line in said.jsonl if line.get("status") == "failed"]
    assert failed == ["job.parked"]
    assert said.summary["parked"] == 1


def test_a_failed_record_whose_file_was_changed(powermem):
    path = powermem.write("in.jsonl", {"memory": "poison"}, {"memory": "x"})
    with FakeApi() as api:
        api.rule = lambda request: Reply(400) if "poison" in str(request.body) else None
        env = {**REMOTE, "EMBEDDING_API_KEY": "sk-1", "OPENAI_EMBEDDING_BASE_URL": api.url}
        powermem.inside("add", "-f", path, "--batch-size", 1, env=env)
        (kept,) = powermem.folder.rglob("failed.jsonl")
        kept.write_text(kept.read_text("utf-8").replace("poison", "honey!"), "utf-8")
        said = powermem.inside("add", "-f", path, "--jsonl", env=env)
    assert [line["error"]["code"] for line in said.jsonl if line.get("status") == "rejected"] == ["job.damaged"]
    assert powermem.inside("list", "--json", env=env).json["results"][0]["memory"] == "x"


def test_a_built_in_model_that_is_not_there(tmp_path):
    with pytest.raises(PowerMemError) as caught:
        StaticModel.load(tmp_path)
    assert caught.value.code == "config.model"


def test_a_user_whom_the_system_does_not_know(monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    with pytest.raises(PowerMemError) as caught:
        home({})
    assert caught.value.code == "config.home"


def test_what_databases_say():
    without_vectors = asyncpg.exceptions.FeatureNotSupportedError('extension "vector" is not available')
    too_long = pymysql.err.OperationalError(1153, "Got a packet bigger than 'max_allowed_packet' bytes")
    assert postgres.translated(without_vectors, "x").code == "store.extension"
    assert oceanbase_pool._translated(too_long, "x").code == "store.too_long"
    assert translated(apsw.InterruptError("interrupted"), Path("x")).code == "store.interrupted"


def test_what_nobody_gave_a_code():
    assert re.fullmatch(r"bug\..*", PowerMemError("x").code)
    assert PowerMemError("x").code == "bug.unknown"
