"""A few of the kills of kill_servers.py: of the program, of its lines, and of the server under several of them."""

from __future__ import annotations

import pytest
from engines import Postgres, SteadySeekdb, running
from stores.kill_servers import cut_the_lines, kill_the_program, kill_the_server

pytestmark = pytest.mark.timeout(300)  # many processes, one after the other


@pytest.fixture(params=["postgres_server", "seekdb_server"])
def server(request):
    return request.getfixturevalue(request.param)


def test_nothing_is_lost_or_doubled_when_the_program_is_killed(server):
    figures = kill_the_program(server, 2, 150, 3)
    assert figures.clean, figures
    assert figures.kills == 2


def test_nothing_is_lost_or_doubled_when_all_lines_are_cut(server):
    figures = cut_the_lines(server, 2, 300, 2, 3)
    assert figures.clean, figures
    assert figures.kills == 2


def test_nothing_is_lost_or_doubled_when_the_server_is_killed():
    with running(Postgres()) as server:
        figures = kill_the_server(server, 1, 150, 3, 3)
    assert figures.clean, figures
    assert figures.kills == 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", [Postgres, SteadySeekdb])
def test_nothing_is_lost_or_doubled_however_often_the_server_is_killed(engine):
    with running(engine()) as server:
        figures = kill_the_server(server, 10, 2000, 8, 3)
    assert figures.clean, figures
