"""Search only among the memories that a filter leaves."""

from powermem import Memory

MEALS = [
    ("Ramen at Kaito, far too salty", {"rating": 2, "tags": ["dinner", "noodles"]}),
    ("Lasagna at Nonna's, the best in town", {"rating": 5, "tags": ["dinner", "noodles"]}),
    ("Pancakes at home with the children", {"rating": 5, "tags": ["breakfast"]}),
]

with Memory() as memory:
    for text, metadata in MEALS:
        memory.add(text, user_id="anna", metadata=metadata)

    good_dinners = {"rating": {"gte": 4}, "tags": {"contains": "dinner"}}
    for hit in memory.search("noodles", user_id="anna", filters=good_dinners)["results"]:
        print(hit["memory"], hit["metadata"]["rating"])
