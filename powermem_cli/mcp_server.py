"""Memories as tools for agents, over the Model Context Protocol: whose memories is fixed before the first call.

No tool has an argument for user, agent or run, and what a tool does not know is refused, so nothing that an agent
says, on its own or because a text told it to, leads to memories of somebody else.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from powermem_cli import __version__
from powermem_cli.errors import InvalidInput, NotFound, PowerMemError, did_you_mean
from powermem_cli.model import Scope

if TYPE_CHECKING:
    from powermem_cli.memory import AsyncMemory

MOST: Final = 100  # results of one call: an agent reads all of them
_TEXT: Final = {"type": "string", "minLength": 1}
_ID: Final = {"type": "string", "description": "The id of a memory, as search and list give it."}
_LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": MOST, "description": "At most so many; 10 if not given."}
_FILTERS: Final = {
    "type": "object",
    "description": 'Only these, by metadata or time: {"topic": "food"}, {"created_at": {"gte": "2026-03-01"}}.',
}
_METADATA: Final = {"type": "object", "description": "Facts about the memory: topic, place, source."}
_KINDS: Final[dict[str, type]] = {"string": str, "integer": int, "object": dict}


@dataclass(frozen=True, slots=True)
class Tool:
    """What an agent may call: *arguments* is JSON Schema by name, *writes* whether it changes anything."""

    description: str
    arguments: Mapping[str, Mapping[str, Any]]
    required: tuple[str, ...] = ()
    writes: bool = False

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": dict(self.arguments),
            "required": list(self.required),
            "additionalProperties": False,
        }


TOOLS: Final = {
    "search": Tool(
        "Find the memories that answer a question, best first. Ask in plain words.",
        {"query": _TEXT, "limit": _LIMIT, "filters": _FILTERS},
        ("query",),
    ),
    "list": Tool(
        "All memories in the order they were added, page by page: after is the last id of the page before.",
        {"limit": _LIMIT, "after": _ID, "filters": _FILTERS},
    ),
    "get": Tool("One memory by its id.", {"id": _ID}, ("id",)),
    "add": Tool(
        "Remember a text. What is known already is not added twice.",
        {"text": _TEXT, "metadata": _METADATA},
        ("text",),
        writes=True,
    ),
    "update": Tool(
        "Change the text of a memory, or its metadata key by key, or both.",
        {"id": _ID, "text": _TEXT, "metadata": _METADATA},
        ("id",),
        writes=True,
    ),
    "delete": Tool("Forget a memory, for good.", {"id": _ID}, ("id",), writes=True),
}


class MemoryTools:
    """The tools over one opened memory, for one *scope*. *read_only*: none that changes anything."""

    def __init__(self, memory: AsyncMemory, scope: Scope, *, read_only: bool = False) -> None:
        self._memory = memory
        self._scope: dict[str, Any] = {"user_id": scope.user_id, "agent_id": scope.agent_id, "run_id": scope.run_id}
        self.tools = {name: tool for name, tool in TOOLS.items() if not (read_only and tool.writes)}

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the tool answers. Raises PowerMemError, InvalidInput for arguments that are none of its own."""
        if name not in self.tools:
            raise NotFound(f"there is no tool {name[:40]!r}", hint=did_you_mean(name[:40], self.tools))
        _check(self.tools[name], arguments)
        handlers: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "search": self._search,
            "list": self._list,
            "get": self._get,
            "add": self._add,
            "update": self._update,
            "delete": self._delete,
        }
        return await handlers[name](**arguments)

    async def _search(self, query: str, limit: int = 10, filters: Any = None) -> dict[str, Any]:
        found = await self._memory.search(query, **self._scope, limit=limit, filters=filters)
        return {"results": [_shown(row) for row in found["results"]]}

    async def _list(self, limit: int = 10, after: str | None = None, filters: Any = None) -> dict[str, Any]:
        found = await self._memory.get_all(**self._scope, limit=limit, after=after, filters=filters)
        return {"results": [_shown(row) for row in found["results"]]}

    async def _get(self, id: str) -> dict[str, Any]:
        # Not memory.get: that one does not know of runs.
        found = await self._memory.get_all(**self._scope, filters={"id": {"eq": id}}, limit=1)
        if not found["results"]:
            raise NotFound(f"there is no memory {id[:40]}")
        return _shown(found["results"][0])

    async def _add(self, text: str, metadata: Any = None) -> dict[str, Any]:
        done = await self._memory.add(text, **self._scope, metadata=metadata)
        return {"results": [_shown(row) for row in done["results"]]}

    async def _update(self, id: str, text: str | None = None, metadata: Any = None) -> dict[str, Any]:
        await self._get(id)
        row = await self._memory.update(id, text, self._scope["user_id"], self._scope["agent_id"], metadata)
        if row is None:
            raise NotFound(f"there is no memory {id[:40]}")
        return _shown(row)

    async def _delete(self, id: str) -> dict[str, Any]:
        await self._get(id)
        return {"deleted": await self._memory.delete(id, self._scope["user_id"], self._scope["agent_id"])}


def _check(tool: Tool, arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if name not in tool.arguments:
            raise InvalidInput(
                f"there is no argument {name[:40]!r}", field=name[:40], hint=did_you_mean(name[:40], tool.arguments)
            )
        wanted = tool.arguments[name]
        if not isinstance(value, _KINDS[wanted["type"]]) or isinstance(value, bool):
            raise InvalidInput(f"{name} must be of type {wanted['type']}", field=name)
        if isinstance(value, int) and not 1 <= value <= MOST:
            raise InvalidInput(f"limit must be from 1 to {MOST}", field=name)
    for name in tool.required:
        if name not in arguments:
            raise InvalidInput(f"{name} is missing", field=name)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A memory for an agent: the id as text, since 64 bits are more than JavaScript has; no empty fields."""
    wanted = ("id", "memory", "event", "score", "metadata", "created_at", "updated_at", "expires_at")
    shown = {name: row[name] for name in wanted if row.get(name) not in (None, {})}
    return {**shown, "id": str(row["id"])}


async def serve(tools: MemoryTools) -> None:
    """Answer calls on stdin and stdout until stdin ends. Needs the package `mcp`."""
    from mcp.server.stdio import stdio_server  # noqa: PLC0415 - only who serves has it

    server = server_for(tools)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def server_for(tools: MemoryTools) -> Any:
    """An `mcp.server.Server` that has these tools, over no transport yet."""
    import mcp_types as types  # noqa: PLC0415
    from mcp.server import Server  # noqa: PLC0415

    async def on_list_tools(_context: Any, _params: Any) -> Any:
        listed = [
            types.Tool(
                name=name,
                description=tool.description,
                input_schema=tool.schema,
                annotations=types.ToolAnnotations(read_only_hint=not tool.writes, open_world_hint=False),
            )
            for name, tool in tools.tools.items()
        ]
        return types.ListToolsResult(tools=listed)

    async def on_call_tool(_context: Any, params: Any) -> Any:
        try:
            answer = await tools.call(params.name, params.arguments or {})
        except PowerMemError as error:
            answer = {"error": {"code": error.code, "message": error.message, "retryable": error.retryable}}
            if error.hint:
                answer["error"]["hint"] = error.hint
        text = types.TextContent(type="text", text=json.dumps(answer, ensure_ascii=False))
        return types.CallToolResult(content=[text], structured_content=answer, is_error="error" in answer)

    return Server(
        "powermem",
        version=__version__,
        instructions="Long-term memory: search before you answer, add what is worth knowing next time.",
        on_list_tools=on_list_tools,
        on_call_tool=on_call_tool,
    )
