import asyncio
from powermem import AsyncMemory, auto_config

async def main():
    config = auto_config()
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()
    
    # Add multiple memories concurrently
    memories = [
        "User likes Python programming",
        "User prefers email support",
        "User works as a software engineer",
        "User favorite color is blue"
    ]
    
    # Create tasks for concurrent execution
    # Note: We're creating coroutine objects, not awaiting them yet
    tasks = [
        async_memory.add(mem, user_id="user123")  # messages as first positional argument
        for mem in memories
    ]
    
    # Execute all tasks concurrently
    # This runs all add operations in parallel
    results = await asyncio.gather(*tasks)
    
    print(f"✓ Added {len(results)} memories concurrently")
    
    # Process individual results if needed
    for i, result in enumerate(results):
        results_list = result.get('results', [])
        if results_list:
            print(f"  Memory {i+1}: {results_list[0].get('memory', 'N/A')}")

asyncio.run(main())
