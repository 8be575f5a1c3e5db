"""Whether anybody is asked over a network by what runs in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

ASKING = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"}


class _Listening:
    """A hook that was added stays for good, so there is one."""

    def __init__(self) -> None:
        self.heard: list[str] | None = None
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: object) -> None:
        if self.heard is not None and event in ASKING:
            self.heard.append(f"{event} {arguments}")


_hook = _Listening()


@contextmanager
def nobody_is_asked() -> Iterator[None]:
    """Raises AssertionError at the end, with all that was."""
    _hook.heard = heard = []
    try:
        yield
    finally:
        _hook.heard = None
    assert heard == []
