"""Remember a few things about two people, then ask about one of them."""

from powermem import Memory

memory = Memory()
memory.add("I drink green tea in the morning", user_id="anna")
memory.add("My daughter Ines is allergic to walnuts", user_id="anna")
memory.add("I drink espresso, never tea", user_id="ben")

for hit in memory.search("What does she drink?", user_id="anna", limit=1)["results"]:
    print(hit["memory"])
