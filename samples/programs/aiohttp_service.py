"""A memory service with aiohttp; one AsyncMemory for as long as the service runs.

    python aiohttp_service.py

Put your own sign-in in front of it: here the path says who asks, and the path is believed.
"""

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from powermem import AsyncMemory

from powermem_cli.errors import PowerMemError, UsageError

MEMORY = web.AppKey("memory", AsyncMemory)
routes = web.RouteTableDef()


async def opened(app: web.Application) -> AsyncIterator[None]:
    async with AsyncMemory() as memory:
        app[MEMORY] = memory
        yield


@web.middleware
async def explain(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        return await handler(request)
    except PowerMemError as error:
        status = 400 if isinstance(error, UsageError) else 503 if error.retryable else 500
        return web.json_response({"code": error.code, "message": error.message}, status=status)


@routes.post("/users/{user_id}/memories")
async def add(request: web.Request) -> web.Response:
    said = await request.json()
    done = await request.app[MEMORY].add(said["text"], user_id=request.match_info["user_id"])
    return web.json_response(with_text_ids(done), status=201)


@routes.get("/users/{user_id}/memories")
async def search(request: web.Request) -> web.Response:
    question, limit = request.query["question"], int(request.query.get("limit", "5"))
    found = await request.app[MEMORY].search(question, user_id=request.match_info["user_id"], limit=limit)
    return web.json_response(with_text_ids(found))


@routes.delete("/users/{user_id}/memories/{memory_id}")
async def delete(request: web.Request) -> web.Response:
    found = await request.app[MEMORY].delete(request.match_info["memory_id"], user_id=request.match_info["user_id"])
    return web.Response(status=204 if found else 404)


def with_text_ids(found: dict[str, Any]) -> dict[str, Any]:
    """JavaScript loses the last digits of 64-bit numbers."""
    return {"results": [{**row, "id": str(row["id"])} for row in found["results"]]}


def make_app() -> web.Application:
    app = web.Application(middlewares=[explain])
    app.cleanup_ctx.append(opened)
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1")
