"""Every script in samples/ runs as a reader would run it: a folder of its own, and nothing but what it says comes out.

None of the guide's scripts closes its memory, so a clean exit is part of what is tested here.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from conftest import SEEKDB_HAS_A_WHEEL

SAMPLES = Path(__file__).parents[1] / "samples"
SECONDS = 30

SAYS = {
    "guide/create.py": ["Created"],
    "guide/initialize.py": ["Ready"],
    "guide/add.py": ["Added 1 memory"],
    "guide/search.py": ["Found 0 memories"],
    "guide/get.py": ["Memory 123: None"],
    "guide/update.py": ["Memory 123: None"],
    "guide/delete.py": ["Deleted: False"],
    "guide/delete_all.py": ["{'deleted': 0}"],
    "guide/get_all.py": ["{'results': []}"],
    "guide/delete_concurrently.py": ["✓ Deleted 0/3 memories"],
    "guide/basic_usage.py": ["Found 1 memories"],
    "guide/add_ten_at_once.py": ["Added 10 memories"],
    "guide/add_messages_in_batches.py": [f"Processed batch {i + 1}" for i in range(10)],
    "guide/initialize_from_env.py": ["✓ AsyncMemory initialized successfully!"],
    "guide/configure_with_json.py": ["✓ AsyncMemory initialized from JSON file!"],
    "guide/add_one_memory.py": ["✓ Memory added! ID: #"],
    "guide/add_concurrently.py": [
        "✓ Added 4 memories concurrently",
        "  Memory 1: User likes Python programming",
        "  Memory 2: User prefers email support",
        "  Memory 3: User works as a software engineer",
        "  Memory 4: User favorite color is blue",
    ],
    "guide/search_memories.py": ["Found 2 memories:", "  - User prefers email", "  - User likes Python"],
    "guide/add_in_batches.py": [f"✓ Processed batch {i + 1}/10 (10 memories)" for i in range(10)],
    "guide/add_a_conversation.py": [
        "✓ Processed conversation, extracted 1 memories:",
        "  - I'm Alice, a software engineer",
    ],
    "guide/update_and_delete.py": ["✓ Updated memory: User loves Python programming", "✓ Deleted memory #"],
    "remember_and_find.py": ["I drink green tea in the morning"],
    "correct_and_forget.py": ["Lives in Paris {'since': '2026-03-01', 'topic': 'home'}", "False", "True", "None"],
    "filter_by_metadata.py": ["Lasagna at Nonna's, the best in town 5"],
    "add_a_file_of_chats.py": [
        "575 conversations",
        "I sneeze all day if there's a cat, so no house with cats for lunch after the hike please",
    ],
}
"""What each script prints: all of it, or (the last one) how it begins; # stands for an id."""

NEEDS_A_SERVER = "guide/configure_with_a_dict.py"


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    """Every warning is a line on stderr: an object that nobody closed, a task nobody awaited."""
    folder.mkdir(exist_ok=True)
    store = {"provider": "sqlite", "config": {"path": str(folder / "from_json.db")}}
    config = {"vector_store": store, "embedder": {"provider": "local", "config": {}}}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    environ = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PYTHONIOENCODING": "utf-8",
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(SAMPLES / script)],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, list[str]]:
    """Exit code, stderr, lines of stdout with # for ids."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, err, [re.sub(r"\d{15,}", "#", line) for line in out.splitlines()]


@pytest.mark.parametrize("script", SAYS)
def test_a_script_says_what_it_should_and_ends_cleanly(script, tmp_path):
    code, err, lines = ended(start(script, tmp_path))
    assert (code, err) == (0, "")
    assert lines[: len(SAYS[script])] == SAYS[script]
    assert len(lines) == len(SAYS[script]) or script == "add_a_file_of_chats.py"


def test_every_script_is_among_them():
    scripts = {path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*.py")}
    of_test_programs = {script for script in scripts if script.startswith("programs/")}
    assert scripts - of_test_programs == {*SAYS, NEEDS_A_SERVER}


def test_a_second_run_finds_what_the_first_one_added(tmp_path):
    assert ended(start("guide/add_one_memory.py", tmp_path)) == (0, "", ["✓ Memory added! ID: #"])
    said = ["✓ Memory operation completed (may have been deduplicated)"]
    assert ended(start("guide/add_one_memory.py", tmp_path)) == (0, "", said)


def test_nothing_is_left_in_the_working_directory(tmp_path):
    ended(start("guide/basic_usage.py", tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "data"]


def test_without_its_server_the_script_for_one_ends_with_one_error_that_says_why(tmp_path):
    code, err, lines = ended(start(NEEDS_A_SERVER, tmp_path))
    assert (code, lines) == (1, [])
    assert len(re.findall(r"^Traceback ", err, re.MULTILINE)) == err.count("direct cause of the following") + 1
    last = err.strip().splitlines()[-1]
    assert re.match(r"powermem_cli\.errors\.(ConfigError|StoreError|StoreBusy): \S", last)


@pytest.mark.skipif(not SEEKDB_HAS_A_WHEEL, reason="the engine's wheel wants Python 3.11")
def test_with_its_server_the_script_for_one_runs_as_written(tmp_path, seekdb_server):
    with password_of_root(seekdb_server.socket), listening_on("127.0.0.1", 2881, seekdb_server.socket):
        said = ["✓ AsyncMemory initialized with JSON config!"]
        assert ended(start(NEEDS_A_SERVER, tmp_path)) == (0, "", said)


@contextlib.contextmanager
def password_of_root(socket: Path) -> Iterator[None]:
    """The one of the guide, which nobody else needs."""
    with pymysql.connect(unix_socket=str(socket), user="root") as connection:
        connection.cursor().execute("ALTER USER root IDENTIFIED BY 'password'")
        try:
            yield
        finally:
            connection.cursor().execute("ALTER USER root IDENTIFIED BY ''")


@contextlib.contextmanager
def listening_on(host: str, port: int, server: Path) -> Iterator[None]:
    """A port that leads to a Unix socket: the engine itself listens on nothing else."""

    class Line(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as behind:
                behind.connect(str(server))
                back = threading.Thread(target=forward, args=(behind, self.request))
                back.start()
                forward(self.request, behind)
                back.join()

    with socketserver.ThreadingTCPServer((host, port), Line, bind_and_activate=False) as front:
        front.allow_reuse_address = True
        front.server_bind()
        front.server_activate()
        threading.Thread(target=front.serve_forever, args=(0.05,)).start()
        try:
            yield
        finally:
            front.shutdown()


def forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
