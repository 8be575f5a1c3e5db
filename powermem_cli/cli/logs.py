"""--log-file: what a run did and how its calls to providers ended; no text of a message or an answer, and no key."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from powermem_cli.errors import StoreError
from powermem_cli.files import open_private

_log = logging.getLogger("powermem.cli")


@contextlib.contextmanager
def logging_to(path: str | None, command: str, *, verbose: int) -> Iterator[None]:
    """While open, what the program logs is appended to that file; with -vv every call too. Raises StoreError."""
    if path is None:
        yield
        return
    try:
        file = open_private(Path(path), "a")
    except OSError as error:
        raise StoreError(f"--log-file {path} can't be written: {error.strerror}", code="output.io") from error
    with file, os.fdopen(os.dup(file.fileno()), "a", encoding="utf-8", errors="backslashreplace") as stream:
        handler = logging.StreamHandler(stream)
        formatter = logging.Formatter(
            "%(asctime)sZ %(process)d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
        logger = logging.getLogger("powermem")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if verbose >= 2 else logging.INFO)
        try:
            _log.info("%s begins", command)
            yield
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)


def log_end(command: str, code: int, reason: str | None) -> None:
    """*reason* is the code of an error: its message may quote what was said."""
    _log.info("%s ended with %d%s", command, code, f" ({reason})" if reason else "")
