"""Correct a memory, give it more metadata, forget it."""

from powermem import Memory

with Memory() as memory:
    (moved,) = memory.add("Lives in Rome", user_id="anna", metadata={"topic": "home"}, infer=False)["results"]

    memory.update(moved["id"], "Lives in Paris", user_id="anna")
    memory.update(moved["id"], metadata={"since": "2026-03-01"}, user_id="anna")
    now = memory.get(moved["id"], user_id="anna")
    print(now["memory"], now["metadata"])

    print(memory.delete(moved["id"], user_id="ben"))  # not Ben's: nothing happens
    print(memory.delete(moved["id"], user_id="anna"))
    print(memory.get(moved["id"]))
