"""A few of the kills of kill_servers.py: of the program, and of the server under several of them."""

from __future__ import annotations

import pytest
from stores.kill_servers import kill_the_program, kill_the_server

pytestmark = pytest.mark.timeout(300)  # many processes, one after the other


@pytest.mark.parametrize("engine", ["postgres", "oceanbase"])
def test_nothing_is_lost_or_doubled_when_the_program_is_killed(engine, request):
    if engine == "oceanbase":
        request.getfixturevalue("seekdb_server")  # skips where its wheel can't be
    figures = kill_the_program(engine, 2, 150, 3)
    assert figures.clean, figures
    assert figures.kills == 2


def test_nothing_is_lost_or_doubled_when_the_server_is_killed():
    figures = kill_the_server("postgres", 1, 150, 3, 3)
    assert figures.clean, figures
    assert figures.kills == 1
