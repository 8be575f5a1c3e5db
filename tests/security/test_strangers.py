"""Users whose ids somebody might take for one another, in small; `strangers.py` is the long run."""

from __future__ import annotations

import pytest
from security.strangers import mingle
from trials import a_seed

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "engine", ["sqlite", *(pytest.param(one, marks=pytest.mark.soak) for one in ("postgres", "oceanbase"))]
)
@pytest.mark.parametrize("operations", [600, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
async def test_each_sees_what_is_his(new_place, engine, operations):
    figures = await mingle(new_place(engine), operations, a_seed())
    assert not figures.wrong, figures
    assert figures.operations.total() >= operations
