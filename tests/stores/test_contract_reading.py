"""What every store must do, on every engine: give back what was stored, in pages, by nearness and by words."""

from __future__ import annotations

import asyncio
import json
import random

import numpy as np
import pytest
from places import LARGE, add, digest, insert, texts, vector

from powermem_cli.filters import parse_filter
from powermem_cli.model import Scope
from powermem_cli.rules import canonical_json
from powermem_cli.stores.base import EVERYTHING, Part, Update, Where, Write, brevity, rarity
from powermem_cli.terms import terms_of

pytestmark = pytest.mark.anyio

ODD_TEXTS = [
    "plain", " outer blanks \t", "two\nlines\r\nand more\r", "quotes ' \" ` ''", "back\\slash \\' \\n \\", "100 % of _ * ?",
    "%s %(v0)s $1 {0} :1 ?", "; DROP TABLE memories; --", "emoji 😀👩‍👩‍👧‍👦 🏳️‍🌈", "日本語の記憶", "한국어", "العربية", "עברית",
    "separators \u2028 \u2029 \u0085 \v \f", "\ufeffbom", "e\u0301 é", "\x01\x02\x1a\x7f", "\U0010ffff\ufffe\uffff",
    "NULL", "null", "''", "\\N", "<b>&amp;</b>", "x" * 1_000_000, "日" * 350_000, "'\\" * 100_000,
]  # fmt: skip


class TestRoundTrip:
    async def test_texts_come_back_byte_for_byte(self, place):
        async with place.opened() as store:
            for text in ODD_TEXTS:
                await add(store, insert(text, "ann"))
        async with place.opened() as store:
            assert await texts(store) == ODD_TEXTS

    async def test_an_updated_text_comes_back_byte_for_byte(self, store):
        (id,) = await add(store, insert("before"))
        for text in ODD_TEXTS:
            await store.apply([Write((Update(id, 1, text=text, digest=digest(text)),))])
            assert await texts(store) == [text]

    async def test_metadata_comes_back_as_it_was(self, store):
        deep = 0
        for _ in range(98):
            deep = [deep]
        metadata = {
            "integers": [0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63) + 1],
            "numbers": [0.1, 1.0, -0.5, 1e300, 5e-324, 123456789.12345679, 0.30000000000000004],
            "others": [True, False, None, "", "x", [], {}],
            "texts": [text for text in ODD_TEXTS if len(text) < 100],
            "": "an empty key", "a.b": "a dot", "ключ 日本 \"'`$%\\": 1, "deep": deep, "b": {"c": {"d": [1, {"e": 2}]}},
        }  # fmt: skip
        await add(store, insert("x", metadata=metadata))
        (memory,) = await store.find(EVERYTHING, limit=1)
        assert canonical_json(memory.metadata) == canonical_json(metadata)
        assert json.dumps(memory.metadata, sort_keys=True) == json.dumps(metadata, sort_keys=True)

    async def test_times_are_kept_to_the_microsecond(self, store):
        times = [0, 1, -1, 1_700_000_000_123_456, -2_208_988_800_000_000, 7_258_118_400_000_000]
        await add(store, *[insert("x", created_at=time) for time in times])
        found = await store.find(EVERYTHING, limit=10)
        assert [(memory.created_at, memory.updated_at) for memory in found] == [(time, time) for time in times]


