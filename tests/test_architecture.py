"""The house: imports fall downwards only, families keep to themselves, and foreign libraries stay in their rooms."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "powermem_cli"
ROOT = "powermem_cli"

STOREYS = (
    {"__main__", "powermem"},
    {"cli"},
    {"ingestion", "jobs"},
    {"ahead"},
    {"batch", "checkpoint", "checkup", "estimates", "output", "readers", "sync_memory", "trash", "mcp_server"},
    {"memory", "moving", "parquet", "reembed"},
    {"adding", "search"},
    {"inference"},
    {"block_outcomes", "exchange", "failed", "intelligence", "plan", "results", "retrieval", "second_look"},
    {"answers"},
    {"accounts"},
    {"providers", "stores"},
    {"config", "prompts"},
    {"layers", "whole_file"},
    {"blocks"},
    {"envfile", "filters", "identity", "lock", "paths", "registry", "retry", "rules"},
    {
        "dates",
        "feed",
        "files",
        "grouping",
        "in_flight",
        "lanes",
        "loose_json",
        "model",
        "terms",
        "times",
        "turns",
        "variables",
    },
    {"errors", "spellings"},
)
"""From the front door to the ground. Rooms on one storey do not know each other."""

DEPTH = {room: depth for depth, rooms in enumerate(STOREYS) for room in rooms}

HOMES = {
    "typer": ("cli/",),
    "rich": ("cli/", "output/"),
    "httpx": ("providers/http.py",),
    "apsw": ("stores/sqlite",),
    "aiosqlite": ("stores/sqlite",),
    "sqlite_vec": ("stores/sqlite",),
    "asyncpg": ("stores/postgres",),
    "aiomysql": ("stores/oceanbase",),
    "pymysql": ("stores/oceanbase",),
    "sentence_transformers": ("providers/sentence_transformers.py",),
    "dotenv": ("envfile.py",),
    "mcp": ("mcp_server.py",),
    "pyarrow": ("parquet.py",),
    "Stemmer": ("terms.py",),
    "click": (),  # typer may bring its own
}
"""The only files (or beginnings of their paths) that may import a library."""


def modules() -> dict[str, Path]:
    """Dotted name → file; a package has the name of its folder."""
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        steps = path.relative_to(PACKAGE.parent).with_suffix("").parts
        named[".".join(steps[:-1] if steps[-1] == "__init__" else steps)] = path
    return named


MODULES = modules()
FAMILIES = sorted({name for name, path in MODULES.items() if path.name == "__init__.py"} - {ROOT})


@cache
def imports(module: str) -> frozenset[str]:
    """All that a module imports at any depth of its code, except for the type checker alone."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    return frozenset(name for node in _running(tree) for name in _imported(node))


def _running(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        for_types_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and child in node.body
        if not for_types_only:
            yield from _running(child)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert not node.level, "an import says the whole name of what it means"
    submodules = [f"{node.module}.{alias.name}" for alias in node.names]
    found = [name for name in submodules if name in MODULES]
    return [*found, *([] if len(found) == len(submodules) else [str(node.module)])]


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == ROOT}


def room(module: str) -> str:
    """The name on the top level under which a module lives: a file or a family."""
    return module.removeprefix(f"{ROOT}.").split(".")[0]


def family(module: str) -> str | None:
    return next((name for name in FAMILIES if module == name or module.startswith(f"{name}.")), None)


def test_every_module_has_a_storey():
    assert {room(module) for module in MODULES if module != ROOT} <= set(DEPTH)


@pytest.mark.parametrize("module", [module for module in MODULES if module != ROOT])
def test_imports_fall_downwards(module):
    upwards = [
        name
        for name in own_imports(module) - {ROOT}
        if room(name) != room(module) and DEPTH[room(name)] <= DEPTH[room(module)]
    ]
    assert upwards == []


def test_the_package_itself_imports_nothing_of_its_own():
    assert own_imports(ROOT) == set()


@pytest.mark.parametrize("module", [module for module in MODULES if family(module) not in {None, module}])
def test_siblings_import_from_one_another_and_never_from_their_family(module):
    assert family(module) not in own_imports(module)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_chosen_by_name_is_not_imported_from_outside(name):
    chosen = {module for module, _ in table(name)}
    for module in MODULES:
        if family(module) != name:
            assert not (own_imports(module) & chosen), module


@pytest.mark.parametrize("name", FAMILIES)
def test_a_table_names_what_there_is(name):
    for module, wanted in table(name):
        body = ast.parse(MODULES[module].read_text("utf-8")).body
        assert wanted in {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def table(name: str) -> set[tuple[str, str]]:
    """(module, name in it) of all the entries "module:name" in the tables at a family's door."""
    tables = [value for value in vars(importlib.import_module(name)).values() if isinstance(value, dict)]
    entries = [entry.split(":") for values in tables for entry in values.values() if isinstance(entry, str)]
    return {(entry[0], entry[1]) for entry in entries if len(entry) == 2 and entry[0].startswith(f"{name}.")}


def test_stores_and_providers_are_in_tables():
    assert {name for name in FAMILIES if table(name)} == {f"{ROOT}.providers", f"{ROOT}.stores"}


def test_nothing_runs_in_a_circle():
    """Inside a family too; `static_order` raises CycleError."""
    graph = {module: own_imports(module) - {ROOT} for module in MODULES}
    assert set(TopologicalSorter(graph).static_order()) >= set(MODULES) - {ROOT}


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_only_where_it_is_at_home(library):
    guests = [
        MODULES[module].relative_to(PACKAGE).as_posix()
        for module in MODULES
        if any(name.split(".")[0] == library for name in imports(module))
    ]
    assert [guest for guest in guests if not guest.startswith(HOMES[library])] == []
