"""The program, with a home of its own for every test."""

from __future__ import annotations

import pytest
from program import Powermem


@pytest.fixture
def powermem(tmp_path):
    return Powermem(tmp_path)
