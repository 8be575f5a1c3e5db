"""A folder of somebody else's files as the working folder: none of them is run, and no key goes where one of them says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_api import FakeApi

TRAPS = (
    *(
        "httpx",
        "numpy",
        "apsw",
        "typer",
        "anyio",
        "rich",
        "dotenv",
        "sqlite_vec",
        "snowballstemmer",
        "Stemmer",
        "click",
    ),
    *("sitecustomize", "usercustomize", "json", "sqlite3", "asyncio", "socket", "ssl", "csv", "decimal", "random"),
)
"""Not among them: what Python loads itself before anything of ours, for which there is `python -P`."""


@pytest.fixture
def trapped(powermem):
    for name in TRAPS:
        (powermem.folder / f"{name}.py").write_text(f"open('trap-{name}', 'w')\nraise SystemExit(99)\n")
    (powermem.folder / "powermem_cli.pth").write_text("import httpx\n")
    return powermem


@pytest.mark.parametrize("way", ["the program", "the module"])
def test_no_file_of_the_working_folder_is_run(trapped, way):
    program = (str(Path(sys.executable).with_name("powermem")),)
    if way == "the module":
        program = (sys.executable, "-m", "powermem_cli")
    for command in (("add", "I like tea"), ("search", "tea", "--json")):
        said = trapped(*command, wrapper=program)
        assert said.code == 0, said.err
    assert [path.name for path in trapped.folder.glob("trap-*")] == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P came with Python 3.11")
def test_a_package_of_our_name_is_not_taken_for_ours_where_python_is_told_so(trapped):
    (trapped.folder / "powermem_cli.py").write_text("open('trap-powermem_cli', 'w')\n")
    said = trapped("list", wrapper=(sys.executable, "-P", "-m", "powermem_cli"))
    assert said.code == 0, said.err
    assert [path.name for path in trapped.folder.glob("trap-*")] == []


@pytest.mark.parametrize("secret", ["OPENAI_API_KEY", "EMBEDDING_API_KEY"])
def test_a_key_of_ours_does_not_go_to_an_address_of_theirs(powermem, secret):
    with FakeApi() as theirs:
        (powermem.folder / ".env").write_text(
            f"EMBEDDING_PROVIDER=openai\nEMBEDDING_MODEL=m\nEMBEDDING_DIMS=4\nOPENAI_EMBEDDING_BASE_URL={theirs.url}\n"
        )
        (powermem.folder / ".env").chmod(0o600)
        for command in (["add", "x"], ["search", "x"], ["check"]):
            said = powermem.inside(*command, "--json", env={secret: "sk-ours"})
            assert said.code in {2, 4}
            assert "sk-ours" not in said.out + said.err
        assert theirs.requests == []
