"""Where things are kept when nobody says where: the folders of the XDG rules, on every system."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from powermem_cli.errors import ConfigError


def default_database(environ: Mapping[str, str] = os.environ) -> Path:
    return _folder(environ, "XDG_DATA_HOME", ".local/share") / "powermem.db"


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of jobs: checkpoints, rejects, locks."""
    return _folder(environ, "XDG_STATE_HOME", ".local/state")


def user_config_file(environ: Mapping[str, str] = os.environ) -> Path:
    return _folder(environ, "XDG_CONFIG_HOME", ".config") / "config.toml"


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's home folder, also where cron sets no HOME. Raises ConfigError if there is none."""
    named = environ.get("HOME") or environ.get("USERPROFILE")
    if named:
        return Path(named)
    try:
        import pwd  # noqa: PLC0415  not on Windows

        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except (ImportError, KeyError):
        raise ConfigError(
            "there is no home folder: HOME is not set and the system knows none for this user",
            hint="set HOME, or name the database with --db and the job's folder with XDG_STATE_HOME",
            code="config.home",
        ) from None


def _folder(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    named = Path(environ.get(variable, ""))
    # The XDG rules say so: a path that is not absolute is ignored.
    return (named if named.is_absolute() else home(environ) / below_home) / "powermem"
