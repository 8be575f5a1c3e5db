"""Memories that go round through all engines by `export` and `import` come back as they were, with all that is known."""

from __future__ import annotations

import pytest
from benchmarks.moving import round_trip

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def test_twenty_thousand_go_round(new_place, tmp_path):
    round_trip(tmp_path, 20_000, [new_place(engine) for engine in ("sqlite", "oceanbase", "postgres", "sqlite")])
