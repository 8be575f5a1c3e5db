import asyncio
from powermem import AsyncMemory

async def main():
    # Define configuration as a dictionary (JSON-like format)
    config = {
        'llm': {
            'provider': 'qwen',
            'config': {
                'api_key': 'your_api_key_here',
                'model': 'qwen-plus',
                'temperature': 0.7
            }
        },
        'embedder': {
            'provider': 'qwen',
            'config': {
                'api_key': 'your_api_key_here',
                'model': 'text-embedding-v4'
            }
        },
        'vector_store': {
            'provider': 'oceanbase',
            'config': {
                'collection_name': 'memories',
                'connection_args': {
                    'host': '127.0.0.1',
                    'port': 2881,
                    'user': 'root@sys',
                    'password': 'password',
                    'db_name': 'powermem'
                },
                'embedding_model_dims': 1536,
                'index_type': 'IVF_FLAT',
                'vidx_metric_type': 'cosine'
            }
        }
    }
    
    # Create async memory instance with dictionary config
    async_memory = AsyncMemory(config=config)
    
    # Initialize (required for async)
    await async_memory.initialize()
    
    print("✓ AsyncMemory initialized with JSON config!")
    
    # Your async operations go here
    # await async_memory.close()

# Run async function
asyncio.run(main())
