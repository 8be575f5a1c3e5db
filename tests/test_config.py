from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from powermem_cli.config import Choice, Config, auto_config, load_settings, masked, parse_config
from powermem_cli.errors import ConfigError
from powermem_cli.paths import default_database, home, state_folder, user_config_file
from powermem_cli.variables import NAMES, VARIABLES

KEY = "sk-proj-0123456789abcdefghij4f2a"
SAMPLES = {
    "text": ("Some-Text", "Some-Text"),
    "secret": (" s3cret! ", " s3cret! "),
    "address": ("host.example", "host.example"),
    "integer": ("42", 42),
    "number": ("0.5", 0.5),
}


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    """No setting of whoever runs the tests, and an empty folder to run in."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "here"
    folder.mkdir(mode=0o755)
    monkeypatch.chdir(folder)


def says(text: str):
    return pytest.raises(ConfigError, match=re.escape(text))


def dot_env(text: str, mode: int = 0o600) -> Path:
    path = Path(".env")
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def user_file(text: str) -> Path:
    path = Path(os.environ["HOME"], ".config/powermem/config.toml")
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


class TestParseConfig:
    def test_nothing_gives_the_keyless_defaults(self):
        config = parse_config({})
        path = os.environ["HOME"] + "/.local/share/powermem/powermem.db"
        assert config == Config(Choice("sqlite", {"path": path}), Choice("local", {}))
        assert config.llm is None
        assert config.reranker is None

    def test_the_dictionary_of_the_guide(self):
        config = parse_config(
            {
                "llm": {
                    "provider": "qwen",
                    "config": {"api_key": "your_api_key_here", "model": "qwen-plus", "temperature": 0.7},
                },
                "embedder": {
                    "provider": "qwen",
                    "config": {"api_key": "your_api_key_here", "model": "text-embedding-v4"},
                },
                "vector_store": {
                    "provider": "oceanbase",
                    "config": {
                        "collection_name": "memories",
                        "connection_args": {
                            "host": "127.0.0.1",
                            "port": 2881,
                            "user": "root@sys",
                            "password": "password",
                            "db_name": "powermem",
                        },
                        "embedding_model_dims": 1536,
                        "index_type": "IVF_FLAT",
                        "vidx_metric_type": "cosine",
                    },
                },
            }
        )
        assert config.llm == Choice("qwen", {"api_key": "your_api_key_here", "model": "qwen-plus", "temperature": 0.7})
        assert config.embedder.options["model"] == "text-embedding-v4"
        assert config.vector_store.options["connection_args"]["port"] == 2881

    def test_aliases_and_prompts(self):
        config = parse_config(
            {
                "database": {"provider": "SQLite", "config": {"database_path": "a.db"}},
                "embedding": {"provider": "ollama"},
                "reranker": None,
                "custom_fact_extraction_prompt": "facts",
                "custom_update_memory_prompt": "update",
                "timezone": "Asia/Shanghai",
            }
        )
        assert config.vector_store == Choice("sqlite", {"path": "a.db"})
        assert config.embedder == Choice("ollama", {})
        assert (config.fact_extraction_prompt, config.update_memory_prompt) == ("facts", "update")
        assert config.timezone == "Asia/Shanghai"

    def test_a_section_without_a_provider_has_the_default_one(self):
        assert parse_config({"vector_store": {"config": {"path": "x.db"}}}).vector_store == Choice(
            "sqlite", {"path": "x.db"}
        )
        found = parse_config({"database": {"config": {"collection_name": "work", "path": None}}}).vector_store.options
        assert found == {"collection_name": "work", "path": os.environ["HOME"] + "/.local/share/powermem/powermem.db"}

    def test_a_config_stays_what_it_is(self):
        config = parse_config({})
        assert parse_config(config) is config

    def test_the_callers_dict_may_change_afterwards(self):
        source = {"llm": {"provider": "openai", "config": {"headers": {"a": [1]}}}}
        config = parse_config(source)
        source["llm"]["config"]["headers"]["a"].append(2)
        assert config.llm is not None
        assert config.llm.options == {"headers": {"a": [1]}}

    @pytest.mark.parametrize(
        ("source", "message", "hint"),
        [
            ({"lmm": {}}, "unknown setting 'lmm'", "did you mean llm?"),
            ({"graph_store": {}}, "unknown setting 'graph_store'", "vector_store, embedder, llm, reranker"),
            ({"llm": {"provider": "openai", "model": "x"}}, "llm in the configuration has an unknown setting 'model'", "config"),
            ({"llm": "openai"}, "llm in the configuration must be an object", None),
            ({"llm": {"config": {"model": "x"}}}, "llm in the configuration names no provider", None),
            ({"llm": {"provider": 3}}, "names no provider", None),
            ({"vector_store": {"provider": " "}}, "names no provider", None),
            ({"llm": {"provider": "openai", "config": ["x"]}}, "llm.config", None),
            ({"llm": {"provider": "openai", "config": {1: "x"}}}, "llm.config", None),
            ({"vector_store": {}, "database": {}}, "vector_store twice, once as 'database'", None),
            ({"timezone": 3}, "timezone in the configuration must be text, not int", None),
            ([], "must be an object, not list", None),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_said(self, source, message, hint):
        with says(message) as caught:
            parse_config(source)
        assert hint is None or hint in (caught.value.hint or "")


class TestSecrets:
    def test_no_repr_shows_one(self):
        config = parse_config(
            {
                "llm": {"provider": "openai", "config": {"api_key": KEY, "max_tokens": 512}},
                "vector_store": {
                    "provider": "postgres",
                    "config": {"password": "hunter2", "url": "postgres://me:hunter2@host/db"},
                },
                "reranker": {"provider": "x", "config": {"headers": [{"Authorization": "Bearer hunter2"}]}},
            }
        )
        for shown in (repr(config), str(config), repr(config.llm), f"{config.vector_store}"):
            assert KEY not in shown
            assert "hunter2" not in shown
        assert "sk-…4f2a" in repr(config)
        assert "'max_tokens': 512" in repr(config)
        assert "postgres://me:…@host/db" in repr(config)

    def test_settings_show_how_long_a_key_is_and_where_it_stands(self):
        dot_env(f"LLM_PROVIDER=openai\nOPENAI_API_KEY={KEY}\n")
        settings = load_settings()
        assert KEY not in repr(settings)
        found = settings.setting("llm.api_key")
        assert found is not None
        assert found.value == f"sk-…4f2a (set, {len(KEY)} characters, from ./.env)"
        assert str(found.origin) == "OPENAI_API_KEY in ./.env"
        assert settings.setting("llm.model") is None

    @pytest.mark.parametrize("short", ["", "a", "hunter2", "x" * 23])
    def test_a_short_one_is_hidden_whole(self, short):
        assert masked(short) == "…"


class TestNames:
    @pytest.mark.parametrize("variable", [v for v in VARIABLES if v.path[1:2] == ("config",)], ids=lambda v: v.name)
    def test_each_name_reaches_its_option(self, variable, monkeypatch):
        section = variable.path[0]
        provider = variable.provider or "openai"
        selector = next(v.name for v in VARIABLES if v.path == (section, "provider"))
        monkeypatch.setenv(selector, provider.upper())
        text, value = SAMPLES[variable.kind]
        monkeypatch.setenv(variable.name, text)
        found = auto_config()
        assert found[section]["provider"] == provider
        for step in variable.path:
            found = found[step]
        assert found == value

    @pytest.mark.parametrize("variable", [v for v in VARIABLES if v.provider], ids=lambda v: v.name)
    def test_a_name_of_one_provider_is_not_read_for_another(self, variable, monkeypatch):
        section = variable.path[0]
        selector = next(v.name for v in VARIABLES if v.path == (section, "provider"))
        monkeypatch.setenv(selector, "another")
        monkeypatch.setenv(variable.name, "42")
        assert auto_config()[section] == {"provider": "another", "config": {}}

    def test_top_level_names(self, monkeypatch):
        monkeypatch.setenv("POWERMEM_CUSTOM_FACT_EXTRACTION_PROMPT", "facts")
        monkeypatch.setenv("POWERMEM_CUSTOM_UPDATE_MEMORY_PROMPT", "update")
        monkeypatch.setenv("TIMEZONE", "UTC")
        monkeypatch.setenv("POWERMEM_USER", "alice")
        config = parse_config(auto_config())
        assert (config.fact_extraction_prompt, config.update_memory_prompt, config.timezone) == (
            "facts",
            "update",
            "UTC",
        )
        assert load_settings().user_id == "alice"

    def test_no_other_name_is_read(self, monkeypatch):
        before = auto_config()
        for name in ("PORT", "HOST", "TIMEOUT", "PASSWORD", "API_KEY", "PATH_TO_DB", "DATABASE_URL"):
            monkeypatch.setenv(name, "9")
        assert auto_config() == before

    def test_the_keys_of_a_section_come_before_those_of_a_provider(self, monkeypatch):
        monkeypatch.setenv("LLM_PROVIDER", "qwen")
        monkeypatch.setenv("EMBEDDING_PROVIDER", "qwen")
        monkeypatch.setenv("QWEN_API_KEY", "third")
        assert auto_config()["llm"]["config"] == {"api_key": "third"}
        monkeypatch.setenv("DASHSCOPE_API_KEY", "second")
        assert auto_config()["llm"]["config"] == {"api_key": "second"}
        monkeypatch.setenv("LLM_API_KEY", "first")
        assert auto_config()["llm"]["config"] == {"api_key": "first"}
        assert auto_config()["embedder"]["config"] == {"api_key": "second"}

    def test_no_llm_without_its_provider(self, monkeypatch):
        monkeypatch.setenv("LLM_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("EMBEDDING_MODEL", "large")
        assert set(auto_config()) == {"vector_store", "embedder"}
        assert auto_config()["embedder"] == {"provider": "local", "config": {}}
        assert load_settings().warnings == ()  # such general names may be meant for another program

    def test_a_file_that_sets_them_in_vain_is_warned_about(self):
        dot_env("LLM_MODEL=gpt\nEMBEDDING_DIMS=3\nOPENAI_LLM_BASE_URL=http://x\n")
        assert load_settings().warnings == (
            "EMBEDDING_DIMS in ./.env has no effect without EMBEDDING_PROVIDER",
            "LLM_MODEL in ./.env has no effect without LLM_PROVIDER",
        )

    def test_a_name_that_is_all_but_one_of_ours_is_warned_about(self):
        dot_env("LLM_PROVDER=openai\nOPENAI_ORGANIZATION=x\nLLM=1\nDATABASE_URL=postgres://u@h/d\n")
        assert load_settings().warnings == ("./.env sets LLM_PROVDER, which nothing reads; did you mean LLM_PROVIDER?",)

    @pytest.mark.parametrize("switch", ["true", "Yes", "1", "on"])
    def test_a_reranker_is_named(self, monkeypatch, switch):
        monkeypatch.setenv("RERANKER_ENABLED", switch)
        with says("RERANKER_ENABLED in the environment needs RERANKER_PROVIDER"):
            auto_config()
        monkeypatch.setenv("RERANKER_PROVIDER", "qwen")
        monkeypatch.setenv("RERANKER_MODEL", "rr")
        assert auto_config()["reranker"] == {"provider": "qwen", "config": {"model": "rr"}}
        monkeypatch.setenv("RERANKER_ENABLED", "off")
        assert "reranker" not in auto_config()

    @pytest.mark.parametrize(
        ("name", "text", "wanted"),
        [
            ("LLM_TEMPERATURE", "warm", "a number"),
            ("LLM_TEMPERATURE", "nan", "a number"),
            ("LLM_MAX_TOKENS", "1.5", "a whole number"),
            ("RERANKER_ENABLED", "perhaps", "true or false"),
        ],
    )
    def test_a_malformed_value_names_variable_and_source(self, name, text, wanted):
        dot_env(f"LLM_PROVIDER=openai\n{name}={text}\n")
        with says(f"{name} in ./.env is '{text}', not {wanted}"):
            auto_config()

    def test_an_empty_value_is_not_set_and_hides_what_is_below(self, monkeypatch):
        dot_env("LLM_PROVIDER=openai\nTIMEZONE=\n")
        assert "timezone" not in auto_config()
        assert auto_config()["llm"]["provider"] == "openai"
        monkeypatch.setenv("LLM_PROVIDER", "")
        assert "llm" not in auto_config()


class TestEnvExample:
    EXAMPLE = Path(__file__).parent.parent / ".env.example"

    def test_it_holds_exactly_the_names_that_are_read(self):
        names = re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", self.EXAMPLE.read_text("utf-8"), re.MULTILINE)
        assert sorted(names) == sorted(NAMES)

    def test_a_copy_is_a_working_keyless_set_up(self):
        before = auto_config()
        dot_env(self.EXAMPLE.read_text("utf-8"), 0o644)
        assert auto_config() == before
        assert load_settings().warnings == ()

    def test_with_everything_switched_on_it_can_be_read(self):
        text = re.sub(r"^# ([A-Z_]+=)", r"\1", self.EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
        dot_env(text.replace("RERANKER_PROVIDER=", "RERANKER_PROVIDER=qwen"))
        assert load_settings().config.vector_store == Choice(
            "sqlite", {"path": "./powermem.db", "collection_name": "memories"}
        )


class TestEnvFile:
    def test_forms(self):
        dot_env("\ufeffexport LLM_PROVIDER = \"openai\"\r\nLLM_MODEL='a b' # said\r\nLLM_API_KEY=${HOME}x\n")
        assert auto_config()["llm"] == {"provider": "openai", "config": {"api_key": "${HOME}x", "model": "a b"}}

    def test_a_name_without_a_value_is_not_set(self):
        dot_env("LLM_PROVIDER\n")
        assert "llm" not in auto_config()

    def test_one_that_is_named_is_read_instead(self):
        dot_env("LLM_PROVIDER=qwen\n")
        Path("other.env").write_text("LLM_PROVIDER=ollama\n")
        assert auto_config("other.env")["llm"]["provider"] == "ollama"
        assert auto_config(Path("other.env"))["llm"]["provider"] == "ollama"

    @pytest.mark.parametrize("load", [auto_config, lambda name: load_settings(env_file=name)])
    def test_one_that_is_named_must_be_there(self, load):
        with says("can't read gone.env: No such file"):
            load("gone.env")

    def test_a_folder_called_so_is_no_file(self):
        Path(".env").mkdir()
        assert auto_config()["embedder"]["provider"] == "local"

    def test_a_file_of_another_program_is_left_alone(self):
        dot_env("if [ x ]; then '\nFOO=\"open\n", 0o666)
        assert auto_config()["embedder"]["provider"] == "local"

    def test_a_broken_line_of_ours_is_an_error(self):
        dot_env("FOO=\"open\nLLM_PROVIDER=openai\nLLM_API_KEY='open\n")
        with says("./.env has LLM_API_KEY on a line that can't be read"):
            auto_config()

    def test_a_broken_line_of_others_is_not(self):
        dot_env('FOO="open\nLLM_PROVIDER=openai\n')
        assert auto_config()["llm"]["provider"] == "openai"

    def test_it_must_be_utf8(self):
        Path(".env").write_bytes(b"LLM_PROVIDER=\xff\n")
        with says("./.env is not UTF-8 (byte 13)"):
            auto_config()

    def test_one_that_everybody_may_write_is_refused(self):
        dot_env("LLM_PROVIDER=openai\n", 0o606)
        with says("./.env can be written by everybody") as caught:
            auto_config()
        assert "chmod o-w .env" in (caught.value.hint or "")
        assert load_settings(env_file=".env").config.llm == Choice("openai", {})

    def test_one_in_a_folder_that_everybody_may_write_is_refused(self):
        dot_env("LLM_PROVIDER=openai\n")
        Path().chmod(0o777)
        with says("the folder of ./.env can be written by everybody"):
            auto_config()
        Path().chmod(0o1777)  # as /tmp: nobody can replace the file of another
        assert auto_config()["llm"]["provider"] == "openai"

    @pytest.mark.parametrize("target", [".env", "."])
    def test_one_of_another_user_is_refused(self, target, monkeypatch):
        dot_env("LLM_PROVIDER=openai\n")
        if os.getuid() == 0:
            os.chown(target, 12345, -1)
        else:
            monkeypatch.setattr(os, "getuid", lambda: 12345)
        with says("belongs to another user"):
            auto_config()
        assert auto_config(".env")["llm"]["provider"] == "openai"

    def test_a_secret_that_others_may_read_is_warned_about(self):
        dot_env(f"LLM_PROVIDER=openai\nLLM_API_KEY={KEY}\n", 0o640)
        assert load_settings().warnings == ("./.env holds a secret and others may read it: chmod 600 ./.env",)
        Path(".env").chmod(0o600)
        assert load_settings().warnings == ()

    def test_one_that_cannot_be_read_is_an_error(self, monkeypatch):
        Path(".env").symlink_to(".env")
        assert auto_config()["embedder"]["provider"] == "local"  # leads nowhere
        with says("can't read .env"):
            auto_config(".env")


class TestKeyAndAddress:
    """A folder's .env must not choose where the user's own secrets are sent."""

    @pytest.mark.parametrize(
        ("texts", "name", "address"),
        [
            ("LLM_PROVIDER=openai\nOPENAI_LLM_BASE_URL=http://evil", "OPENAI_API_KEY", "OPENAI_LLM_BASE_URL"),
            ("LLM_PROVIDER=openai\nOPENAI_LLM_BASE_URL=http://evil", "LLM_API_KEY", "OPENAI_LLM_BASE_URL"),
            ("EMBEDDING_PROVIDER=qwen\nQWEN_EMBEDDING_BASE_URL=http://evil", "DASHSCOPE_API_KEY", "QWEN_EMBEDDING_BASE_URL"),
            ("RERANKER_PROVIDER=jina\nRERANKER_API_BASE_URL=http://evil", "RERANKER_API_KEY", "RERANKER_API_BASE_URL"),
            ("DATABASE_PROVIDER=oceanbase\nOCEANBASE_HOST=evil", "OCEANBASE_PASSWORD", "OCEANBASE_HOST"),
            ("DATABASE_PROVIDER=postgres\nPOSTGRES_HOST=evil", "POSTGRES_PASSWORD", "POSTGRES_HOST"),
        ],
    )  # fmt: skip
    def test_an_address_from_the_folder_gets_no_secret_of_the_environment(self, texts, name, address, monkeypatch):
        monkeypatch.setenv(name, KEY)
        dot_env(texts)
        with pytest.raises(ConfigError) as caught:
            auto_config()
        assert caught.value.code == "config.mixed_sources"
        assert caught.value.message == f"{address} in ./.env would be sent the secret of {name} in the environment"
        for named in (".env", "./.env", str(Path(".env").absolute())):  # who names the file vouches for it
            assert load_settings(env_file=named).warnings == ()
            assert auto_config(named)

    def test_nor_one_of_the_users_file(self):
        user_file(f"[llm]\nprovider = 'openai'\nconfig = {{ api_key = '{KEY}' }}\n")
        dot_env("OPENAI_LLM_BASE_URL=http://evil\n")
        with says("would be sent the secret of "):
            load_settings()

    def test_both_in_the_folder_are_fine(self):
        dot_env(f"LLM_PROVIDER=openai\nOPENAI_LLM_BASE_URL=http://ours\nOPENAI_API_KEY={KEY}\n")
        assert auto_config()["llm"]["config"] == {"api_key": KEY, "base_url": "http://ours"}

    def test_an_address_of_the_environment_may_get_any(self, monkeypatch):
        monkeypatch.setenv("OPENAI_LLM_BASE_URL", "http://ours")
        dot_env(f"LLM_PROVIDER=openai\nOPENAI_API_KEY={KEY}\n")
        assert auto_config()["llm"]["config"] == {"api_key": KEY, "base_url": "http://ours"}

    def test_an_address_without_a_secret_is_fine(self):
        dot_env("LLM_PROVIDER=ollama\nOLLAMA_LLM_BASE_URL=http://localhost:11434\n")
        assert auto_config()["llm"]["config"] == {"base_url": "http://localhost:11434"}


class TestLayers:
    def test_the_order(self):
        user_file("[llm]\nprovider = 'openai'\nconfig = { model = '1-user', top_p = 0.1 }\n")
        environ = {"HOME": os.environ["HOME"]}
        found = [load_settings(environ=environ)]
        dot_env("LLM_MODEL=2-dot-env\n")
        found.append(load_settings(environ=environ))
        Path("named").write_text("LLM_MODEL=3-named\n")
        found.append(load_settings(environ=environ, env_file="named"))
        found.append(load_settings(environ={**environ, "LLM_MODEL": "4-environment"}, env_file="named"))
        models = [settings.config.llm and settings.config.llm.options["model"] for settings in found]
        assert models == ["1-user", "2-dot-env", "3-named", "4-environment"]
        origins = [str(settings.setting("llm.model").origin) for settings in found]  # type: ignore[union-attr]
        assert origins[1:] == ["LLM_MODEL in ./.env", "LLM_MODEL in named", "LLM_MODEL in the environment"]
        assert origins[0].endswith("/.config/powermem/config.toml")
        assert all(settings.config.llm.options["top_p"] == 0.1 for settings in found if settings.config.llm)

    def test_a_named_file_stands_for_the_users(self, tmp_path):
        user_file("timezone = 'user'\n")
        Path("other.json").write_text(json.dumps({"database": {"provider": "sqlite", "config": {"path": "j.db"}}}))
        settings = load_settings(config_file="other.json")
        assert settings.config.vector_store.options["path"] == "j.db"
        assert settings.config.timezone is None
        assert settings.setting("vector_store.path").origin.source == "other.json"  # type: ignore[union-attr]
        (tmp_path / "c.toml").write_text("timezone = 'toml'\n")
        assert load_settings(config_file=str(tmp_path / "c.toml")).config.timezone == "toml"

    def test_options_in_a_file_are_for_the_provider_named_there(self, monkeypatch):
        user_file("[llm]\nprovider = 'openai'\nconfig = { model = 'gpt', api_key = 'k' }\n")
        monkeypatch.setenv("LLM_PROVIDER", "ollama")
        assert load_settings().config.llm == Choice("ollama", {})
        monkeypatch.setenv("LLM_PROVIDER", "OpenAI")
        assert load_settings().config.llm == Choice("openai", {"model": "gpt", "api_key": "k"})

    def test_nested_options_are_merged(self, monkeypatch):
        user_file("[vector_store]\nprovider='oceanbase'\n[vector_store.config.connection_args]\nhost='h'\nport=1\n")
        monkeypatch.setenv("OCEANBASE_PASSWORD", "p")
        monkeypatch.setenv("OCEANBASE_PORT", "2")
        assert load_settings().config.vector_store.options == {
            "connection_args": {"host": "h", "port": 2, "password": "p"}
        }

    def test_a_value_where_options_belong_is_an_error(self, monkeypatch):
        user_file("[vector_store]\nprovider='oceanbase'\nconfig = { connection_args = 'h' }\n")
        monkeypatch.setenv("OCEANBASE_PORT", "2")
        with says("vector_store.config.connection_args must be an object"):
            load_settings()

    def test_a_file_with_a_secret_that_others_may_read_is_warned_about(self):
        path = user_file("[llm]\nprovider = 'openai'\nconfig = { api_key = 'k' }\n")
        assert load_settings().warnings == ()
        path.chmod(0o644)
        assert load_settings().warnings == (f"{path} holds a secret and others may read it: chmod 600 {path}",)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("c.json", b'{"llm": ', "c.json is not valid JSON"),
            ("c.json", b"[" * 100_000, "c.json is not valid JSON"),
            ("c.json", b"[]", "c.json must be an object"),
            ("c.toml", b"a = ", "c.toml is not valid TOML"),
            ("c.toml", b"a = '\xff'", "c.toml is not valid TOML"),
            ("c.toml", b"lmm = 1", "c.toml has an unknown setting 'lmm'"),
            ("c.toml", b"[llm.config]\nmodel = 'x'", "llm in c.toml names no provider"),
            ("gone.toml", None, "can't read gone.toml: No such file"),
            (".", None, "can't read .: Is a directory"),
        ],
    )
    def test_a_file_that_is_wrong_is_named(self, name, content, message):
        if content is not None:
            Path(name).write_bytes(content)
        with says(message):
            load_settings(config_file=name)

    def test_the_dict_of_auto_config_is_one_that_parse_config_takes(self, monkeypatch):
        monkeypatch.setenv("LLM_PROVIDER", "openai")
        monkeypatch.setenv("POWERMEM_USER", "alice")
        form = auto_config()
        assert json.loads(json.dumps(form)) == form
        assert parse_config(form) == load_settings().config


class TestDb:
    @pytest.mark.parametrize(
        ("db", "path"),
        [
            ("notes.db", "notes.db"),
            ("/var/notes.db", "/var/notes.db"),
            ("sqlite:///notes.db", "notes.db"),
            ("sqlite:////var/notes.db", "/var/notes.db"),
        ],
    )
    def test_a_file(self, db, path, monkeypatch):
        monkeypatch.setenv("DATABASE_PROVIDER", "oceanbase")
        monkeypatch.setenv("SQLITE_PATH", "other.db")
        monkeypatch.setenv("SQLITE_COLLECTION", "work")
        settings = load_settings(db=db)
        assert settings.config.vector_store == Choice("sqlite", {"path": path, "collection_name": "work"})
        assert settings.setting("vector_store.path").origin.source == "--db"  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("db", "provider", "options"),
        [
            (
                "oceanbase://root@sys@db.example:2881/mem",
                "oceanbase",
                {"connection_args": {"host": "db.example", "port": 2881, "user": "root@sys", "db_name": "mem"}},
            ),
            ("oceanbase://u%23c@h", "oceanbase", {"connection_args": {"host": "h", "user": "u#c"}}),
            ("postgresql://me@[::1]:5432/a%20b", "postgres", {"host": "::1", "port": 5432, "user": "me", "dbname": "a b"}),
            ("postgres://h", "postgres", {"host": "h"}),
            ("postgresql://u@%2Frun%2FPg_1/d", "postgres", {"host": "/run/Pg_1", "user": "u", "dbname": "d"}),
        ],
    )  # fmt: skip
    def test_a_server(self, db, provider, options):
        assert load_settings(db=db).config.vector_store == Choice(provider, options)

    def test_it_stands_for_the_whole_address_in_a_file(self):
        user_file("[vector_store]\nprovider='postgres'\nconfig={ dsn='postgres://u:p@a/d', schema='s' }\n")
        assert load_settings(db="postgresql://b").config.vector_store.options == {"host": "b", "schema": "s"}

    def test_what_it_leaves_out_is_not_taken_from_another_address(self):
        dot_env(
            "DATABASE_PROVIDER=postgres\nPOSTGRES_HOST=a\nPOSTGRES_PORT=1\nPOSTGRES_USER=u\n"
            "POSTGRES_DATABASE=d\nPOSTGRES_PASSWORD=p\nPOSTGRES_COLLECTION=c\n"
        )
        assert load_settings(db="postgresql://b").config.vector_store.options == {
            "host": "b",
            "password": "p",
            "collection_name": "c",
        }

    @pytest.mark.parametrize(
        ("db", "message"),
        [
            ("", "--db is empty"),
            ("mysql://u@h/d", "--db knows no 'mysql' URL"),
            ("postgresql://u:hunter2@h/d", "--db must not hold a password"),
            ("postgresql://u:@h/d", "--db must not hold a password"),
            ("postgresql://u@h:port/d", "--db is no URL"),
            ("postgresql:///d", "--db needs scheme://user@host:port/database"),
            ("oceanbase://u@h/d?x=1", "--db needs scheme://user@host:port/database"),
            ("oceanbase://u@tenant#cluster@h/d", "--db needs scheme://user@host:port/database"),
            ("sqlite://notes.db", "--db sqlite:// needs a third slash"),
            ("sqlite:///", "--db sqlite:// needs a third slash"),
        ],
    )
    def test_what_is_wrong_is_said_without_the_password(self, db, message):
        with says(message) as caught:
            load_settings(db=db)
        assert "hunter2" not in f"{caught.value!r} {caught.value.hint}"


class TestPaths:
    def test_the_folders_of_xdg(self):
        environ = {"XDG_DATA_HOME": "/d", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"}
        assert default_database(environ) == Path("/d/powermem/powermem.db")
        assert state_folder(environ) == Path("/s/powermem")
        assert user_config_file(environ) == Path("/c/powermem/config.toml")

    @pytest.mark.parametrize("xdg", ["", "relative/path"])
    def test_the_usual_places_below_home(self, xdg):
        environ = {"HOME": "/h", "XDG_DATA_HOME": xdg}
        assert default_database(environ) == Path("/h/.local/share/powermem/powermem.db")
        assert state_folder(environ) == Path("/h/.local/state/powermem")
        assert user_config_file(environ) == Path("/h/.config/powermem/config.toml")

    @pytest.mark.parametrize("environ", [{}, {"HOME": ""}])
    def test_cron_has_no_home_but_the_system_knows_it(self, environ):
        import pwd

        assert home(environ) == Path(pwd.getpwuid(os.getuid()).pw_dir)

    def test_a_user_the_system_does_not_know(self, monkeypatch):
        monkeypatch.setattr(os, "getuid", lambda: 987_654_321)
        with says("there is no home folder"):
            load_settings(environ={})
        settings = load_settings(environ={}, db="x.db")
        assert settings.config.vector_store.options["path"] == "x.db"


def test_loading_is_cheap():
    """Nothing heavy is imported to read the settings, and the parser of .env only where there is such a file."""
    code = (
        "import sys; from powermem_cli.config import load_settings; load_settings();"
        "print(sorted({'httpx', 'numpy', 'rich', 'typer', 'anyio', 'dotenv', 'tomllib', 'tomli'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("[]\n", "")
