"""A real HTTP server that speaks like the providers and misbehaves on command; in a test, or as a program.

    with FakeApi() as api:
        api.next(Reply(429, headers={"Retry-After": "1"}), Reply(), Reply(cut=20))
        ...  # calls go to api.url; the first is refused, the second answered, the third ends after 20 bytes
        assert api.requests[0].path == "/embeddings"

    python tests/fake_api.py --port 0 --latency-ms 20      # prints its address, ends with Ctrl-C

It speaks the forms of OpenAI, Ollama, Gemini, Anthropic, Cohere and Qwen (rerank). The same text has the same
embedding, which `embedding` tells. What a chat answers is said by *chat*: a function from its messages to a text; the
usual one is the deterministic LLM of fake_llm.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fake_llm import data_in, remember

DIMS = 64
KEY_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key")


def embedding(text: str, dims: int = DIMS) -> list[int]:
    """The numbers that stand for *text*: whole ones, so that they survive every encoding."""
    return [byte - 128 or 1 for byte in hashlib.shake_128(text.encode()).digest(dims)]


def said_facts(messages: list[dict[str, str]]) -> str:
    """The default answer of a chat: to what the engine asks as fake_llm does; else the sentences of its last message
    as facts, as JSON.
    """
    if data_in(messages) is not None:
        return remember(messages)
    sentences = re.split(r"(?<=[.!?])\s+", messages[-1]["content"].strip())
    return json.dumps({"facts": [sentence for sentence in sentences if sentence]})


@dataclass(frozen=True)
class Reply:
    """How one call is answered. Without *body* it is what a healthy provider would say."""

    status: int = 200
    body: Any = None
    """Bytes as they are, a str as UTF-8, anything else as JSON."""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the first byte."""
    change: Callable[[Any], Any] | None = None
    """Makes another answer of the healthy one."""
    cut: int | None = None
    """Bytes of the body after which the connection ends."""
    reset: bool = False
    """Whether it ends without a farewell (RST)."""
    trickle: float | None = None
    """Seconds between single bytes of the body, or of *raw*."""
    raw: bytes | None = None
    """Sent instead of any answer; then the connection ends. Empty: it ends at once."""
    packed: bool = False
    """Send the body as gzip, as far as it goes."""
    endless: bytes | None = None
    """Sent again and again as the chunks of a body without end."""


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float = field(default_factory=time.monotonic)

    @property
    def texts(self) -> list[str]:
        """The texts of an embedding request, in whatever form they came."""
        if "requests" in self.body:
            return [one["content"]["parts"][0]["text"] for one in self.body["requests"]]
        return list(self.body["input"])


