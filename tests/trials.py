"""What the scripts among the tests share: a seed that can be given again, and the options it comes with."""

from __future__ import annotations

import argparse
import random


def a_seed() -> int:
    """Another one each time; whoever uses it says it, so that a run can be repeated."""
    return random.SystemRandom().randrange(1_000_000)


def options_of(said: str | None, *, seeded: bool = True) -> argparse.ArgumentParser:
    """A parser that shows what a script's docstring says, as it is written there."""
    parser = argparse.ArgumentParser(description=said, formatter_class=argparse.RawDescriptionHelpFormatter)
    if seeded:
        parser.add_argument("--seed", type=int, default=a_seed())
    return parser
