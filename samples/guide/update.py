import asyncio

from powermem import AsyncMemory, auto_config

config = auto_config()


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()

    updated = await async_memory.update(
        memory_id=123,
        content="Updated content",
        user_id="user123"
    )
    print(f"Memory 123: {updated}")


asyncio.run(main())
