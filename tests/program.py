"""The program as a person or a script runs it: a process with a home of its own, or, where speed matters, in-process."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

PROGRAM = (sys.executable, "-m", "powermem_cli")
JQ = Path(__file__).with_name("jq_command.py")
SHELL_WORDS = {"|", ">", "<", "&&", "||"}
SECONDS = 60  # after which a run is taken to hang


@dataclass(frozen=True)
class Result:
    """How a run ended: its exit code (negative: the signal it died of), stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def jsonl(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the plain form: id, time, score, memory."""
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def summary(self) -> Any:
        """What `add` says at its end in --json and --jsonl."""
        return self.jsonl[-1] if self.out.startswith('{"') else self.json


class Powermem:
    """Runs of the program in *folder*, which is working directory, home, and where all that it keeps lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "memories.db"
        self.environ = {
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "SQLITE_PATH": str(self.database),
            "PYTHONIOENCODING": "utf-8",
            "PATH": os.environ["PATH"],
        }

    def __call__(
        self,
        *arguments: object,
        stdin: str | bytes = "",
        env: Mapping[str, str] | None = None,
        wrapper: tuple[str, ...] = PROGRAM,
        **options: Any,
    ) -> Result:
        """A process of its own. *env* is added to the environment; *options* are those of subprocess.run."""
        done = subprocess.run(
            [*wrapper, *map(str, arguments)],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            env={**self.environ, **(env or {})},
            cwd=self.folder,
            timeout=SECONDS,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        return Result(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())

    def inside(self, *arguments: object, stdin: str | bytes = "", env: Mapping[str, str] | None = None) -> Result:
        """The same command in this process: 20 ms instead of 300, but no terminal, no signals, no usage errors."""
        from powermem_cli.cli import build

        command = str(arguments[0])
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name in os.environ:
                patch.delenv(name)
            ran = CliRunner().invoke(
                build([command]), list(map(str, arguments)), input=stdin, env={**self.environ, **(env or {})}
            )
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return Result(ran.exit_code, ran.stdout, ran.stderr)

    def put_on_path(self, folder: str = "bin") -> None:
        """`powermem` and `jq` as commands that a shell finds."""
        place = self.folder / folder
        place.mkdir(parents=True)
        for name, command in (("powermem", PROGRAM), ("jq", (sys.executable, str(JQ)))):
            (place / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', "utf-8")
            (place / name).chmod(0o755)
        self.environ["PATH"] = f"{place}:{self.environ['PATH']}"

    def typed(self, line: str) -> Result:
        """*line* as a reader would type it: by a shell where it needs one, else in this process, which is quicker."""
        first, *words = shlex.split(line, comments=True)
        if first == "powermem" and words[0] != "mcp" and not SHELL_WORDS & {*words}:
            return self.inside(*words)
        return self("-c", line, wrapper=("bash",))

    @contextlib.contextmanager
    def started(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        wrapper: tuple[str, ...] = PROGRAM,
        **options: Any,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process that runs until it ends or the block does. *options* are those of Popen."""
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(
            [*wrapper, *map(str, arguments)],
            env={**self.environ, **(env or {})},
            cwd=self.folder,
            **{**streams, **options},
        )
        try:
            with process:
                yield process
                process.kill()
        finally:
            process.kill()

    def write(self, name: str, *records: object) -> Path:
        """A file of JSONL records: objects are dumped, texts are lines as they are."""
        lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return path

    def memories(self, **scope: str) -> list[str]:
        """The texts in the store, in the order they were added."""
        options = [part for name, value in scope.items() for part in (f"--{name}", value)]
        return [row["memory"] for row in self.inside("list", "--all", "--json", *options).json["results"]]
