"""Whose memories there are: what Tab offers; and which user, or which metadata, may have been meant where nothing was found."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from powermem_cli.cli.session import Run

T = TypeVar("T")

SHOWN: Final = 5
LOOKED_AT: Final = 1000  # memories whose metadata is looked at


def users_of(config: Any) -> list[str]:
    """The users of a store in a file, which is only read, by name; none of a store on a server, which is not asked."""
    from powermem_cli.stores.base import EVERYTHING  # noqa: PLC0415 - `--help` does without

    counted = _looked_up(config, lambda store: store.tally("user_id", EVERYTHING)) or {}
    return sorted(name for name in counted if isinstance(name, str) and name.isprintable())


def _keys_of(config: Any) -> list[str]:
    """What the metadata of memories is called, as far as the first of them tell; of a store on a server nothing."""
    from powermem_cli.stores.base import EVERYTHING  # noqa: PLC0415 - `--help` does without

    rows = _looked_up(config, lambda store: store.find(EVERYTHING, limit=LOOKED_AT)) or []
    return sorted({key for row in rows for key in row.metadata})


def _looked_up(config: Any, work: Callable[[Any], Awaitable[T]]) -> T | None:
    import asyncio  # noqa: PLC0415 - `--help` does without

    from powermem_cli.cli.access import accessing  # noqa: PLC0415
    from powermem_cli.stores import create_store  # noqa: PLC0415

    if config.vector_store.provider != "sqlite":
        return None
    choice = accessing(config, "read").vector_store

    async def looked() -> T:
        store = create_store(choice.provider, choice.options)
        await store.open(None)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(looked())


def note_nothing(run: Run, said: str, user: str | None, where: Sequence[str] | None = None) -> None:
    """Tell that there was nothing; at a terminal also that nobody of that name is known, or no metadata of such a key
    of *where* (KEY=VALUE), and what may have been meant.
    """
    from powermem_cli.errors import PowerMemError  # noqa: PLC0415 - `--help` does without
    from powermem_cli.output.console import is_terminal  # noqa: PLC0415

    whose = run.user(user)
    if not run.quiet and is_terminal(run.stderr):
        with suppress(PowerMemError):  # no store yet, which was said
            if whose is not None:
                said += _who(whose, users_of(run.settings.config))
            if where:
                said += _which([pair.partition("=")[0] for pair in where], _keys_of(run.settings.config))
    run.note(said)


def _which(wanted: Sequence[str], keys: list[str]) -> str:
    from powermem_cli.filters import COLUMNS  # noqa: PLC0415 - `--help` does without

    for key in wanted:
        if key not in COLUMNS and key.partition(".")[0] not in keys:
            near = difflib.get_close_matches(key, [*keys, *COLUMNS], 1)
            return f": no memory has {key!r} in its metadata" + (f"; did you mean {near[0]}?" if near else "")
    return ""


def _who(whose: str, users: list[str]) -> str:
    if whose in users:
        return ""
    names = {name.lower(): name for name in users}
    near = difflib.get_close_matches(whose.lower(), names, 1)
    if near:
        return f": user {whose!r} is not known; did you mean {names[near[0]]}?"
    listed = ", ".join(users[:SHOWN]) + (", ..." if len(users) > SHOWN else "")
    return f": user {whose!r} is not known; there is {listed or 'nobody yet'}"
