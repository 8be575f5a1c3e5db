"""One line of 40 MiB through the program, on its way from a pipe; all shapes and ways, and larger, where there is time."""

from __future__ import annotations

import pytest
from fire.big import MIB, SHAPES, faults, records_of, run, try_all

SIZE = 80 * MIB  # half of it in one piece


def test_a_line_of_forty_megabytes(powermem):
    (shape,) = [one for one in SHAPES if one.name == "a long line"]
    seen = run(powermem, shape, "FIFO, gzip", shape.pieces(SIZE))
    # Reading takes 80 MiB; with the line held, as bytes and as text, it could not be kept to.
    assert list(faults(shape, seen, records_of(shape, SIZE), bound=120)) == []


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_shape_in_every_way():
    assert try_all(100, 200, "", None) == []
