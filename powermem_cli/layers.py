"""Names, a file and a --db → the dict form of a configuration, with the origin of every value in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from powermem_cli.errors import ConfigError, did_you_mean
from powermem_cli.paths import default_database
from powermem_cli.variables import NAMES, VARIABLES, Kind, Variable

DEFAULT_PROVIDERS: Final = {"vector_store": "sqlite", "embedder": "local", "llm": None, "reranker": None}
"""The sections of the dict form, and what they are when nobody says."""

_SWITCH: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_PROVIDER_NAMES: Final = {v.path[0]: v.name for v in VARIABLES if v.path[1:] == ("provider",)}
_SECRET = re.compile(r"(?:^|_)(?:key|password|passwd|secret|token|dsn|authorization)$", re.IGNORECASE)
_ADDRESSES: Final = {variable.path for variable in VARIABLES if variable.kind == "address"}

OptionPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was found: *variable* is set for a name in the environment or a .env file."""

    source: str
    variable: str | None = None
    chosen: bool = True
    """By the user; a .env that merely lay in the folder was not."""

    def __str__(self) -> str:
        return f"{self.variable} in {self.source}" if self.variable else self.source


ENVIRONMENT: Final = Origin("the environment")
DOT_ENV: Final = Origin("./.env", chosen=False)
BUILT_IN: Final = Origin("built-in")
COMMAND_LINE: Final = Origin("--db")


@dataclass(frozen=True, slots=True)
class Located:
    """A value, and where it came from."""

    value: Any
    origin: Origin


Values = dict[OptionPath, Located]
"""The dict form laid flat: the path to each value → the value."""


def is_secret(option: str) -> bool:
    return _SECRET.search(option) is not None


def given_names(layers: Sequence[tuple[Mapping[str, str], Origin]]) -> dict[str, Located]:
    """Name → its text. The first layer that has a name decides; an empty text there means "not set"."""
    given: dict[str, Located] = {}
    for texts, origin in reversed(layers):
        given.update({name: Located(texts[name], replace(origin, variable=name)) for name in NAMES if name in texts})
    return {name: located for name, located in given.items() if located.value.strip()}


def assemble(
    given: Mapping[str, Located],
    environ: Mapping[str, str],
    file: Mapping[str, Any] | None = None,
    file_source: str = "",
    db: str | None = None,
    calls: Mapping[str, Any] | None = None,
) -> Values:
    """Takes values from the strongest source (*db*) to the weakest (built-in); the first for a place stays.

    *file* is a checked dict form; *calls* are options of the command line for all providers behind a network. Raises
    ConfigError.
    """
    values: Values = {}
    file = file or {}
    if db is not None:
        _put(values, parse_db(db), COMMAND_LINE)
    for section in DEFAULT_PROVIDERS:
        _fill_section(values, section, given, file.get(section, {}), Origin(file_source))
        _refuse_mixed_sources(values, section)
    if values["vector_store", "provider"].value == "sqlite" and ("vector_store", "config", "path") not in values:
        _put(values, {("vector_store", "config", "path"): str(default_database(environ))}, BUILT_IN)
    for name, value in (calls or {}).items():
        _put(values, {("calls", name): value}, Origin(f"--{name}"))
    for variable in VARIABLES:
        if len(variable.path) == 1 or variable.path[0] == "calls":
            _put_given(values, variable, given)
    _put(values, {(name,): text for name, text in file.items() if isinstance(text, str)}, Origin(file_source))
    return values


def dict_form(values: Values) -> dict[str, Any]:
    """The nested form. A place that holds None stays empty: there the provider's own default holds."""
    form: dict[str, Any] = {}
    for path, located in values.items():
        inner = form
        for step in path[:-1]:
            inner = inner.setdefault(step, {})
        if not isinstance(inner, dict) or isinstance(inner.get(path[-1]), dict):
            raise ConfigError(f"{'.'.join(path[:3])} must be an object of options", code="config.value")
        if located.value is not None:
            inner[path[-1]] = located.value
    for section in DEFAULT_PROVIDERS:
        if section in form:
            form[section].setdefault("config", {})
    return form


def unused_names(given: Mapping[str, Located], values: Values) -> list[str]:
    """A sentence for each name in a file that has no effect because its section names no provider."""
    said = []
    for variable in VARIABLES:
        section, located = variable.path[0], given.get(variable.name)
        if variable.provider is None and section in {"embedder", "llm"} and variable.path[1] == "config" and located:
            chosen = values.get((section, "provider"))
            if located.origin.source != ENVIRONMENT.source and (chosen is None or chosen.origin == BUILT_IN):
                said.append(f"{located.origin} has no effect without {_PROVIDER_NAMES[section]}")
    return said


def _fill_section(
    values: Values, section: str, given: Mapping[str, Located], described: Mapping[str, Any], file_origin: Origin
) -> None:
    provider = values.get((section, "provider")) or _provider(section, given, described, file_origin)
    if provider is None:
        return
    values[section, "provider"] = provider
    # EMBEDDING_MODEL and its like, alone, are no choice of a provider: the built-in one takes no options.
    if section != "embedder" or provider.origin != BUILT_IN:
        for variable in VARIABLES:
            if variable.path[:2] == (section, "config") and variable.provider in {None, provider.value}:
                _put_given(values, variable, given)
    if described.get("provider") == provider.value:
        _put(values, dict(_leaves(described["config"], (section, "config"))), file_origin)