class TestPages:
    async def test_pages_follow_each_other_in_the_order_of_ids(self, store):
        ids = await add(store, *[insert(f"{number}", "ann") for number in range(25)])
        await add(store, insert("other", "bob"))
        where = Where(Scope("ann"))
        by_offset = [await store.find(where, limit=10, offset=offset) for offset in (0, 10, 20, 30)]
        assert [len(page) for page in by_offset] == [10, 10, 5, 0]
        assert [memory.id for page in by_offset for memory in page] == ids
        walked, after = [], None
        while page := await store.find(where, limit=7, after=after):
            walked += page
            after = page[-1].id
        assert [memory.id for memory in walked] == ids
        assert [m.id for m in await store.find(where, limit=3, offset=2, after=ids[4])] == ids[7:10]
        assert await store.find(where, limit=0) == []

    async def test_some_ids_of_many(self, store):
        ids = await add(store, *[insert("x", "ann") for _ in range(5)])
        many = tuple(range(1, 5001)) + tuple(ids[::2])
        assert [memory.id for memory in await store.find(Where(ids=many), limit=10)] == ids[::2]
        assert await store.count(Where(ids=())) == 0
        assert await store.count(Where(Scope("bob"), ids=many)) == 0

    async def test_counts_and_deletes_reach_beyond_any_page(self, store):
        for user in ("ann", "bob"):
            await store.apply([Write((insert("x", user, metadata={"n": n}, vector=vector(n)),)) for n in range(1500)])
        assert await store.count(EVERYTHING) == 3000
        even = parse_filter({"n": {"lt": 1200}})
        assert await store.delete(Where(Scope("ann"), even)) == 1200
        assert await store.count(Where(Scope("ann"))) == 300
        assert await store.delete(Where(Scope("bob"))) == 1500
        assert await store.delete(Where(Scope("bob"))) == 0
        assert await store.count(EVERYTHING) == 300
        assert len(await store.nearest(vector(1), EVERYTHING, limit=LARGE)) == 300
        assert len(await store.matching(["x"], EVERYTHING, limit=LARGE)) == 300


async def both_sides(store, on_its_way, terms, where, *, limit, compared):
    def judge(found):
        (sides,) = found
        yield from ()
        return sides

    return await store.search(on_its_way, terms, [Part(where, limit)], compared=compared, judge=judge)


class TestSearch:
    @pytest.mark.parametrize("whose", ["u1", None])
    async def test_each_part_is_looked_for_and_what_is_judged_may_read_memories_of_the_first(self, store, whose):
        made = [insert(f"tea {n}", f"u{n % 2}", vector=vector(n), metadata={"n": n}) for n in range(12)]
        ids = await add_all(store, made)
        few = Where(Scope(whose), parse_filter({"n": {"gte": 6}}))
        seen = []

        def judge(found):
            seen.append([[hit.id for hit in side] for sides in found for side in sides])
            rows = yield ids[::-1]
            seen.append([row.text for row in rows])
            rows = yield [ids[3], ids[4]]
            seen.append([row.text for row in rows])
            return "so"

        on_its_way = asyncio.ensure_future(asyncio.sleep(0, vector(3)))
        parts = [Part(Where(Scope(whose)), 4), Part(few, 2)]
        assert await store.search(on_its_way, ["tea"], parts, compared=0, judge=judge) == "so"
        alone = [
            [hit.id for hit in hits]
            for where, limit in parts
            for hits in (
                await store.nearest(vector(3), where, limit=limit),
                await store.matching(["tea"], where, limit=limit),
            )
        ]
        theirs = range(12) if whose is None else range(1, 12, 2)
        assert seen == [alone, [f"tea {n}" for n in theirs], [f"tea {n}" for n in (3, 4) if n in theirs]]

    async def test_what_goes_wrong_while_it_is_judged_is_raised_and_harms_nothing(self, store):
        await add(store, insert("tea", vector=vector(1)))

        def judge(_found):
            yield [1]
            raise ZeroDivisionError

        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await store.search(asyncio.sleep(0, vector(1)), ["tea"], [Part(EVERYTHING, 1)], compared=0, judge=judge)
        assert len(await store.matching(["tea"], EVERYTHING, limit=2)) == 1


