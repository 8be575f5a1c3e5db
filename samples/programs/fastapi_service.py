"""A memory service with FastAPI; one AsyncMemory for as long as the service runs.

    uvicorn fastapi_service:app

Put your own sign-in in front of it: here the path says who asks, and the path is believed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from powermem import AsyncMemory
from pydantic import BaseModel

from powermem_cli.errors import PowerMemError, UsageError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncMemory() as memory:
        app.state.memory = memory
        yield


app = FastAPI(title="memories", lifespan=lifespan)


class Said(BaseModel):
    text: str


@app.exception_handler(PowerMemError)
async def explain(_request: Request, error: PowerMemError) -> JSONResponse:
    status = 400 if isinstance(error, UsageError) else 503 if error.retryable else 500
    return JSONResponse({"code": error.code, "message": error.message}, status)


@app.post("/users/{user_id}/memories", status_code=201)
async def add(request: Request, user_id: str, said: Said) -> dict[str, Any]:
    return with_text_ids(await request.app.state.memory.add(said.text, user_id=user_id))


@app.get("/users/{user_id}/memories")
async def search(request: Request, user_id: str, question: str, limit: int = 5) -> dict[str, Any]:
    return with_text_ids(await request.app.state.memory.search(question, user_id=user_id, limit=limit))


@app.delete("/users/{user_id}/memories/{memory_id}", status_code=204)
async def delete(request: Request, user_id: str, memory_id: str) -> None:
    if not await request.app.state.memory.delete(memory_id, user_id=user_id):
        raise HTTPException(404)


def with_text_ids(found: dict[str, Any]) -> dict[str, Any]:
    """JavaScript loses the last digits of 64-bit numbers."""
    return {"results": [{**row, "id": str(row["id"])} for row in found["results"]]}
