import asyncio

from powermem import AsyncMemory, auto_config

config = auto_config()


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()

    result = await async_memory.delete_all(user_id="user123")
    print(result)


asyncio.run(main())
