# The types of `import powermem`: a module of one file can not carry its own, so the wheel has this as powermem-stubs.
from powermem_cli import (
    AddedMemory as AddedMemory,
    AddResult as AddResult,
    AsyncMemory as AsyncMemory,
    DeleteAllResult as DeleteAllResult,
    Explanation as Explanation,
    FoundMemory as FoundMemory,
    GetAllResult as GetAllResult,
    HistoryEvent as HistoryEvent,
    HistoryResult as HistoryResult,
    Memory as Memory,
    MemoryDict as MemoryDict,
    PowerMemError as PowerMemError,
    SearchResult as SearchResult,
    SourceDict as SourceDict,
    auto_config as auto_config,
)
