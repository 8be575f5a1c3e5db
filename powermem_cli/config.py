"""Where every setting comes from: dict, environment, .env, JSON or TOML file, flags → one frozen Config.

What an option of a provider means is known to that provider's constructor alone; here options are carried. For the
command line the order is: flag > process environment > --env-file > ./.env > --config or the user's file > built-in.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from powermem_cli.envfile import exposure, find_env_file, read_env_file
from powermem_cli.errors import ConfigError, did_you_mean
from powermem_cli.layers import (
    DEFAULT_PROVIDERS,
    DOT_ENV,
    ENVIRONMENT,
    Located,
    Origin,
    assemble,
    dict_form,
    given_names,
    is_secret,
    unused_names,
)
from powermem_cli.paths import default_database, user_config_file

ALIASES: Final = {"database": "vector_store", "embedding": "embedder"}
IN_PROCESS: Final = ("local", "sentence-transformers")  # embedders that call nobody
TEXTS: Final = ("custom_fact_extraction_prompt", "custom_update_memory_prompt", "timezone")
_PASSWORD_IN_URL = re.compile(r"(://[^/@\s:]*:)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which provider, and the options its constructor gets. The repr shows no secret."""

    provider: str
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Choice({self.provider!r}, {without_secrets(self.options)!r})"


@dataclass(frozen=True, slots=True)
class Config:
    """All that an engine is made from."""

    vector_store: Choice
    embedder: Choice
    llm: Choice | None = None
    reranker: Choice | None = None
    fact_extraction_prompt: str | None = None
    update_memory_prompt: str | None = None
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of `config show`: *value* as it may be shown."""

    name: str
    value: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run of the command line works with. *user_id* is the scope for commands without --user."""

    config: Config
    user_id: str | None = None
    shown: tuple[Setting, ...] = ()
    warnings: tuple[str, ...] = ()

    def setting(self, name: str) -> Setting | None:
        """The one called *name*, as `llm.api_key`; None if nobody set it."""
        return next((setting for setting in self.shown if setting.name == name), None)


def parse_config(source: Mapping[str, Any] | Config) -> Config:
    """The Config of a dict `{"llm": {"provider", "config"}, "embedder": …, "vector_store": …, "reranker": …}`.

    What is missing gets the defaults: SQLite at the default path, the built-in embedder, no LLM, no reranker.
    Raises ConfigError that lists the right names for a wrong one.
    """
    if isinstance(source, Config):
        return source
    return _config(_checked_form(source, "the configuration"), os.environ)


