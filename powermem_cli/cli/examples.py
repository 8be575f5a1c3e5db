"""The examples that `--help` shows, by command; the tests run every one of them."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "": (
        'powermem add "Anna likes tea" --user anna',
        "powermem add --file chats.jsonl",
        'powermem search "what does she drink?" --user anna',
    ),
    "add": (
        'powermem add "Anna likes tea" --user anna',
        "powermem add --file chats.jsonl",
        "powermem add -f 'logs/*.gz' -f notes.csv --map memory=note,user_id=customer",
        "powermem add -f chats.jsonl --dry-run",
    ),
    "search": (
        'powermem search "what does she drink?" --user anna',
        "powermem search \"food\" -u ana -k 5 --json | jq -r '.results[].memory'",
        "powermem search -f questions.jsonl --jsonl > answers.jsonl",
    ),
    "get": ("powermem get 228140915712000000",),
    "update": (
        'powermem update 228140915712000000 "Anna prefers coffee now"',
        'powermem update 228140915712000000 --metadata \'{"topic": "drinks"}\'',
    ),
    "list": (
        "powermem list --user ana --since 7d",
        "powermem list --where category=food --jsonl --all > food.jsonl",
    ),
    "delete": ("powermem delete --all --user anna",),
    "trash restore": ("powermem trash restore",),
    "db backup": ("powermem db backup powermem-copy.db",),
    "db reembed": ("powermem db reembed",),
    "history": ("powermem history 228140915712000000 --user anna",),
    "export": (
        "powermem export -o memories.jsonl",
        "powermem export --user ana --since 30d -o ana.csv",
        "powermem export --vectors | powermem import - --db other.db",
    ),
    "import": ("powermem import memories.jsonl --db copy.db",),
    "jobs": ("powermem jobs list",),
    "check": ("powermem check",),
    "db": ("powermem db verify",),
    "config": (
        "powermem config init --llm openai",
        "powermem config show --origin",
    ),
    "stats": (
        "powermem stats",
        "powermem stats --user ana --since 30d --json",
    ),
    "help": ("powermem help exit-codes", "powermem help filters"),
    "mcp": ("powermem mcp --user anna",),
}
