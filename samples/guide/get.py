import asyncio

from powermem import AsyncMemory, auto_config

config = auto_config()


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()

    memory_data = await async_memory.get(123, user_id="user123")
    print(f"Memory 123: {memory_data}")


asyncio.run(main())