def auto_config(env_file: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The configuration as a dict: process environment over *env_file* (./.env, if there is one) over defaults."""
    origin = DOT_ENV if env_file is None else Origin(str(env_file))
    texts, _ = find_env_file(Path()) if env_file is None else read_env_file(Path(env_file), origin.source)
    form = _with_calls(dict_form(assemble(given_names([(os.environ, ENVIRONMENT), (texts, origin)]), os.environ)))
    form.pop("user_id", None)
    return form


def load_settings(
    *,
    db: str | None = None,
    env_file: str | None = None,
    config_file: str | None = None,
    environ: Mapping[str, str] = os.environ,
    cwd: str | os.PathLike[str] = ".",
    calls: Mapping[str, Any] | None = None,
) -> Settings:
    """What the command line works with. *db* is a path, or a URL without a password; *calls* as in `assemble`.

    Raises ConfigError.
    """
    layers, warnings = _env_layers(env_file, environ, Path(cwd))
    file, file_source, said = _config_file(config_file, environ, Path(cwd))
    given = given_names(layers)
    values = assemble(given, environ, file, file_source, db, calls)
    form = _with_calls(dict_form(values))
    user_id = form.pop("user_id", None)
    warnings += said + unused_names(given, values)
    shown = tuple(_shown(path, located) for path, located in values.items() if located.value is not None)
    return Settings(_config(form, environ), user_id, shown, tuple(warnings))


def masked(secret: str) -> str:
    """Enough to tell one key from another, too little to use it: `sk-…4f2a`."""
    return f"{secret[:3]}…{secret[-4:]}" if len(secret) >= 24 else "…"


def without_secrets(value: Any) -> Any:
    """A copy of options that may be shown: what a secret's name stands before is masked, so are passwords in URLs."""
    if isinstance(value, Mapping):
        return {
            name: masked(str(inner)) if is_secret(str(name)) and inner is not None else without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(inner) for inner in value]
    return _PASSWORD_IN_URL.sub(r"\1…@", value) if isinstance(value, str) else value


def _config(form: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    chosen = {
        section: Choice(form[section]["provider"], form[section]["config"]) if section in form else None
        for section in DEFAULT_PROVIDERS
    }
    store = chosen["vector_store"] or Choice("sqlite", {})
    if store.provider == "sqlite" and store.options.get("path") is None:
        store = Choice("sqlite", {**store.options, "path": str(default_database(environ))})
    return Config(
        vector_store=store,
        embedder=chosen["embedder"] or Choice("local", {}),
        llm=chosen["llm"],
        reranker=chosen["reranker"],
        fact_extraction_prompt=form.get("custom_fact_extraction_prompt"),
        update_memory_prompt=form.get("custom_update_memory_prompt"),
        timezone=form.get("timezone"),
    )


def _with_calls(form: dict[str, Any]) -> dict[str, Any]:
    """How calls are made is said once for all providers, and stands above what a section says of its own."""
    calls = form.pop("calls", {})
    for section in ("embedder", "llm", "reranker"):
        if section in form and form[section]["provider"] not in IN_PROCESS:
            form[section]["config"] |= calls
    return form


def _checked_form(source: Any, where: str) -> dict[str, Any]:
    """A copy of a dict form without aliases, without None, without a name that is none of ours."""
    if not isinstance(source, Mapping):
        raise ConfigError(f"{where} must be an object, not {type(source).__name__}", code="config.value")
    form: dict[str, Any] = {}
    for name, value in source.items():
        key = ALIASES.get(name, name)
        if key not in DEFAULT_PROVIDERS and key not in TEXTS:
            raise ConfigError(
                f"{where} has an unknown setting {name!r}",
                hint=did_you_mean(str(name), (*DEFAULT_PROVIDERS, *TEXTS)),
                code="config.name",
            )
        if key in form:
            raise ConfigError(f"{where} has {key} twice, once as {name!r}", code="config.name")
        if value is not None:
            form[key] = _checked_value(key, value, where)
    return form


def _checked_value(key: str, value: Any, where: str) -> Any:
    if key in DEFAULT_PROVIDERS:
        return _checked_section(key, value, where)
    if not isinstance(value, str):
        raise ConfigError(f"{key} in {where} must be text, not {type(value).__name__}", code="config.value")
    return value


def _checked_section(section: str, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{section} in {where} must be an object of provider and config, not {type(value).__name__}",
            code="config.value",
        )
    for key in value:
        if key not in {"provider", "config"}:
            raise ConfigError(
                f"{section} in {where} has an unknown setting {key!r}",
                hint="a section has provider and config; the options of the provider stand in config",
                code="config.name",
            )
    provider = DEFAULT_PROVIDERS[section] if value.get("provider") is None else value["provider"]
    if not isinstance(provider, str) or not provider.strip():
        raise ConfigError(f"{section} in {where} names no provider", code="config.missing")
    options = value.get("config")
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(name, str) for name in options)):
        raise ConfigError(f"{section}.config in {where} must be an object of options", code="config.value")
    checked = _copy(options or {})
    if section == "vector_store" and "database_path" in checked:
        # The same option under its name in the powermem that came before.
        checked.setdefault("path", checked.pop("database_path"))
    return {"provider": provider.strip().lower(), "config": checked}


def _copy(value: Any) -> Any:
    """The objects and lists anew, what is in them as it is: an option may be anything a program passes."""
    if isinstance(value, Mapping):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _env_layers(
    env_file: str | None, environ: Mapping[str, str], folder: Path
) -> tuple[list[tuple[Mapping[str, str], Origin]], list[str]]:
    """The environment, then the file that was named, then the one that was found; and warnings."""
    layers: list[tuple[Mapping[str, str], Origin]] = [(environ, ENVIRONMENT)]
    warnings: list[str] = []
    if env_file is not None:
        texts, said = read_env_file(folder / env_file, env_file)
        layers.append((texts, Origin(env_file)))
        warnings += said
    # Who names the file in this folder vouches for it.
    if env_file is None or os.path.realpath(folder / env_file) != os.path.realpath(folder / ".env"):
        texts, said = find_env_file(folder)
        layers.append((texts, DOT_ENV))
        warnings += said
    return layers, warnings


def _config_file(named: str | None, environ: Mapping[str, str], folder: Path) -> tuple[dict[str, Any], str, list[str]]:
    """The checked form of the file that was named, or of the user's own if there is one; its name; and warnings."""
    try:
        path = folder / named if named is not None else user_config_file(environ)
    except ConfigError:  # without a home folder there is no file of the user's
        return {}, "", []
    source = named if named is not None else str(path)
    try:
        with path.open("rb") as stream:
            content, mode = stream.read(), os.fstat(stream.fileno()).st_mode
    except OSError as error:
        if named is None and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return {}, "", []
        raise ConfigError(f"can't read {source}: {error.strerror}", code="config.file") from error
    form = _checked_form(_decoded(content, source), source)
    return form, source, exposure(source, mode) if without_secrets(form) != form else []


def _decoded(content: bytes, source: str) -> Any:
    try:
        if source.endswith(".json"):
            return json.loads(content)
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        kind = "JSON" if source.endswith(".json") else "TOML"
        raise ConfigError(f"{source} is not valid {kind}: {error}", code="config.file") from error


def _shown(path: tuple[str, ...], located: Located) -> Setting:
    name = ".".join(path if path[1:2] != ("config",) else (path[0], *path[2:]))
    if is_secret(path[-1]):
        secret = str(located.value)
        value = f"{masked(secret)} (set, {len(secret)} characters, from {located.origin.source})"
    else:
        value = str(without_secrets(located.value))
    return Setting(name, value, located.origin)