def _provider(
    section: str, given: Mapping[str, Located], described: Mapping[str, Any], file_origin: Origin
) -> Located | None:
    switch = given.get("RERANKER_ENABLED") if section == "reranker" else None
    if switch and not _converted(switch, "switch"):
        return None
    if named := given.get(_PROVIDER_NAMES[section]):
        return Located(named.value.strip().lower(), named.origin)
    if "provider" in described:
        return Located(described["provider"], file_origin)
    if switch:
        raise ConfigError(f"{switch.origin} needs RERANKER_PROVIDER, which is not set", code="config.missing")
    default = DEFAULT_PROVIDERS[section]
    return Located(default, BUILT_IN) if default else None


def _put(values: Values, leaves: Mapping[OptionPath, Any], origin: Origin) -> None:
    for path, value in leaves.items():
        values.setdefault(path, Located(value, origin))


def _put_given(values: Values, variable: Variable, given: Mapping[str, Located]) -> None:
    if (located := given.get(variable.name)) is not None:
        values.setdefault(variable.path, Located(_converted(located, variable.kind), located.origin))


def _leaves(mapping: Mapping[str, Any], path: OptionPath) -> Iterator[tuple[OptionPath, Any]]:
    for name, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _converted(located: Located, kind: Kind) -> Any:
    text: str = located.value
    if kind == "secret":
        return text
    text = text.strip()
    if kind in {"text", "address"}:
        return text
    try:
        if kind == "switch":
            return _SWITCH[text.lower()]
        number = int(text) if kind == "integer" else float(text)
        if not math.isfinite(number):
            raise ValueError
    except (KeyError, ValueError):
        wanted = {"switch": "true or false", "integer": "a whole number", "number": "a number"}[kind]
        raise ConfigError(f"{located.origin} is {text[:40]!r}, not {wanted}", code="config.value") from None
    return number


def _refuse_mixed_sources(values: Values, section: str) -> None:
    """A .env that came with a folder may say where its own secrets go, but not where those of the user go."""
    for path, address in values.items():
        if path[0] != section or path not in _ADDRESSES or address.origin.chosen:
            continue
        for other, secret in values.items():
            if other[0] == section and is_secret(other[-1]) and secret.origin.chosen:
                raise ConfigError(
                    f"{address.origin} would be sent the secret of {secret.origin}",
                    hint="put both into one place, or, if you trust the file, name it: --env-file .env or auto_config('.env')",
                    code="config.mixed_sources",
                )


_URL_OPTIONS: Final = {
    "oceanbase": ("connection_args.host", "connection_args.port", "connection_args.user", "connection_args.db_name"),
    "postgres": ("host", "port", "user", "dbname"),
}
_SCHEMES: Final = {"oceanbase": "oceanbase", "postgresql": "postgres", "postgres": "postgres"}


def parse_db(db: str) -> dict[OptionPath, Any]:
    """What --db says about the store: a path, `sqlite:///path` or `oceanbase://user@host:2881/database`.

    Whatever a URL leaves out is None, so that it is not mixed with the parts of another server's address.
    """
    if not db.strip():
        raise ConfigError("--db is empty", hint="a path, or a URL", code="config.value")
    scheme, separator, rest = db.partition("://")
    provider = "sqlite" if not separator else scheme.lower()
    if provider == "sqlite":
        # As elsewhere: sqlite:///notes.db is a relative path, sqlite:////var/notes.db an absolute one.
        if separator and (not rest.startswith("/") or rest == "/"):
            raise ConfigError(
                "--db sqlite:// needs a third slash and a path", hint="sqlite:///notes.db", code="config.value"
            )
        return _store("sqlite", {"path": rest[1:] if separator else db})
    if provider not in _SCHEMES:
        raise ConfigError(
            f"--db knows no {scheme!r} URL",
            hint=did_you_mean(scheme, ("sqlite", *_SCHEMES)),
            code="config.value",
        )
    provider = _SCHEMES[provider]
    return _store(provider, {"dsn": None, **dict(zip(_URL_OPTIONS[provider], _server(db), strict=True))})


def _store(provider: str, options: Mapping[str, Any]) -> dict[OptionPath, Any]:
    located = {("vector_store", "config", *option.split(".")): value for option, value in options.items()}
    return {("vector_store", "provider"): provider, **located}


def _as_written(netloc: str) -> str:
    """The host in there; urlsplit would make small letters of it."""
    return netloc.rpartition("@")[2].partition(":")[0]


def _server(url: str) -> tuple[str, int | None, str | None, str | None]:
    """Host, port, user and database of a URL."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415

    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        raise ConfigError(
            "--db is no URL that can be read", hint="scheme://user@host:port/database", code="config.value"
        ) from None
    if found.password is not None:
        raise ConfigError(
            "--db must not hold a password: every process can read the command line",
            hint="set OCEANBASE_PASSWORD or POSTGRES_PASSWORD",
            code="config.password",
        )
    if not found.hostname or found.query or found.fragment:
        raise ConfigError(
            "--db needs scheme://user@host:port/database, and nothing else",
            hint="write # and ? in a name as %23 and %3F",
            code="config.value",
        )
    host = unquote(_as_written(found.netloc)) if "%" in found.hostname else found.hostname  # a Unix socket's folder
    return host, port, unquote(found.username or "") or None, unquote(found.path[1:]) or None