class FakeApi:
    """The server, in a thread of its own. All that is recorded can be read at any time."""

    def __init__(
        self,
        *,
        latency: float = 0.0,
        dims: int = DIMS,
        key: str | None = None,
        models: Iterable[str] | None = None,
        chat: Callable[[list[dict[str, str]]], str] = said_facts,
        port: int = 0,
        certificate: Path | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections = 0
        self.chat = chat
        self.dims = dims
        self.rule: Callable[[Request], Reply | None] = lambda request: None
        """Asked for each call for which no reply was queued."""
        self._latency = latency
        self._key = key
        self._models = None if models is None else list(models)
        self._replies: deque[Reply] = deque()
        self._port = port
        self._certificate = certificate
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()

    def __enter__(self) -> FakeApi:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}"

    def next(self, *replies: Reply) -> None:
        """The next calls are answered so, one after another; the ones after them as usual."""
        self._replies.extend(replies)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        context = None
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, ssl=context, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._handlers)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            while not self._stop.is_set() and (request := await _received(reader)) is not None:
                if not await self._answer(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the caller went away, which is its right
        finally:
            self._handlers.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer, and say whether the connection goes on."""
        self.requests.append(request)
        reply = self._replies.popleft() if self._replies else self.rule(request) or Reply()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._pause(self._latency + reply.delay)
            return await self._send(self._made(request, reply), writer)
        finally:
            self.in_flight -= 1

    async def _send(self, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        if reply.raw is not None:
            await self._write(reply.raw, reply.trickle, writer)
            return False
        body = gzip.compress(reply.body) if reply.packed else reply.body
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if reply.packed:
            headers["Content-Encoding"] = "gzip"
        if reply.endless is not None:
            headers["Transfer-Encoding"] = "chunked"
            del headers["Content-Length"]
        lines = [f"HTTP/1.1 {reply.status} Whatever", *(f"{k}: {v}" for k, v in {**headers, **reply.headers}.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if reply.endless is not None:
            while not self._stop.is_set():
                writer.write(b"%x\r\n%s\r\n" % (len(reply.endless), reply.endless))
                await writer.drain()
        await self._write(body[: reply.cut], reply.trickle, writer)
        if reply.reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return reply.cut is None

    async def _write(self, content: bytes, trickle: float | None, writer: asyncio.StreamWriter) -> None:
        for i in range(len(content) if trickle is not None else 0):
            writer.write(content[i : i + 1])
            await writer.drain()
            await self._pause(trickle or 0.0)
        if trickle is None:
            writer.write(content)
        await writer.drain()

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await asyncio.wait([asyncio.ensure_future(self._stop.wait())], timeout=seconds)

    def _made(self, request: Request, reply: Reply) -> Reply:
        """*reply* with a status and a body of bytes."""
        status, body = reply.status, reply.body
        if body is None and reply.raw is None:
            status, body = self._healthy(request) if status == 200 else (status, _error(f"status {status}"))
        if reply.change:
            body = reply.change(body)
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return replace(reply, status=status, body=body, change=None)

    def _healthy(self, request: Request) -> tuple[int, Any]:
        given = " ".join(request.headers.get(name, "") for name in KEY_HEADERS)
        if self._key is not None and self._key not in given:
            return 401, _error(f"Incorrect API key provided: {given.split()[-1] if given.strip() else ''}")
        if request.method == "GET":
            names = self._models or ["fake"]
            return 200, {"data": [{"id": n} for n in names], "models": [{"name": n} for n in names]}
        model = _model(request)
        if self._models is not None and model not in self._models:
            return 404, _error(f"The model `{model}` does not exist", code="model_not_found")
        for ending, answer in self._answers().items():
            if request.path.endswith(ending):
                return 200, answer(request.body)
        return 404, _error(f"no such path: {request.path}")

    def _answers(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "/embeddings": self._openai_embeddings,
            "/api/embed": lambda body: {
                "embeddings": [embedding(text, self.dims) for text in body["input"]],
                "prompt_eval_count": _words(*body["input"]),
            },
            ":batchEmbedContents": lambda body: {
                "embeddings": [
                    {"values": embedding(one["content"]["parts"][0]["text"], self.dims)} for one in body["requests"]
                ]
            },
            "/chat/completions": self._openai_chat,
            "/api/chat": lambda body: {
                "message": {"role": "assistant", "content": self.chat(body["messages"])},
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": _words(*(m["content"] for m in body["messages"])),
                "eval_count": 7,
            },
            ":generateContent": self._gemini_chat,
            "/messages": self._anthropic_chat,
            "/text-rerank": lambda body: {"output": _reranked(**body["input"]), "usage": {"total_tokens": 9}},
            "/rerank": lambda body: {**_reranked(body["query"], body["documents"]), "usage": {"total_tokens": 9}},
        }

    def _openai_embeddings(self, body: Any) -> Any:
        vectors: list[Any] = [embedding(text, body.get("dimensions", self.dims)) for text in body["input"]]
        if body.get("encoding_format") == "base64":
            vectors = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)],
            "usage": {"prompt_tokens": _words(*body["input"]), "total_tokens": _words(*body["input"])},
        }

    def _openai_chat(self, body: Any) -> Any:
        return {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": self.chat(body["messages"])},
                }
            ],
            "usage": {"prompt_tokens": _words(*(m["content"] for m in body["messages"])), "completion_tokens": 7},
        }

    def _gemini_chat(self, body: Any) -> Any:
        system = [{"role": "system", "content": p["text"]} for p in body.get("systemInstruction", {}).get("parts", [])]
        turns = [{"role": turn["role"], "content": turn["parts"][0]["text"]} for turn in body["contents"]]
        return {
            "candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": self.chat([*system, *turns])}]}}],
            "usageMetadata": {
                "promptTokenCount": _words(*(m["content"] for m in [*system, *turns])),
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 3,
            },
        }

    def _anthropic_chat(self, body: Any) -> Any:
        system = [{"role": "system", "content": body["system"]}] if "system" in body else []
        messages = [*system, *body["messages"]]
        return {
            "content": [{"type": "text", "text": self.chat(messages)}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": _words(*(m["content"] for m in messages)), "output_tokens": 7},
        }


async def _received(reader: asyncio.StreamReader) -> Request | None:
    """The next request on a connection; None if it was closed."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, json.loads(content) if content else None)


def _model(request: Request) -> str:
    if "model" in request.body:
        return str(request.body["model"])
    return request.path.rpartition("/")[2].partition(":")[0]


def _error(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "fake_error", "code": code, "param": None}}


def _words(*texts: str) -> int:
    return sum(len(text.split()) for text in texts)


def _reranked(query: str, documents: list[str]) -> dict[str, Any]:
    """By the share of the query's words a document has; the best first."""
    wanted = set(query.lower().split())
    shares = [len(wanted & set(text.lower().split())) / len(wanted) for text in documents]
    order = sorted(range(len(documents)), key=lambda i: -shares[i])
    return {"results": [{"index": i, "relevance_score": shares[i]} for i in order]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--dims", type=int, default=DIMS)
    parser.add_argument(
        "--fail", action="append", default=[], metavar="STATUS:SHARE", help="as 429:0.3; may be repeated"
    )
    options = parser.parse_args()
    failures = [(int(status), float(share)) for status, _, share in (one.partition(":") for one in options.fail)]
    draw = random.Random(1).random

    def unlucky(request: Request) -> Reply | None:
        return next((Reply(status) for status, share in failures if draw() < share), None)

    with FakeApi(latency=options.latency_ms / 1000, dims=options.dims, port=options.port) as api:
        api.rule = unlucky
        print(api.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
