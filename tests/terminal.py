"""The program in a terminal of our own making."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping

from program import PROGRAM, SECONDS, Powermem

SGR = re.compile(r"\x1b\[[0-9;]*m")


def resize(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))


def in_terminal(
    powermem: Powermem,
    *arguments: object,
    typed: str = "",
    columns: int = 100,
    env: Mapping[str, str] | None = None,
    only_stdout: bool = False,
    meanwhile: Callable[[subprocess.Popen[bytes], int], object] = lambda _process, _terminal: None,
) -> tuple[int, str]:
    """The exit code, and all that the terminal got; *typed* stands ready from the start.

    *only_stdout*: stdin is empty, and stderr goes nowhere.
    """
    ours, theirs = pty.openpty()
    resize(theirs, columns)
    os.write(ours, typed.encode())
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdin=subprocess.DEVNULL if only_stdout else theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL if only_stdout else theirs,
        cwd=powermem.folder,
        env={**powermem.environ, "TERM": "xterm-256color", **(env or {})},
    )
    os.close(theirs)
    meanwhile(process, ours)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux says so when the other side is closed
        pass
    finally:
        os.close(ours)
    return process.wait(SECONDS), shown.decode().replace("\r\n", "\n")
