"""Fixtures for every test: one event loop, the database servers (started when first asked for), places for stores."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engines import Postgres, Seekdb, running
from given_servers import GivenPostgres, GivenSeekdb
from hypothesis import HealthCheck, settings
from places import OceanBasePlace, Place, PostgresPlace, SqlitePlace

# No verdict by the clock: a machine may be busy.
settings.register_profile("untimed", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# What tests write lies in memory where there is room for all of it: a third of their time would be syncs of small files.
IN_MEMORY = "/dev/shm"
ROOM = 4 << 30
with contextlib.suppress(OSError):
    if shutil.disk_usage(IN_MEMORY).free >= ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", IN_MEMORY)

# Whose tests want a database server, mostly: of two processes one runs all of them, so that each server starts once.
WITH_SERVERS = (
    "tests/stores/test_contract",
    "tests/stores/test_kill_servers",
    "tests/stores/test_round_trip",
    "tests/stores/test_servers",
    "tests/test_moving",
    "tests/test_samples",
    "tests/test_trash",
)

SEEKDB_HAS_A_WHEEL = sys.version_info >= (3, 11) or "POWERMEM_TEST_SEEKDB" in os.environ
ENGINES = ("sqlite", "postgres", "oceanbase")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As --dist loadfile, which hands out whole files; WITH_SERVERS are one to it, unless more than two would wait."""
    if config.getoption("dist") != "loadfile" or config.getoption("numprocesses") != 2:
        return None
    from xdist.scheduler import LoadFileScheduling

    class WholeFiles(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "servers" if nodeid.startswith(WITH_SERVERS) else super()._split_scope(nodeid)

    return WholeFiles(config, log)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"  # the database drivers know no other


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    url = os.environ.get("POWERMEM_TEST_POSTGRES_URL")
    with running(GivenPostgres(url) if url else Postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def seekdb_server() -> Iterator[Seekdb]:
    url = os.environ.get("POWERMEM_TEST_OCEANBASE_URL")
    if not url and not SEEKDB_HAS_A_WHEEL:
        pytest.skip("the engine's wheel wants Python 3.11; POWERMEM_TEST_SEEKDB may name its program")
    with running(GivenSeekdb(url) if url else Seekdb()) as server:
        yield server


@pytest.fixture(scope="session")
def new_place(request, tmp_path_factory) -> Callable[[str], Place]:
    """engine → a place of that engine where nothing was ever stored."""
    numbers = itertools.count()

    def make(engine: str) -> Place:
        collection = f"c{next(numbers)}"
        if engine == "postgres":
            return PostgresPlace(request.getfixturevalue("postgres_server"), collection)
        if engine == "oceanbase":
            return OceanBasePlace(request.getfixturevalue("seekdb_server"), collection)
        return SqlitePlace(tmp_path_factory.mktemp("sqlite") / "memories.db")

    return make


@pytest.fixture(scope="session")
def used_places() -> dict[str, Place]:
    return {}


@pytest.fixture(params=ENGINES)
async def place(request, new_place, used_places) -> Place:
    """A place where nothing is stored: on a server a used one, wiped, since tables take long to make."""
    engine = request.param
    if engine in used_places:
        await used_places[engine].wipe()
        return used_places[engine]
    place = new_place(engine)
    if engine != "sqlite":
        async with place.opened():
            used_places[engine] = place
    return place


@pytest.fixture
async def store(place):
    async with place.opened() as opened:
        yield opened
