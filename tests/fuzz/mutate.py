"""Damaged input without a coverage-guided fuzzer: the same bytes for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

LONGEST = 2048  # bytes


def mutated(seeds: Sequence[bytes], tokens: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Without end: one of *seeds*, or of what came before, after a few cuts, copies, flips and *tokens* put in."""
    draw = random.Random(seed)
    pool = [*seeds]
    while True:
        data = bytearray(draw.choice(pool))
        for _ in range(draw.choice((1, 1, 2, 4, 8))):
            _change(data, tokens, draw)
        made = bytes(data[:LONGEST])
        if len(pool) < 64 and draw.random() < 0.1:
            pool.append(made)
        yield made


def _change(data: bytearray, tokens: Sequence[bytes], draw: random.Random) -> None:
    at = draw.randint(0, len(data))
    end = min(len(data), at + draw.choice((1, 1, 2, 8, 64)))
    match draw.randrange(5):
        case 0:
            data[at:at] = draw.choice(tokens)
        case 1:
            del data[at:end]
        case 2:
            data[at:at] = data[at:end] * draw.choice((1, 1, 2, 30))
        case 3:
            data[at:end] = draw.randbytes(end - at)
        case _:
            data[at:end] = draw.choice(tokens)
