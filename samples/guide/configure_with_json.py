import asyncio
import json
from powermem import AsyncMemory

async def main():
    # Load configuration from JSON file
    with open('config.json', 'r') as f:
        config = json.load(f)
    
    # Create async memory instance
    async_memory = AsyncMemory(config=config)
    
    # Initialize (required for async)
    await async_memory.initialize()
    
    print("✓ AsyncMemory initialized from JSON file!")
    
    # Your async operations go here
    # await async_memory.close()

# Run async function
asyncio.run(main())
