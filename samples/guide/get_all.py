import asyncio

from powermem import AsyncMemory, auto_config

config = auto_config()


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()

    all_memories = await async_memory.get_all(user_id="user123", limit=50, offset=0)
    print(all_memories)


asyncio.run(main())
