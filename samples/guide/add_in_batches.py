import asyncio
from powermem import AsyncMemory, auto_config

async def main():
    config = auto_config()
    async_memory = AsyncMemory(config=config)
    await async_memory.initialize()
    
    # Large list of memories
    memories = [
        f"Memory {i}: User preference {i}"
        for i in range(100)
    ]
    
    # Process in batches
    batch_size = 10
    total_batches = (len(memories) + batch_size - 1) // batch_size
    
    for i in range(0, len(memories), batch_size):
        batch = memories[i:i+batch_size]
        batch_num = i // batch_size + 1
        
        # Create tasks for batch
        tasks = [
            async_memory.add(mem, user_id="user123")  # messages as first positional argument
            for mem in batch
        ]
        
        # Execute batch concurrently
        try:
            results = await asyncio.gather(*tasks)
            print(f"✓ Processed batch {batch_num}/{total_batches} ({len(results)} memories)")
        except Exception as e:
            print(f"✗ Error processing batch {batch_num}: {e}")

asyncio.run(main())
