"""The MCP server as a real client meets it: over stdio, with arguments that are meant well and with such that are not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from program import PROGRAM

from powermem_cli.mcp_server import TOOLS, MemoryTools, server_for
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Scope

pytestmark = pytest.mark.anyio


@pytest.fixture
def powermem(tmp_path):
    from program import Powermem

    powermem = Powermem(tmp_path)
    powermem.write(
        "all.jsonl",
        {"memory": "Anna likes green tea", "user_id": "anna", "metadata": {"topic": "drinks"}},
        {"memory": "Anna plans a trip", "user_id": "anna", "run_id": "r1"},
        {"memory": "Ben keeps a secret about tea", "user_id": "ben", "metadata": {"topic": "drinks"}},
        {"memory": "nobody's note about tea"},
    )
    assert powermem.inside("add", "-f", "all.jsonl", "--no-infer").code == 0
    return powermem


@contextlib.asynccontextmanager
async def started(powermem, *options: str) -> AsyncIterator[Client]:
    """A client of `powermem mcp`, over the pipes of a process."""
    parameters = StdioServerParameters(
        command=PROGRAM[0], args=[*PROGRAM[1:], "mcp", *options], env=powermem.environ, cwd=str(powermem.folder)
    )
    async with Client(stdio_client(parameters)) as client:
        yield client


@contextlib.asynccontextmanager
async def connected(powermem, scope: Scope) -> AsyncIterator[Client]:
    """A client of the same server in this process, which takes a tenth of the time."""
    config = {"vector_store": {"provider": "sqlite", "config": {"path": str(powermem.database)}}}
    async with AsyncMemory(config) as memory, Client(server_for(MemoryTools(memory, scope))) as client:
        yield client


async def call(client: Client, tool: str, **arguments):
    """(went well, what was answered)"""
    result = await client.call_tool(tool, arguments)
    assert json.loads(result.content[0].text) == result.structured_content
    return not result.is_error, result.structured_content


async def held(powermem, *options):
    """All memories, as the program shows them: in a thread, as an event loop runs in this one."""
    said = await anyio.to_thread.run_sync(powermem.inside, "list", "--all", "--json", *options)
    return said.json


def texts(answer):
    return [row["memory"] for row in answer["results"]]


async def test_a_session(powermem):
    async with started(powermem, "--user", "anna") as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == set(TOOLS)
        _, added = await call(client, "add", text="Anna has a cat called Tom", metadata={"topic": "pets"})
        id = added["results"][0]["id"]
        assert isinstance(id, str)
        _, found = await call(client, "search", query="what pet does she have?", limit=1)
        assert texts(found) == ["Anna has a cat called Tom"]
        assert (await call(client, "get", id=id))[1]["metadata"] == {"topic": "pets"}
        assert (await call(client, "update", id=id, text="Anna has a dog"))[1]["memory"] == "Anna has a dog"
        _, first = await call(client, "list", limit=2)
        _, rest = await call(client, "list", after=first["results"][-1]["id"])
        assert texts(first) + texts(rest) == ["Anna likes green tea", "Anna plans a trip", "Anna has a dog"]
        assert await call(client, "delete", id=id) == (True, {"deleted": True})
        assert (await call(client, "get", id=id))[1]["error"]["code"] == "not_found"
        # The scope is that of the command line here, too.
        _, found = await call(client, "search", query="secret about tea", filters={"NOT": {"user_id": "anna"}})
        assert found == {"results": []}
        assert not (await call(client, "list", user_id="ben"))[0]
    assert texts(await held(powermem, "--user", "anna")) == ["Anna likes green tea", "Anna plans a trip"]


HOSTILE_FILTERS = (
    {"user_id": "ben"},
    {"OR": [{"user_id": "ben"}, {"user_id": "anna"}, {"user_id": None}]},
    {"NOT": {"user_id": "anna"}},
    {"user_id": {"exists": False}},
    {"topic": {"like": "%"}, "user_id": {"ne": "anna"}},
)


async def test_no_argument_leads_to_memories_of_others(powermem):
    before = await held(powermem)
    of_others = [row["id"] for row in before["results"] if row["user_id"] != "anna"]
    assert len(of_others) == 2
    async with connected(powermem, Scope("anna")) as client:
        for filters in HOSTILE_FILTERS:
            for tool, arguments in (("search", {"query": "secret about tea"}), ("list", {})):
                _, answer = await call(client, tool, **arguments, filters=filters)
                assert all("Anna" in text for text in texts(answer))
        for id in of_others:
            for tool, arguments in (("get", {}), ("delete", {}), ("update", {"text": "mine now"})):
                well, answer = await call(client, tool, id=id, **arguments)
                assert (well, answer["error"]["code"]) == (False, "not_found")
        for name in ("user_id", "user", "agent_id", "run_id", "scope", "__proto__", "self"):
            for tool, arguments in (("search", {"query": "tea"}), ("list", {}), ("add", {"text": "x"})):
                well, answer = await call(client, tool, **arguments, **{name: "ben"})
                assert (well, answer["error"]["code"]) == (False, "input.invalid")
    assert await held(powermem) == before


NONSENSE = (
    ("search", {}),
    ("search", {"query": 1}),
    ("search", {"query": ["a"]}),
    ("search", {"query": ""}),
    ("search", {"query": "x\0"}),
    ("search", {"query": "x", "limit": 0}),
    ("search", {"query": "x", "limit": True}),
    ("search", {"query": "x", "limit": 10**9}),
    ("search", {"query": "x", "filters": {"topic": {"regex": ".*"}}}),
    ("search", {"query": "x", "filters": {"a'; DROP TABLE memories; --": 1}}),
    ("list", {"after": "1 OR 1=1"}),
    ("get", {"id": "1' OR '1'='1"}),
    ("get", {"id": "%"}),
    ("get", {"id": "9" * 400}),
    ("update", {"id": "1"}),
    ("add", {"text": "x", "metadata": {"a": "x" * 70_000}}),
    ("add", {"text": "y" * 9_000_000}),
    ("drop", {}),
)


async def test_arguments_that_make_no_sense_are_errors_the_agent_can_read(powermem):
    before = await held(powermem)
    async with connected(powermem, Scope("anna")) as client:
        for tool, arguments in NONSENSE:
            well, answer = await call(client, tool, **arguments)
            assert not well, (tool, str(arguments)[:80])
            assert answer["error"]["message"]
        assert texts((await call(client, "search", query="tea", limit=1))[1]) == ["Anna likes green tea"]
    assert await held(powermem) == before


async def test_a_run_is_a_scope_of_its_own(powermem):
    tea = next(row["id"] for row in (await held(powermem, "--user", "anna"))["results"] if "tea" in row["memory"])
    async with connected(powermem, Scope("anna", run_id="r1")) as client:
        assert texts((await call(client, "list"))[1]) == ["Anna plans a trip"]
        for tool, arguments in (("get", {}), ("delete", {}), ("update", {"text": "x"})):
            assert (await call(client, tool, id=tea, **arguments))[1]["error"]["code"] == "not_found"


async def test_read_only_has_no_tool_that_writes(powermem):
    async with started(powermem, "--user", "anna", "--run", "r1", "--read-only") as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "list", "get"}
        assert (await call(client, "add", text="x"))[1]["error"]["code"] == "not_found"
        assert texts((await call(client, "list"))[1]) == ["Anna plans a trip"]


def test_without_a_scope_nothing_is_served(powermem):
    said = powermem("mcp")
    assert (said.code, said.out) == (2, "")
    assert "whose memories" in said.err


def test_it_ends_with_its_input_and_says_nothing(powermem):
    said = powermem("mcp", "--user", "anna")
    assert (said.code, said.out, said.err) == (0, "", "")
