"""A .env file → the names in it that we read. Refuses one that somebody else could have written."""

from __future__ import annotations

import difflib
import io
import os
import stat
from pathlib import Path
from typing import Final

from powermem_cli.errors import ConfigError
from powermem_cli.variables import NAMES, VARIABLES

_SECRETS: Final = {variable.name for variable in VARIABLES if variable.kind == "secret"}
_PREFIXES: Final = {name.partition("_")[0] for name in NAMES}


def read_env_file(path: Path, source: str) -> tuple[dict[str, str], list[str]]:
    """The values of a file that the user named, and warnings; *source* is what messages call it."""
    try:
        with path.open("rb") as stream:
            return _parsed(stream.read(), source, os.fstat(stream.fileno()).st_mode)
    except OSError as error:
        raise ConfigError(f"can't read {source}: {error.strerror}", code="config.file") from error


def find_env_file(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The same for the .env that happens to lie in *folder*, if there is one; a stranger's is an error."""
    path, source = folder / ".env", "./.env"
    try:
        if not path.is_file():  # a virtual environment may be called .env, too
            return {}, []
        with path.open("rb") as stream:
            file = os.fstat(stream.fileno())
            values, warnings = _parsed(stream.read(), source, file.st_mode)
    except OSError as error:
        raise ConfigError(f"can't read {source}: {error.strerror}", code="config.file") from error
    if values and os.name == "posix":
        _refuse_foreign(file, source, "chmod o-w .env")
        _refuse_foreign(folder.stat(), "the folder of ./.env", "chmod o-w .")
    return values, warnings


def exposure(source: str, mode: int) -> list[str]:
    """A warning if a file of this *mode* with a secret in it can be read by others."""
    if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
        return [f"{source} holds a secret and others may read it: chmod 600 {source}"]
    return []


def _refuse_foreign(found: os.stat_result, what: str, cure: str) -> None:
    """Whoever may write the file, or replace it in its folder, chooses where keys are sent."""
    trust = "or, if you trust it, name it: --env-file .env or auto_config('.env')"
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & stat.S_IWOTH and not sticky:
        raise ConfigError(f"{what} can be written by everybody", hint=f"{cure}, {trust}", code="config.unsafe_file")
    if found.st_uid not in {0, os.getuid()}:
        raise ConfigError(
            f"{what} belongs to another user (uid {found.st_uid})",
            hint=f"run as its owner, {trust}",
            code="config.unsafe_file",
        )


def _parsed(content: bytes, source: str, mode: int) -> tuple[dict[str, str], list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} is not UTF-8 (byte {error.start})", code="config.file") from None
    if not any(prefix in text for prefix in _PREFIXES):
        return {}, []  # spares the import of the parser where the file is none of ours
    values, others = _values(text, source)
    warnings = [f"{source} sets {name}, which nothing reads{_meant(name)}" for name in others if _meant(name)]
    return values, warnings + (exposure(source, mode) if any(values.get(name) for name in _SECRETS) else [])


def _meant(name: str) -> str:
    """Only for what is all but one of ours: the rest of the file belongs to other programs."""
    near = difflib.get_close_matches(name.upper(), NAMES, 1, cutoff=0.9)
    return f"; did you mean {near[0]}?" if near else ""


def _values(text: str, source: str) -> tuple[dict[str, str], list[str]]:
    """The values of our names, and the names that are none of ours."""
    from dotenv.parser import parse_stream  # noqa: PLC0415  25 ms that only a run with such a file pays

    values, others = {}, []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # A line that is none of ours may be anything; one of ours must not be dropped without a word.
            broken = [name for name in NAMES if name in binding.original.string]
            if broken:
                raise ConfigError(
                    f"{source} has {broken[0]} on a line that can't be read",
                    hint="is a quote left open?",
                    code="config.file",
                )
        elif binding.key in NAMES and binding.value is not None:
            values[binding.key] = binding.value
        elif binding.key is not None:
            others.append(binding.key)
    return values, others
