import asyncio
from powermem import AsyncMemory, auto_config

async def main():
    # Load configuration from .env file
    config = auto_config()
    
    # Create async memory instance
    async_memory = AsyncMemory(config=config)
    
    # Initialize (required for async)
    await async_memory.initialize()
    
    print("✓ AsyncMemory initialized successfully!")
    
    # Your async operations go here
    # Don't forget to close when done (optional, but recommended)
    # await async_memory.close()

# Run async function
asyncio.run(main())
