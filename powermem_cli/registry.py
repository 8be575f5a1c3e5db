"""From a name and options in the configuration to an object: imported only when chosen, every option checked."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from powermem_cli.errors import ConfigError, did_you_mean


def create(kind: str, table: Mapping[str, str], provider: str, options: Mapping[str, Any]) -> Any:
    """The object that *table* ({provider: "package.module:Name"}) has for *provider*, made with *options*.

    The keyword parameters of Name are the options there are. Raises ConfigError that lists the right names.
    """
    dotted = table.get(provider.lower())
    if dotted is None:
        raise ConfigError(
            f"there is no {kind} provider {provider!r}", hint=did_you_mean(provider, table), code="config.provider"
        )
    module_name, _, name = dotted.partition(":")
    factory = getattr(_imported(module_name, kind, provider), name)
    parameters = inspect.signature(factory).parameters
    for option in options:
        if option not in parameters:
            raise ConfigError(
                f"{kind} {provider!r} has no option {option!r}",
                hint=did_you_mean(option, parameters),
                code="config.option",
            )
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in options]
    if missing:
        raise ConfigError(f"{kind} {provider!r} needs {' and '.join(missing)}", code="config.missing")
    return factory(**options)


def _imported(module_name: str, kind: str, provider: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module of ours that is missing is a bug and must not be dressed up as a missing extra.
        if (error.name or "").startswith("powermem_cli"):
            raise
        raise ConfigError(
            f"{kind} {provider!r} needs the Python package {error.name!r}, which is not installed",
            hint=f'pip install "powermem-cli[{provider}]"',
            code="config.extra",
        ) from error
