import asyncio

from powermem import AsyncMemory, auto_config

config = auto_config()


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()

    result = await async_memory.add(
        messages="User likes async programming",
        user_id="user123"
    )
    print(f"Added {len(result['results'])} memory")


asyncio.run(main())
