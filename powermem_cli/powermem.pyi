# The types of `import powermem`: a module of one file can not carry its own, so the wheel has this as powermem-stubs.
from powermem_cli import (
    AsyncMemory as AsyncMemory,
    Memory as Memory,
    PowerMemError as PowerMemError,
    auto_config as auto_config,
)