class TestNearest:
    async def test_the_closest_come_first_with_their_cosine(self, store):
        vectors = [vector(seed) for seed in range(200)]
        ids = await add_all(
            store, [insert("x", f"u{n % 3}", vector=v, metadata={"n": n}) for n, v in enumerate(vectors)]
        )
        query = vector(1000)
        cosines = np.array([np.frombuffer(v, "<f4") for v in vectors]) @ np.frombuffer(query, "<f4").astype("f8")
        order = np.argsort(-cosines)
        for scope, low in ((Scope(), 0), (Scope("u1"), 0), (Scope("u2"), 50)):
            where = Where(scope, parse_filter({"n": {"gte": low}}))
            allowed = [n for n in order if n >= low and scope.user_id in {None, f"u{n % 3}"}]
            for limit in (1, 10, 1000):
                hits = await store.nearest(query, where, limit=limit)
                assert [hit.id for hit in hits] == [ids[n] for n in allowed[:limit]]
                assert [hit.score for hit in hits] == pytest.approx([cosines[n] for n in allowed[:limit]], abs=1e-5)

    async def test_ties_are_in_the_order_of_ids(self, store):
        ids = await add_all(store, [insert("x", vector=vector(seed)) for seed in (1, 2, 1, 1, 2, 1)])
        hits = await store.nearest(vector(1), EVERYTHING, limit=4)
        assert [hit.id for hit in hits] == [ids[0], ids[2], ids[3], ids[5]]
        assert [hit.score for hit in hits] == pytest.approx([1.0] * 4, abs=1e-5)
        assert [h.id for h in await store.nearest(vector(1), EVERYTHING, limit=2)] == [ids[0], ids[2]]

    async def test_the_best_by_words_stand_behind_the_nearest(self, store):
        words = ["tea", "tea rain", "rain", "snow"]
        made = [insert(words[n % 4], f"u{n % 2}", vector=vector(n), metadata={"n": n}) for n in range(12)]
        await add_all(store, made)
        for where in (EVERYTHING, Where(Scope("u1")), Where(filter=parse_filter({"n": {"gte": 2}}))):
            every = await store.nearest(vector(3), where, limit=LARGE)
            matching = await store.matching(["tea"], where, limit=2)
            for compared in (0, 1, LARGE):
                on_its_way = asyncio.ensure_future(asyncio.sleep(0, vector(3)))
                found = await both_sides(store, on_its_way, ["tea"], where, limit=2, compared=compared)
                there = {hit.id for hit in every[:2]} | {hit.id for hit in matching[:compared]}
                expected = [hit for hit in every if hit.id in there]
                assert [hit.id for hit in found[0]] == [hit.id for hit in expected]
                assert [hit.score for hit in found[0]] == pytest.approx([hit.score for hit in expected], abs=1e-5)
                assert found[1] == matching

    async def test_the_opposite_is_minus_one_and_never_less(self, store):
        opposite = (-np.frombuffer(vector(1), "<f4")).tobytes()
        await add(store, insert("x", vector=opposite))
        (hit,) = await store.nearest(vector(1), EVERYTHING, limit=1)
        assert hit.score == pytest.approx(-1, abs=1e-5)

    async def test_a_memory_without_a_vector_is_never_near(self, store):
        ids = await add(store, insert("apples"), insert("pears", vector=vector(1)), insert("plums", vector=b""))
        assert [hit.id for hit in await store.nearest(vector(1), EVERYTHING, limit=10)] == [ids[1]]
        assert [hit.id for hit in await store.matching(terms_of("apples plums"), EVERYTHING, limit=10)] == [
            ids[0],
            ids[2],
        ]

    async def test_nothing_is_near_nothing(self, store):
        assert await store.nearest(vector(1), EVERYTHING, limit=10) == []
        await add(store, insert("x", vector=vector(1)))
        assert await store.nearest(b"", EVERYTHING, limit=10) == []
        assert await store.nearest(vector(1), EVERYTHING, limit=0) == []
        assert await store.nearest(vector(1), Where(Scope("nobody")), limit=10) == []

    async def test_vectors_as_long_as_models_make_them(self, store):
        await add(store, insert("x", vector=vector(1, 1536)), insert("y", vector=vector(2, 1536)))
        hits = await store.nearest(vector(2, 1536), EVERYTHING, limit=2)
        assert hits[0].score == pytest.approx(1, abs=1e-5)


