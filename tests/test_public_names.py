"""What `import powermem` and `import powermem_cli` give, and that they give it without loading the engine."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from typing import is_typeddict

import powermem
import pytest

import powermem_cli
from powermem_cli import results
from powermem_cli.config import auto_config
from powermem_cli.errors import PowerMemError
from powermem_cli.memory import AsyncMemory
from powermem_cli.sync_memory import Memory

TYPES = [value for value in vars(results).values() if is_typeddict(value) and not value.__name__.startswith("_")]
NAMES = {thing.__name__: thing for thing in (AsyncMemory, Memory, PowerMemError, auto_config, *TYPES)}


def in_a_new_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_both_import_names_give_the_same():
    for name, value in NAMES.items():
        assert getattr(powermem, name) is getattr(powermem_cli, name) is value


def test_the_public_names_are_listed_and_no_others():
    assert sorted(powermem_cli.__all__) == sorted(NAMES) == sorted(powermem.__all__)
    assert set(NAMES) <= set(dir(powermem_cli))
    given: dict[str, object] = {}
    exec("from powermem import *", given)
    assert set(given) - {"__builtins__"} == set(NAMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="AsyncMemry"):
        powermem_cli.AsyncMemry  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    assert powermem_cli.__version__ == importlib.metadata.version("powermem-cli")


def test_a_name_is_loaded_when_it_is_asked_for():
    code = "import sys, json, powermem_cli; print(json.dumps([n for n in sys.modules if n.startswith('powermem_cli')]))"
    assert json.loads(in_a_new_interpreter(code)) == ["powermem_cli"]


def test_the_engine_loads_no_library_before_it_is_used():
    heavy = "numpy httpx rich typer apsw aiosqlite Stemmer"
    code = f"import sys; from powermem_cli import Memory; print([n for n in '{heavy}'.split() if n in sys.modules])"
    assert in_a_new_interpreter(code).strip() == "[]"
