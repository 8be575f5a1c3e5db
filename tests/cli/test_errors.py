"""What is said when a command is wrong or its store is: one line and perhaps a hint, the right code, the same as JSON."""

from __future__ import annotations

import shutil
import sqlite3

import apsw
import pytest
from program import Result

from powermem_cli.cli import _exit_code
from powermem_cli.memory import AsyncMemory

REASONS = {1: {"end", "provider"}, 2: {"usage"}, 4: {"auth"}, 5: {"store"}, 70: {"bug"}, 75: {"locked", "store"}}


def says_only(said, message, code):
    """One error on stderr, and with --json the same on stdout."""
    first, *hint = said.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert len(hint) <= 1
    assert not hint or hint[0].startswith("  hint   ")
    assert said.code == code
    document = said.json
    assert document["type"] == "error"
    assert f"error: {document['message']}" == first
    assert document["exit_code"] == code
    assert document["stop_reason"] in REASONS[code]
    return document


# ── the command line ──


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ad", "x"], "there is no command 'ad'"),
        (["add", "--user-name", "x"], "there is no option --user-name"),
        (["search", "x", "--jsom"], "there is no option --jsom"),
        (["search", "x", "--threshold", "3"], "--threshold takes a number from 0.0 to 1.0, not 3.0"),
        (["list", "-k", "many"], "--limit takes a whole number, not 'many'"),
        (["search", "x", "--format", "tabel"], "not 'tabel'"),
        (["search", "two", "words"], "what is 'words' for?"),
        (["history"], "missing argument 'ID'"),
        (["get", "1", "--where", "x=y"], "there is no option --where"),
        (["--user", "x", "list"], "there is no option --user"),
    ],
)
def test_what_typer_refuses_is_said_in_our_form(capsys, arguments, message):
    code = _exit_code([*arguments, "--json"])  # all that a process does before a command begins
    says_only(Result(code, *capsys.readouterr()), message, 2)


def test_options_of_a_command_in_front_of_it_are_told_where_to_go(powermem):
    assert "hint   options of a command stand behind it" in powermem("-u", "x", "list").err


