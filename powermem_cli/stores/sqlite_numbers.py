"""The numbers that stand for names, scopes and origins in the rows of an SQLite store."""

from __future__ import annotations

import apsw

from powermem_cli.model import Origin, Scope
from powermem_cli.stores.sqlite_rows import number_of, origin_name

ScopeNumbers = tuple[int | None, int | None, int | None]


class Numbers:
    """Given in the caller's transaction to whoever has none yet. *names* are those that are known by now, and outlast
    this.
    """

    def __init__(self, db: apsw.Connection, names: dict[str, int]) -> None:
        self._db = db
        self._names = names
        self._scopes: dict[Scope, ScopeNumbers] = {}
        self._origins: dict[tuple[str | None, ...], int] = {}

    def of_scope(self, scope: Scope) -> ScopeNumbers:
        """The numbers of user, agent and run, None where there is none."""
        numbers = self._scopes.get(scope)
        if numbers is None:
            user, agent, run = map(self._of_name, scope)
            numbers = self._scopes[scope] = (user, agent, run)
        return numbers

    def of_origin(self, origin: Origin | None) -> tuple[int | None, int | None]:
        """The number of an origin without its line, and the line."""
        if origin is None:
            return None, None
        known = (origin.job, origin.file, origin.role)
        number = self._origins.get(known)
        if number is None:
            number = self._origins[known] = number_of(self._db, "origins", origin_name(origin))
        return number, origin.line

    def _of_name(self, name: str | None) -> int | None:
        if name is None:
            return None
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = number_of(self._db, "names", name)
        return number
