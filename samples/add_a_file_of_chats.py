"""Add many conversations at once from a program of your own; `powermem add --file` does it with resume and a report."""

import asyncio
import json
from pathlib import Path

from powermem import AsyncMemory

CHATS = Path(__file__).parent / "chats.jsonl"


async def main() -> None:
    chats = [json.loads(line) for line in CHATS.read_text("utf-8").splitlines()]
    async with AsyncMemory() as memory:
        await asyncio.gather(*(memory.add(chat["messages"], user_id=chat["user_id"]) for chat in chats))
        print(f"{len(chats)} conversations")

        hits = await memory.search("Which pet allergy do I have?", user_id="chen", limit=3)
        for hit in hits["results"]:
            print(hit["memory"])


asyncio.run(main())