def test_options_that_all_have_may_stand_in_front(powermem):
    powermem("--db", "x.db", "-q", "add", "here", "--user", "anna")
    assert [row[3] for row in powermem("--db", "x.db", "list").rows] == ["here"]
    assert powermem("--json", "--db", "y.db", "list", "--db", "x.db").json["results"][0]["memory"] == "here"
    assert powermem("-q", "--db", "nowhere.db", "list", "-q").err == ""  # -q and -q are -qq


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "-f", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["add", "-f", "nothing*.jsonl"], "no file matches nothing*.jsonl"),
        (["add", "-f", "."], ". is a directory"),
        (["add", "-f", "good.jsonl", "-f", "."], ". is a directory"),
        (["add", "-f", "chats.zip"], "chats.zip looks like a zip archive"),
        (["add", "-f", "ambiguous"], "could be text or csv"),
        (["add", "text", "-f", "good.jsonl"], "a text and --file exclude each other"),
        (["add", ""], "the text is empty"),
        (["add", "x", "-u", ""], "user_id is empty"),
        (["add", "x", "--metadata", "{"], "--metadata is not valid JSON"),
        (["add", "x", "--metadata", "[1]"], "metadata must be an object"),
        (["add", "-f", "good.jsonl", "--metadata", "[1]"], "metadata must be an object"),
        (["add", "-f", "good.jsonl", "--map", "memory"], "--map takes FIELD=COLUMN"),
        (["add", "-f", "good.jsonl", "--map", "memori=x"], "a record has no field 'memori'"),
        (["add", "-f", "good.jsonl", "--format", "jsn"], "there is no format 'jsn'"),
        (["add", "-f", "good.jsonl", "--encoding", "klingon"], "there is no encoding 'klingon'"),
        (["add", "-f", "good.jsonl", "--deadline", "soon"], "--deadline takes a duration, not 'soon'"),
        (["add", "-f", "good.jsonl", "--max-failures", "120%"], "--max-failures takes"),
        (["add", "-f", "good.jsonl", "--on-change", "ask"], "--on-change is one of update, skip, add"),
        (["add", "-f", "good.jsonl", "--progress", "loud"], "--progress is one of"),
        (["add", "-f", "good.jsonl", "--job", "../x"], "can't be the name of a job"),
        (["add", "-f", "claude.json"], "do not say whose conversations"),
        (["search"], "what do you want to know?"),
        (["search", " "], "what do you want to know?"),
        (["search", "x", "-f", "good.jsonl"], "a question and --file exclude each other"),
        (["search", "-f", "nowhere"], "nowhere can't be opened"),
        (["search", "x", "--where", "topic"], "--where takes KEY=VALUE"),
        (["search", "x", "--filter", "{"], "--filter is not valid JSON"),
        (["search", "x", "--filter", "3"], "--filter takes a JSON object"),
        (["search", "x", "--filter", '{"a": {"above": 1}}'], "'above' is no operator"),
        (["list", "--after", "yesterday"], "--after takes an id"),
        (["get"], "no id was given"),
        (["get", "-f", "nowhere"], "nowhere can't be read"),
        (["update", "1"], "what shall be changed?"),
        (["update", "1", ""], "the text is empty"),
        (["update", "--metadata", "{}"], "no id was given"),
        (["update", "-", "new text"], "one text for many memories is none"),
        (["update", "-f", "good.jsonl", "new text"], "one text for many memories is none"),
        (["update", "1", "--metadata", "[]"], "metadata must be an object"),
        (["delete"], "no id was given"),
        (["delete", "1", "--all"], "--all and ids exclude each other"),
        (["delete", "1", "--run", "7"], "--purge go with --all"),
        (["list", "--db", "mysql://host/db"], "--db knows no 'mysql' URL"),
        (["list", "--config", "nowhere.toml"], "can't read nowhere.toml"),
        (["list", "--env-file", "nowhere.env"], "can't read nowhere.env"),
        (["list", "--env-file", "bad.env"], "RERANKER_ENABLED"),
        (["list", "--config", "bad.json"], "unknown setting 'vectorstore'"),
    ],
)
def test_a_wrong_command_starts_nothing(powermem, arguments, message):
    powermem.write("good.jsonl", {"memory": "x"})
    powermem.write("ambiguous", "name,place", "ana,porto")
    (powermem.folder / "chats.zip").write_bytes(b"PK\x03\x04" + bytes(30))
    powermem.write("claude.json", '[{"uuid": "1", "chat_messages": []}]')
    powermem.write("bad.env", "RERANKER_ENABLED=perhaps")
    powermem.write("bad.json", '{"vectorstore": {}}')
    says_only(powermem.inside(*arguments, "--json"), message, 2)
    assert not powermem.database.exists() or powermem.memories() == []


def test_both_forms_of_json_at_once(powermem):
    says_only(powermem.inside("list", "--json", "--jsonl"), "--json and --jsonl exclude each other", 2)


@pytest.mark.parametrize("command", [["get", "-"], ["update", "1", "-"], ["delete", "-"]])
def test_a_pipe_that_holds_no_text(powermem, command):
    says_only(powermem.inside(*command, "--json", stdin=b"\x7fELF\xf0\x9f"), "the standard input is not UTF-8", 2)


# ── the store ──


@pytest.fixture
def filled(powermem):
    records = [{"memory": f"memory {i} {'x' * 200}"} for i in range(300)]
    powermem.inside("add", "-f", powermem.write("in.jsonl", *records))
    return powermem


def sql(powermem, statement):
    connection = apsw.Connection(str(powermem.database))
    connection.execute(statement)
    connection.close()


