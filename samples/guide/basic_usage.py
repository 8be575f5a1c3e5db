import asyncio
from powermem import AsyncMemory, auto_config

async def main():
    config = auto_config()
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()
    
    # Add memory
    await async_memory.add(
        messages="User prefers async operations",
        user_id="user123"
    )
    
    # Search
    results = await async_memory.search(
        query="user preferences",
        user_id="user123"
    )
    
    print(f"Found {len(results.get('results', []))} memories")

asyncio.run(main())