class TestMatching:
    async def test_the_order_is_that_of_the_formula(self, store):
        words = ["rain", "snow", "hail", "fog", "wind", "sun", "日本", "ice2", "don't", "naïve"]
        pick = random.Random(3)
        rows = []
        for number in range(120):
            length = pick.randint(1, 30)
            content = [pick.choice(words) for _ in range(pick.randint(0, 4))] + [
                f"w{pick.randrange(900)}" for _ in range(length)
            ]
            rows.append(insert(" ".join(content), f"u{number % 2}", metadata={"n": number}))
        ids = await add_all(store, rows)
        asked = list(dict.fromkeys(term for word in words[:9] for term in terms_of(word)))
        for user in (None, "u0", "u1"):
            for low in (0, 60):
                where = Where(Scope(user), parse_filter({"n": {"gte": low}}))
                hits = await store.matching(asked, where, limit=1000)
                expected = expected_hits(rows, ids, asked, user, low)
                assert [hit.id for hit in hits] == [id for id, _ in expected]
                assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected])
                assert [hit.id for hit in await store.matching(asked, where, limit=5)] == [id for id, _ in expected[:5]]

    async def test_terms_are_whole_words(self, store):
        await add(store, insert("rainbow"), insert("brain"), insert("rain"))
        hits = await store.matching(["rain"], EVERYTHING, limit=10)
        assert len(hits) == 1
        assert hits[0].score > 0

    async def test_scripts_without_blanks_are_found(self, store):
        (id, _) = await add(store, insert("私は京都に住んでいます"), insert("東京タワー"))
        assert [hit.id for hit in await store.matching(terms_of("京都"), EVERYTHING, limit=10)] == [id]

    async def test_texts_without_any_word_are_kept_and_never_match(self, store):
        await add(store, insert("…!?"), insert("😀"))
        assert await store.matching(["x"], EVERYTHING, limit=10) == []
        assert await store.matching([], EVERYTHING, limit=10) == []

    async def test_a_word_that_everybody_holds_still_counts(self, store):
        ids = await add(store, *[insert("rain") for _ in range(3)])
        hits = await store.matching(["rain", "unheard"], EVERYTHING, limit=10)
        assert [hit.id for hit in hits] == ids
        assert all(hit.score > 0 for hit in hits)

    async def test_the_rest_of_a_huge_text_is_searched_too(self, store):
        (id,) = await add(store, insert(" ".join(f"word{n}" for n in range(30_000)) + " needle"))
        assert [hit.id for hit in await store.matching(["needl"], EVERYTHING, limit=10)] == [id]


class TestFrequencies:
    async def test_they_count_memories_of_the_user_or_of_all(self, store):
        await add(store, insert("rain rain snow", "ann"), insert("rain", "ann"), insert("snow", "bob"), insert("rain"))
        asked = ["rain", "snow", "hail"]
        assert await store.frequencies(asked, "ann") == ({"rain": 2, "snow": 1, "hail": 0}, 2)
        assert await store.frequencies(asked, None) == ({"rain": 3, "snow": 2, "hail": 0}, 4)
        assert await store.frequencies(asked, "nobody") == ({"rain": 0, "snow": 0, "hail": 0}, 0)
        assert await store.frequencies([], "ann") == ({}, 2)

    async def test_they_follow_what_is_deleted(self, store):
        await add(store, insert("rain", "ann"), insert("rain", "bob"))
        await store.delete(Where(Scope("ann")))
        assert await store.frequencies(["rain"], None) == ({"rain": 1}, 1)


async def add_all(store, inserts):
    """In one call; the ids."""
    applied = await store.apply([Write((one,)) for one in inserts])
    return [id for result in applied for _, id in result.events]


def expected_hits(rows, ids, asked, user, low):
    """(id, score) in the order that base.py's formula gives."""
    terms = [set(terms_of(row.text)) for row in rows]
    mine = [n for n, row in enumerate(rows) if user is None or row.scope.user_id == user]
    worth = {term: rarity(sum(term in terms[n] for n in mine), len(mine)) for term in asked}
    scores = {n: sum(worth[t] for t in asked if t in terms[n]) * brevity(len(terms[n])) for n in mine if n >= low}
    found = [(ids[n], score) for n, score in scores.items() if score]
    return sorted(found, key=lambda one: (-round(one[1], 9), one[0]))
