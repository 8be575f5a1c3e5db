import asyncio

from powermem import AsyncMemory, auto_config

config = auto_config()


async def main():
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()

    # Example: Delete multiple memories concurrently
    memory_ids = ["id1", "id2", "id3"]
    tasks = [async_memory.delete(mid) for mid in memory_ids]
    results = await asyncio.gather(*tasks)
    success_count = sum(1 for r in results if r)
    print(f"✓ Deleted {success_count}/{len(memory_ids)} memories")


asyncio.run(main())
