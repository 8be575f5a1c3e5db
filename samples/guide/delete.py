import asyncio

from powermem import AsyncMemory, auto_config

config = auto_config()


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()

    success = await async_memory.delete(123, user_id="user123")
    print(f"Deleted: {success}")


asyncio.run(main())