COMMANDS = [["list"], ["search", "x"], ["get", "1"], ["add", "x"], ["delete", "--all", "-y"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_file_that_is_no_database(powermem, command):
    powermem.database.write_text("my diary\n" * 1000, "utf-8")
    document = says_only(powermem.inside(*command, "--json"), "is not a database", 5)
    assert document["code"] == "store.corrupt"
    assert powermem.database.read_text("utf-8") == "my diary\n" * 1000


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_database_of_another_program(powermem, command):
    with sqlite3.connect(powermem.database) as connection:
        connection.execute("CREATE TABLE diary (entry TEXT)")
    connection.close()
    before = powermem.database.read_bytes()
    document = says_only(powermem.inside(*command, "--json"), "is a database of another program", 5)
    assert document["code"] == "store.foreign"
    # The header may now say WAL; the content is what it was.
    assert powermem.database.read_bytes()[100:] == before[100:]


def test_a_store_of_a_newer_version(filled):
    sql(filled, "PRAGMA user_version = 99")
    for command in COMMANDS:
        document = says_only(filled.inside(*command, "--json"), "was made by a newer powermem", 5)
        assert "upgrade" in document["hint"]


def test_a_damaged_store_is_not_replaced(filled):
    content = bytearray(filled.database.read_bytes())
    for at in range(8192, len(content), 8192):  # the first page, with the schema, stays
        content[at : at + 64] = b"\xff" * 64
    filled.database.write_bytes(content)
    for command in (["list", "--all"], ["search", "x"], ["add", "x"]):
        assert says_only(filled.inside(*command, "--json"), "is damaged", 5)["code"] == "store.corrupt"
    assert filled.database.stat().st_size == len(content)


def test_a_store_of_another_model(filled):
    sql(filled, "UPDATE meta SET value = 'other/model' WHERE name = 'model'")
    for command in (["search", "x"], ["add", "x"], ["add", "-f", "in.jsonl"]):
        document = says_only(filled.inside(*command, "--json"), "embedded with other/model", 4)
        assert document["code"] == "embed.dims_mismatch"
        assert "EMBEDDING_MODEL" in document["hint"]


# These hold for root, too, whom no mode keeps out.
@pytest.mark.parametrize("place", ["folder", "file/below.db", "/dev/full/below.db"])
@pytest.mark.parametrize("command", [["list"], ["add", "x"]], ids=lambda command: command[0])
def test_a_place_where_no_store_can_be(powermem, place, command):
    (powermem.folder / "folder").mkdir()
    (powermem.folder / "file").touch()
    document = says_only(powermem.inside(*command, "--db", place, "--json"), place.split("/below")[0], 5)
    assert document["code"] in {"store.permission", "store.io"}


def test_a_place_where_no_job_can_be_kept(filled):
    (filled.folder / "state" / "powermem").rename(filled.folder / "moved")
    (filled.folder / "state" / "powermem").touch()
    says_only(filled.inside("add", "-f", "in.jsonl", "--json"), "state/powermem", 5)
    shutil.rmtree(filled.folder / "moved")


def test_rejects_that_can_t_be_written_keep_the_run_from_starting(powermem):
    path = powermem.write("in.jsonl", {"memory": "first"}, {"memory": 7}, {"memory": "last"})
    (powermem.folder / "folder").mkdir()
    said = powermem.inside("add", "-f", path, "--rejects", "folder", "--json")
    assert said.code == 2
    assert "folder: is a folder" in said.err
    assert powermem.inside("add", "-f", path, "--json").code == 3
    assert powermem.memories() == ["first", "last"]


# ── how much is said ──


def test_a_traceback_only_for_who_asks(powermem):
    assert "Traceback" not in powermem.inside("list", "--db", ".", "-v").err
    assert "Traceback" in powermem.inside("list", "--db", ".", "-vv").err
    assert powermem.inside("list", "--db", ".", "-qq").err == ""


def test_what_nobody_foresaw_is_called_a_bug(powermem, monkeypatch):
    async def broken(*_arguments, **_options):
        raise LookupError("nobody thought of this")

    monkeypatch.setattr(AsyncMemory, "search", broken)
    document = says_only(powermem.inside("search", "x", "--json"), "LookupError: nobody thought of this", 70)
    assert document["code"] == "bug.invariant"
