"""Exceptions that are none of ours, said as what they are: limits of the system, a stream that can't be written, a bug."""

from __future__ import annotations

import errno
from typing import Final

from powermem_cli.errors import InvariantError, PowerMemError, StoreError

_STARVED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_STARVED_WORDS: Final = (
    "failed to map segment",
    "annot allocate memory",
    "can't start new thread",
    "no memory left",
)
UNWRITABLE: Final = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}


def as_ours(error: Exception) -> PowerMemError:
    ours: PowerMemError
    starved = None if isinstance(error, StoreError) else _starved(error)
    if starved is not None:
        words = (str(starved).strip() or type(starved).__name__).splitlines()[-1]
        ours = StoreError(
            f"the system gives no more files, memory or threads: {words}",
            hint="what was done is kept; allow more (ulimit -a shows the limits), then run the same command again",
            code="system.limits",
        )
    elif isinstance(error, PowerMemError):
        return error
    elif isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename is None:
        # Of the streams: everything else is translated where it is opened.
        ours = StoreError(f"could not write to the standard output: {error.strerror or error}", code="output.io")
    else:
        ours = InvariantError(f"{type(error).__name__}: {error}", hint="please report this, with what -vv prints")
    ours.__cause__ = error
    return ours


def _starved(error: BaseException | None) -> BaseException | None:
    """The one that says the system gave no more files, memory or threads: that may strike anywhere, an import included.

    Of those that led to one another it is the last, which knows best: those after it only say what they made of it.
    """
    found = None
    while error is not None:
        number = getattr(error, "errno", None)
        if isinstance(error, MemoryError) or number in _STARVED or any(words in str(error) for words in _STARVED_WORDS):
            found = error
        error = error.__cause__ or error.__context__
    return found
