import asyncio

from powermem import AsyncMemory, auto_config

config = auto_config()


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()

    results = await async_memory.search(
        query="user preferences",
        user_id="user123",
        limit=5,
        threshold=0.7
    )
    print(f"Found {len(results['results'])} memories")


asyncio.run(main())
