"""powermem config: what is written, what is shown, and what never is."""

from __future__ import annotations

import stat

import pytest
from terminal import in_terminal

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789-4f2a"


@pytest.fixture
def powermem(powermem):
    powermem.environ.pop("SQLITE_PATH")
    return powermem


def settings(powermem, *options, **env):
    said = powermem.inside("config", "show", "--json", *options, env=env)
    assert said.code == 0, said.err
    return {one["name"]: one for one in said.json["settings"]}


# ── init ──


def test_flags_write_a_file_for_its_owner_alone(powermem):
    said = powermem("config", "init", "--llm", "openai", "--llm-model", "gpt-4o-mini", "--store", "sqlite")
    assert (said.code, said.out) == (0, "")
    assert "as LLM_API_KEY" in said.err
    path = powermem.folder / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text("utf-8").splitlines()[1:] == [
        "LLM_PROVIDER=openai",
        "LLM_MODEL=gpt-4o-mini",
        "DATABASE_PROVIDER=sqlite",
    ]
    assert settings(powermem)["llm.model"]["origin"] == "LLM_MODEL in ./.env"


@pytest.mark.parametrize("there", ["a file", "a link that leads nowhere"])
def test_what_is_there_is_never_overwritten(powermem, there):
    path = powermem.folder / ".env"
    if there == "a file":
        path.write_text("LLM_API_KEY=x\n", "utf-8")
    else:
        path.symlink_to(powermem.folder / "elsewhere")
    said = powermem("config", "init", "--llm", "ollama")
    assert (said.code, "is there already" in said.err) == (2, True)
    assert not (powermem.folder / "elsewhere").exists()
    assert powermem("config", "init", "--llm", "ollama", "-o", "other.env").code == 0


@pytest.mark.parametrize(
    ("flags", "hint"),
    [(["--llm", "opnai"], "openai"), (["--embedder", "locl"], "local"), (["--store", "postgress"], "postgres")],
)
def test_a_wrong_name_is_corrected_and_nothing_is_written(powermem, flags, hint):
    said = powermem.inside("config", "init", *flags)
    assert (said.code, f"did you mean {hint}?" in said.err) == (2, True)
    assert not (powermem.folder / ".env").exists()


def test_without_a_terminal_it_names_the_flags(powermem):
    said = powermem("config", "init")
    assert (said.code, "--llm" in said.err) == (2, True)
    assert powermem("config", "init", "-y").code == 0


def test_a_value_with_odd_characters_comes_back_as_it_was(powermem):
    name = "it's a #1 \\ model $HOME"
    assert powermem.inside("config", "init", "--llm", "openai", "--llm-model", name).code == 0
    assert settings(powermem)["llm.model"]["value"] == name


def test_a_line_break_can_not_smuggle_a_setting_in(powermem):
    said = powermem.inside("config", "init", "--llm", "openai", "--llm-model", "x\nSQLITE_PATH=/tmp/evil")
    assert said.code == 2
    assert not (powermem.folder / ".env").exists()


def test_a_dry_run_shows_and_writes_nothing(powermem):
    said = powermem.inside("config", "init", "--llm", "ollama", "--dry-run")
    assert "LLM_PROVIDER=ollama\n" in said.out
    assert not (powermem.folder / ".env").exists()


def test_in_a_terminal_it_asks_and_shows_no_key(powermem):
    typed = f"opnai\nopenai\ngpt-4o-mini\n{KEY}\n\n\n"
    code, shown = in_terminal(powermem, "config", "init", typed=typed)
    assert code == 0, shown
    assert "did you mean openai?" in shown
    written = (powermem.folder / ".env").read_text("utf-8")
    assert f"LLM_API_KEY={KEY}\n" in written
    assert shown.count(KEY) <= 1  # what was typed before it asked, the terminal has echoed; the program has not
    assert settings(powermem)["llm.api_key"]["value"] == f"sk-…4f2a (set, {len(KEY)} characters, from ./.env)"


# ── show, path, validate ──


def test_each_value_has_its_origin_and_no_secret_is_whole(powermem):
    (powermem.folder / ".env").write_text(f"LLM_PROVIDER=openai\nLLM_API_KEY={KEY}\nTIMEZONE=UTC\n", "utf-8")
    (powermem.folder / ".env").chmod(0o600)
    said = powermem.inside("config", "show", "--origin", "--db", "x.db", env={"TIMEZONE": "Asia/Tokyo"})
    rows = {row[0]: row[1:] for row in said.rows}
    assert rows["timezone"] == ["Asia/Tokyo", "TIMEZONE in the environment"]
    assert rows["llm.provider"] == ["openai", "LLM_PROVIDER in ./.env"]
    assert rows["vector_store.path"] == ["x.db", "--db"]
    assert rows["embedder.provider"] == ["local", "built-in"]
    assert rows["llm.api_key"][0] == f"sk-…4f2a (set, {len(KEY)} characters, from ./.env)"
    assert KEY not in said.out + said.err
    assert said.err == ""


def test_a_file_others_may_read_is_a_warning(powermem):
    path = powermem.folder / ".env"
    path.write_text(f"LLM_PROVIDER=openai\nLLM_API_KEY={KEY}\n", "utf-8")
    path.chmod(0o644)
    for command in ("show", "validate"):
        assert "others may read it: chmod 600 ./.env" in powermem.inside("config", command).err


def test_one_value_and_a_wrong_name(powermem):
    assert powermem.inside("config", "show", "embedder.provider").out == "embedder.provider\tlocal\n"
    said = powermem.inside("config", "show", "embeder.provider")
    assert (said.code, "did you mean embedder.provider?" in said.err) == (2, True)


def test_the_paths(powermem):
    powermem.inside("add", "a text")
    rows = {row[0]: row[1:] for row in powermem.inside("config", "path").rows}
    assert rows["env file"] == [".env", "not there"]
    assert rows["store"] == [f"{powermem.folder}/.local/share/powermem/powermem.db", "there"]
    assert {"config file", "jobs"} <= set(rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("LLM_PROVIDER=opnai", "no llm provider 'opnai'"),
        ("EMBEDDING_PROVIDER=openai\nEMBEDDING_DIMS=many", "not a whole number"),
        ("RERANKER_ENABLED=true", "RERANKER_PROVIDER"),
        ("DATABASE_PROVIDER=mysql", "no store provider 'mysql'"),
        ("LLM_PROVIDER='openai", "can't be read"),
    ],
)
def test_settings_that_do_not_hold_are_exit_2(powermem, content, message):
    (powermem.folder / ".env").write_text(content + "\n", "utf-8")
    said = powermem.inside("config", "validate")
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_settings_that_hold_are_exit_0(powermem):
    assert powermem.inside("config", "validate", "--json").json == {"ok": True, "warnings": []}
    assert list(powermem.folder.iterdir()) == []  # nothing was opened, nothing was made
