import asyncio

from powermem import AsyncMemory

config = {}  # the defaults: a file of this user, the built-in embedder


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()
    print("Created")


asyncio.run(main())
