"""What is published: nothing is missing in it, nothing too much, and it works where it is installed."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from program import Powermem

import powermem_cli

REPOSITORY = Path(__file__).parents[1]
AT_THE_TOP = {".env.example", ".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
FOLDERS = {"powermem_cli", "samples", "tests"}
FOR_ANOTHER_PLACE = {
    "powermem_cli/powermem.py": "powermem.py",
    "powermem_cli/powermem.pyi": "powermem-stubs/__init__.pyi",
}

A_PROGRAM = """
import asyncio

from powermem import AsyncMemory, FoundMemory, Memory, MemoryDict, PowerMemError, auto_config


def shown(hit: FoundMemory) -> str:
    source = hit.get("source", {})
    return f"{hit['score']:.2f} {hit['memory']} {source.get('file')} {hit['metadata'].get('topic')}"


def texts(memories: list[MemoryDict]) -> list[str]:
    return [memory["memory"] for memory in memories]


async def main() -> list[str]:
    async with AsyncMemory(auto_config()) as memory:
        added = await memory.add([{"role": "user", "content": "tea"}], user_id="anna", metadata={"topic": "drinks"})
        found = await memory.search("tea", user_id="anna", limit=5)
        happened = await memory.history(added["results"][0]["id"])
        everything = await memory.get_all(user_id="anna")
        gone = await memory.delete_all(user_id="anna")
        print(happened["results"][0]["at"].upper(), texts(everything["results"]), gone["deleted"] + 1)
        return [shown(hit) for hit in found["results"]]


try:
    with Memory() as twin:
        known = twin.get(1)
        print(asyncio.run(main()), None if known is None else known["memory"])
except PowerMemError as error:
    print(error.code, error.hint)
"""
A_WRONG_ONE = """
from powermem import Memory
from powermem_cli import AsyncMemry

Memory().search(7)
Memory().search("tea")["results"][0]["scores"]
Memory().get(7)["memory"]
"""


def files_below(folder: str) -> set[str]:
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and not {"__pycache__", ".hypothesis"} & {*path.parts} and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    assert path.name == f"powermem_cli-{powermem_cli.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of an environment that has the wheel, and of this one only what it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    wheel.extractall(packages)
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", "utf-8")
    return folder / "bin" / "python"


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return email.message_from_string(wheel.read(name).decode())


def test_the_wheel_has_the_package_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {FOR_ANOTHER_PLACE.get(name, name) for name in files_below("powermem_cli")}
    assert {"powermem_cli/py.typed", "powermem_cli/data/model.safetensors", "powermem_cli/data/NOTICE"} <= names
    licenses = {name.partition("/licenses/")[2] for name in wheel.namelist() if "/licenses/" in name}
    assert licenses == {"LICENSE", "powermem_cli/data/NOTICE"}


def test_the_sdist_has_what_the_tests_need_and_nothing_else(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {name for name in names if "/" not in name} == AT_THE_TOP
    assert {name for name in names if "/" in name} == set().union(*map(files_below, FOLDERS))


def test_what_the_index_shows(wheel):
    shown = metadata(wheel)
    assert (shown["Name"], shown["Version"]) == ("powermem-cli", powermem_cli.__version__)
    assert (shown["License-Expression"], shown["Requires-Python"]) == ("Apache-2.0", ">=3.10")
    assert shown.get_payload().strip() == (REPOSITORY / "README.md").read_text("utf-8").strip()
    assert {"mcp", "oceanbase", "postgres"} <= {*shown.get_all("Provides-Extra")}


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (.*)$", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[1]
    version = powermem_cli.__version__
    assert (
        first == "Unreleased" if "dev" in version else re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", first)
    )


def test_installed_it_does_the_main_job(installed, tmp_path):
    powermem = Powermem(tmp_path)
    program = (str(installed), "-m", "powermem_cli")
    where = powermem("-c", "import powermem, powermem_cli; print(powermem.__file__)", wrapper=(str(installed),)).out
    assert Path(where.strip()).is_relative_to(installed.parents[1])
    assert powermem("add", "-f", REPOSITORY / "samples" / "chats.jsonl", wrapper=program).code == 0
    question = "what is our daughter allergic to?"
    assert "cashews" in powermem("search", question, "--user", "ana", "-k", "1", wrapper=program).out


def test_the_program_of_a_user_is_checked_strictly_against_it(installed, tmp_path):
    (tmp_path / "program.py").write_text(A_PROGRAM, "utf-8")
    (tmp_path / "wrong.py").write_text(A_WRONG_ONE, "utf-8")
    line = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed), "program.py", "wrong.py"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert re.findall(r"\[([a-z-]+)\]$", done.stdout, re.MULTILINE) == [
        "attr-defined",
        "arg-type",
        "typeddict-item",
        "index",
    ]
    assert "program.py" not in done.stdout
