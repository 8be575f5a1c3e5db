"""What AsyncMemory promises its caller: what is kept, whose it is, what is found. A real file, the built-in embedder."""

from __future__ import annotations

import asyncio
import logging
import stat
from datetime import datetime, timezone

import pytest
from memories import HOSTILE_IDS, config, held, ids, texts

from powermem_cli.config import Choice, Config, parse_config
from powermem_cli.errors import (
    ConfigError,
    EmbedderMismatch,
    InvalidInput,
    ProviderRefused,
    ProviderRejected,
    StoreError,
    UsageError,
)
from powermem_cli.memory import AsyncMemory

pytestmark = pytest.mark.anyio

MEMORY_KEYS = {"id", "memory", "user_id", "agent_id", "run_id", "metadata", "created_at", "updated_at"}
UNKNOWN_IDS = [
    0,
    1,
    -1,
    2**63 - 1,
    2**63,
    10**30,
    True,
    1.0,
    None,
    "",
    "abc",
    "1.0",
    "-1",
    " 1",
    "1 ",
    "1_0",
    "١",
    "９",
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "memories.db"


@pytest.fixture
async def memory(path):
    async with AsyncMemory(config(path)) as opened:
        yield opened


class TestOpening:
    async def test_the_constructor_does_nothing(self, path):
        AsyncMemory(config(path))
        assert not path.exists()

    async def test_the_file_is_for_its_owner_alone(self, memory, path):
        await memory.add("x", infer=False)
        files = list(path.parent.glob("memories.db*"))
        assert len(files) > 1
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    @pytest.mark.parametrize(
        "call",
        [
            lambda m: m.add("x"),
            lambda m: m.search("x"),
            lambda m: m.get(1),
            lambda m: m.update(1, "x"),
            lambda m: m.delete(1),
            lambda m: m.delete_all(),
            lambda m: m.get_all(),
            lambda m: m.count(),
            lambda m: m.store_identity(),
            lambda m: m.add_records([], job="j"),
        ],
    )
    async def test_a_call_out_of_order_is_told_the_order(self, path, call):
        memory = AsyncMemory(config(path))
        with pytest.raises(UsageError, match="not open yet") as caught:
            await call(memory)
        assert "initialize()" in caught.value.hint
        await memory.initialize()
        await memory.close()
        with pytest.raises(UsageError, match="closed") as caught:
            await call(memory)
        assert caught.value.hint == "make a new one"

    async def test_initialize_and_close_may_be_repeated_and_close_comes_last(self, path):
        memory = AsyncMemory(config(path))
        await asyncio.gather(*(memory.initialize() for _ in range(5)))
        await memory.initialize()
        await memory.add("x")
        await asyncio.gather(memory.close(), memory.close())
        await memory.close()
        with pytest.raises(UsageError, match="closed"):
            await memory.initialize()

    async def test_closing_what_was_never_opened_is_allowed(self, path):
        await AsyncMemory(config(path)).close()
        assert not path.exists()

    async def test_close_finishes_what_was_begun(self, path):
        memory = AsyncMemory(config(path))
        await memory.initialize()
        adding = [asyncio.create_task(memory.add(f"memory {i}")) for i in range(20)]
        await asyncio.gather(*adding[:1])
        await memory.close()
        results = await asyncio.gather(*adding, return_exceptions=True)
        kept = [result["results"][0]["memory"] for result in results if isinstance(result, dict)]
        async with AsyncMemory(config(path)) as again:
            assert sorted(await held(again)) == sorted(kept)

    async def test_a_file_of_another_program_is_refused_and_left_as_it_is(self, path):
        path.write_text("just a text\n" * 100)
        before = path.read_bytes()
        with pytest.raises(StoreError, match=r"memories\.db") as caught:
            await AsyncMemory(config(path)).initialize()
        assert caught.value.code == "store.corrupt"
        assert caught.value.hint
        assert path.read_bytes() == before

    async def test_the_vectors_of_another_model_are_refused_naming_both_and_the_cure(self, memory, path):
        await memory.add("x")
        other = AsyncMemory(config(path, embedding_dims=8))
        with pytest.raises(EmbedderMismatch, match=r"local/powermem-static-v1.*moody/8") as caught:
            await other.initialize()
        assert "EMBEDDING_PROVIDER" in caught.value.hint
        with pytest.raises(UsageError, match="not open yet"):
            await other.add("y")
        assert await held(memory) == ["x"]


class TestConfiguration:
    @pytest.mark.parametrize(
        ("wrong", "right"),
        [
            ({"vector_stor": {}}, "vector_store"),
            ({"embedder": {"provider": "locl"}}, "local"),
            ({"embedder": {"provider": "local", "config": {"dims": 3}}}, ""),
            ({"vector_store": {"provider": "sqlight", "config": {"path": "x"}}}, "sqlite"),
            ({"vector_store": {"provider": "sqlite", "config": {"pth": "x"}}}, "path"),
            ({"vector_store": {"provider": "sqlite", "confg": {}}}, "config"),
        ],
    )
    def test_a_wrong_name_is_an_error_that_lists_the_right_ones(self, wrong, right):
        with pytest.raises(ConfigError) as caught:
            AsyncMemory(wrong)
        assert right in f"{caught.value.message} {caught.value.hint}"

    async def test_without_any_it_is_the_one_of_the_environment(self, path, monkeypatch):
        monkeypatch.chdir(path.parent)
        monkeypatch.setenv("SQLITE_PATH", str(path))
        async with AsyncMemory() as memory:
            await memory.add("x")
        assert path.exists()

    async def test_a_parsed_one_is_taken_as_it_is(self, path):
        async with AsyncMemory(parse_config(config(path))) as memory:
            await memory.add("x")
        async with AsyncMemory(Config(Choice("sqlite", {"path": str(path)}), Choice("local", {}))) as memory:
            assert await held(memory) == ["x"]

    async def test_the_names_of_older_programs_choose_providers(self, path):
        async with AsyncMemory(config(path), storage_type="sqlite", embedding_provider="local") as memory:
            await memory.add("x")
        async with AsyncMemory(config(path)) as memory:
            assert await held(memory) == ["x"]
        with pytest.raises(ConfigError, match="locl"):
            AsyncMemory(config(path), embedding_provider="locl")
        with pytest.raises(ConfigError, match="tape"):
            AsyncMemory(config(path), storage_type="tape")


class TestAdd:
    @pytest.mark.parametrize(
        ("messages", "kept"),
        [
            ("I like tea", ["I like tea"]),
            ({"role": "user", "content": "I like tea"}, ["I like tea"]),
            ({"content": "I like tea"}, ["I like tea"]),
            ([{"role": "user", "content": "I like tea"}], ["I like tea"]),
            (["I like tea", "I like rain"], ["I like tea", "I like rain"]),
            (
                [
                    {"role": "system", "content": "You are kind"},
                    {"role": "user", "content": "I like tea"},
                    {"role": "assistant", "content": "Green or black?"},
                    {"role": "USER", "content": [{"type": "text", "text": "Green"}, {"type": "image_url"}]},
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                ],
                ["I like tea", "Green"],
            ),
            ([{"role": "assistant", "content": "Nothing of yours"}], []),
        ],
    )
    async def test_what_the_user_said_is_kept_as_it_was_said(self, memory, messages, kept):
        assert texts(await memory.add(messages, user_id="anna")) == kept
        assert await held(memory) == kept

    async def test_without_inference_one_call_is_one_memory_without_the_system(self, memory):
        turns = [("system", "Be kind"), ("user", "I like tea"), ("assistant", "Noted")]
        messages = [{"role": role, "content": content} for role, content in turns]
        result = await memory.add(messages, infer=False)
        assert texts(result) == ["I like tea\nNoted"]
        assert texts(await memory.add(messages[:1], infer=False)) == []
        assert await held(memory) == ["I like tea\nNoted"]

    @pytest.mark.parametrize(
        "text", ["\ufeffBOM", "a\r\nb\n", "a\u2028b\u2029", "👩‍👩‍👧", "  outer  ", "e\u0301 é", "\x1b[31m"]
    )
    async def test_a_text_is_kept_to_the_byte(self, memory, text):
        (id,) = ids(await memory.add(text))
        assert (await memory.get(id))["memory"] == text

    async def test_it_says_what_get_will_say(self, memory):
        before = datetime.now(timezone.utc)
        added = await memory.add("tea", "anna", "helper", "r1", {"n": 1, "deep": {"list": [1, None, "x"]}})
        (one,) = added["results"]
        assert one.pop("event") == "ADD"
        assert set(one) == MEMORY_KEYS
        assert await memory.get(one["id"]) == one
        assert (one["user_id"], one["agent_id"], one["run_id"]) == ("anna", "helper", "r1")
        assert one["metadata"] == {"n": 1, "deep": {"list": [1, None, "x"]}}
        assert before <= datetime.fromisoformat(one["created_at"].replace("Z", "+00:00"))
        assert one["created_at"] == one["updated_at"]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"messages": ""},
            {"messages": "  \n"},
            {"messages": []},
            {"messages": None},
            {"messages": 7},
            {"messages": [{"role": "user"}]},
            {"messages": [{"content": 7}]},
            {"messages": "nul \0"},
            {"messages": "lone \ud800"},
            {"messages": "x", "user_id": ""},
            {"messages": "x", "user_id": "a\nb"},
            {"messages": "x", "user_id": "x" * 256},
            {"messages": "x", "user_id": ["a"]},
            {"messages": "x", "metadata": {"n": float("nan")}},
            {"messages": "x", "metadata": {"n": float("inf")}},
            {"messages": "x", "metadata": {"when": datetime(2026, 1, 1, tzinfo=timezone.utc)}},
            {"messages": "x", "metadata": {1: "x"}},
            {"messages": "x", "metadata": ["x"]},
            {"messages": "x", "metadata": {"big": "x" * 70_000}},
            {"messages": "x", "filters": {"a": {"likes": 1}}},
        ],
    )
    async def test_what_breaks_a_rule_is_refused_at_the_door(self, memory, arguments):
        with pytest.raises(InvalidInput):
            await memory.add(**arguments)
        assert await held(memory) == []

    async def test_an_embedder_that_refuses_is_an_error_and_nothing_is_kept(self, path):
        async with AsyncMemory(config(path, refuses=True)) as memory:
            with pytest.raises(ProviderRefused):
                await memory.add("x")
            with pytest.raises(ProviderRefused):
                await memory.search("x")
            assert await held(memory) == []

    async def test_a_text_the_embedder_does_not_take_is_an_error_of_that_call_alone(self, path):
        async with AsyncMemory(config(path, embedding_dims=8)) as memory:
            calls = [memory.add(text) for text in ("tea", "poison", "rain")]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(result) for result in results] == [dict, ProviderRejected, dict]
            assert sorted(await held(memory)) == ["rain", "tea"]

    async def test_it_says_nothing_on_its_own(self, memory, capsys, caplog):
        with caplog.at_level(logging.INFO):
            await memory.add("x")
            await memory.search("x")
        assert capsys.readouterr() == ("", "")
        assert [record for record in caplog.records if record.name.startswith("powermem")] == []


class TestRepeats:
    async def test_the_same_again_is_not_stored_twice(self, memory):
        (id,) = ids(await memory.add("I like tea", user_id="anna"))
        for _ in range(3):
            assert await memory.add("I like tea", user_id="anna") == {"results": []}
        assert await memory.count() == 1
        turns = [{"role": "user", "content": text} for text in ("I like tea", "I like rain", "I like rain")]
        assert texts(await memory.add(turns, user_id="anna")) == ["I like rain"]
        assert (await memory.get(id))["memory"] == "I like tea"

    @pytest.mark.parametrize(
        "text", ["i like tea", "I like tea.", " I like tea", "I like  tea", "I like teа", "I like teas"]
    )
    async def test_what_is_only_nearly_the_same_is_never_dropped(self, memory, text):
        await memory.add("I like tea", user_id="anna")
        assert texts(await memory.add(text, user_id="anna")) == [text]
        assert await memory.count() == 2

    async def test_numbers_and_names_make_all_the_difference(self, memory):
        facts = [f"My locker is number {i}, next to the one of person {i % 7}" for i in range(100)]
        await asyncio.gather(*(memory.add(fact, user_id="anna") for fact in facts))
        assert sorted(await held(memory, "anna")) == sorted(facts)

    async def test_every_scope_has_its_own(self, memory):
        scopes = [
            {},
            {"user_id": "a"},
            {"user_id": "b"},
            {"agent_id": "a"},
            {"run_id": "a"},
            {"user_id": "a", "run_id": "a"},
        ]
        for scope in scopes:
            assert texts(await memory.add("I like tea", **scope)) == ["I like tea"]
        for scope in scopes:
            assert texts(await memory.add("I like tea", **scope)) == []
        assert await memory.count() == len(scopes)

    async def test_without_inference_repeats_are_meant(self, memory):
        for _ in range(3):
            assert texts(await memory.add("tick", infer=False)) == ["tick"]
        assert await memory.count() == 3

    async def test_many_at_once_are_one(self, memory):
        results = await asyncio.gather(*(memory.add("I like tea", user_id="anna") for _ in range(50)))
        assert sorted(len(result["results"]) for result in results) == [0] * 49 + [1]
        assert await memory.count() == 1

    async def test_many_at_once_through_two_engines_are_one(self, path):
        async with AsyncMemory(config(path)) as one, AsyncMemory(config(path)) as other:
            for i in range(20):
                results = await asyncio.gather(*(m.add(f"fact {i}", user_id="anna") for m in (one, other) * 3))
                assert sorted(len(result["results"]) for result in results) == [0] * 5 + [1]
            assert await one.count() == await other.count() == 20

    async def test_a_filter_says_among_which_a_repeat_is_looked_for(self, memory):
        await memory.add("I like tea", metadata={"topic": "drinks"})
        assert texts(await memory.add("I like tea", filters={"topic": "drinks"})) == []
        assert texts(await memory.add("I like tea", filters={"topic": "food"}, metadata={"topic": "food"})) == [
            "I like tea"
        ]

    async def test_what_was_forgotten_or_changed_may_be_said_again(self, memory):
        (id,) = ids(await memory.add("I like tea"))
        await memory.update(id, "I like coffee")
        assert texts(await memory.add("I like tea")) == ["I like tea"]
        assert texts(await memory.add("I like coffee")) == []
        await memory.delete(id)
        assert texts(await memory.add("I like coffee")) == ["I like coffee"]


class TestWhoseItIs:
    async def test_to_others_it_is_not_there(self, memory):
        (id,) = ids(await memory.add("secret", user_id="anna", agent_id="helper"))
        for scope in ({"user_id": "ben"}, {"agent_id": "other"}, {"user_id": "anna", "agent_id": "other"}):
            assert await memory.get(id, **scope) is None
            assert await memory.update(id, "changed", **scope) is None
            assert await memory.update(id, metadata={"a": 1}, **scope) is None
            assert await memory.delete(id, **scope) is False
        unchanged = await memory.get(id, user_id="anna", agent_id="helper")
        assert (unchanged["memory"], unchanged["metadata"]) == ("secret", {})
        assert await memory.get(id) == unchanged

    async def test_what_belongs_to_nobody_is_not_everybodys(self, memory):
        (id,) = ids(await memory.add("nobody's"))
        assert await memory.get(id, user_id="anna") is None
        assert texts(await memory.search("nobody", user_id="anna")) == []
        assert texts(await memory.get_all(user_id="anna")) == []

    async def test_two_have_the_same_and_one_forgets_it(self, memory):
        (annas,) = ids(await memory.add("I like tea", user_id="anna"))
        (bens,) = ids(await memory.add("I like tea", user_id="ben"))
        assert await memory.delete(annas, user_id="anna") is True
        assert (await memory.get(bens, user_id="ben"))["memory"] == "I like tea"
        assert texts(await memory.search("tea", user_id="ben")) == ["I like tea"]

    async def test_hostile_names_are_names(self, memory):
        for name in HOSTILE_IDS:
            await memory.add(f"the secret of {name}", user_id=name, agent_id=name, run_id=name)
            await memory.add("the same for all", user_id=name)
        assert await memory.count() == 2 * len(HOSTILE_IDS)
        for name in HOSTILE_IDS:
            own = {f"the secret of {name}", "the same for all"}
            assert set(await held(memory, name)) == own
            assert set(texts(await memory.search("secret same", user_id=name))) == own
            for part in ("agent_id", "run_id"):
                assert texts(await memory.search("secret", **{part: name})) == [f"the secret of {name}"]
            assert await memory.count(name) == 2
        for name in HOSTILE_IDS[::2]:
            assert await memory.delete_all(user_id=name) == {"deleted": 2}
        assert [await memory.count(name) for name in HOSTILE_IDS] == [0, 2] * (len(HOSTILE_IDS) // 2)

    @pytest.mark.parametrize(
        "widening",
        [
            {"user_id": "ben"},
            {"OR": [{"user_id": "ben"}, {"user_id": "anna"}]},
            {"NOT": {"user_id": "anna"}},
            {"user_id": {"ne": "anna"}},
            {"user_id": {"in": ["anna", "ben"]}},
            {"OR": [{"id": {"gt": 0}}, {"memory": {"contains": "x' OR 1=1 --"}}]},
        ],
    )
    async def test_no_filter_widens_a_scope(self, memory, widening):
        await memory.add("secret of ben", user_id="ben")
        await memory.add("secret of anna", user_id="anna")
        found = texts(await memory.search("secret", user_id="anna", filters=widening))
        listed = texts(await memory.get_all(user_id="anna", filters=widening))
        assert set(found) == set(listed) <= {"secret of anna"}


class TestIds:
    async def test_a_string_of_digits_is_as_good_as_the_number(self, memory):
        (id,) = ids(await memory.add("x"))
        assert isinstance(id, int)
        assert await memory.get(str(id)) == await memory.get(id) is not None
        assert (await memory.update(str(id), "y"))["memory"] == "y"
        assert await memory.delete(str(id)) is True

    @pytest.mark.parametrize("unknown", UNKNOWN_IDS)
    async def test_anything_else_is_not_found(self, memory, unknown):
        await memory.add("x")
        assert await memory.get(unknown) is None
        assert await memory.update(unknown, "y") is None
        assert await memory.delete(unknown) is False
        assert await held(memory) == ["x"]


class TestUpdate:
    async def test_the_content(self, memory):
        (id,) = ids(await memory.add("Lives in Rome", user_id="anna", metadata={"a": 1}))
        before = await memory.get(id)
        after = await memory.update(id, "Works as a carpenter", user_id="anna")
        assert {**after, "updated_at": 0} == {**before, "memory": "Works as a carpenter", "updated_at": 0}
        assert after["updated_at"] > before["updated_at"]
        assert texts(await memory.search("carpenter")) == ["Works as a carpenter"]
        (hit,) = (await memory.search("Rome"))["results"]
        assert hit["score"] < 0.5

    async def test_metadata_is_merged_key_by_key(self, memory):
        (id,) = ids(await memory.add("x", metadata={"category": "food", "deep": {"a": 1}, "n": 1}))
        after = await memory.update(id, metadata={"deep": {"b": 2}, "n": None, "new": [1]})
        assert after["metadata"] == {"category": "food", "deep": {"b": 2}, "n": None, "new": [1]}
        assert after["memory"] == "x"
        assert ids(await memory.search("x", filters={"category": "food"})) == [id]

    async def test_both(self, memory):
        (id,) = ids(await memory.add("x", metadata={"a": 1}))
        after = await memory.update(id, "y", metadata={"b": 2})
        assert (after["memory"], after["metadata"]) == ("y", {"a": 1, "b": 2})

    @pytest.mark.parametrize(
        "arguments", [{}, {"content": ""}, {"content": 7}, {"metadata": {"n": float("nan")}}, {"metadata": "x"}]
    )
    async def test_neither_and_nonsense_are_refused_and_change_nothing(self, memory, arguments):
        (id,) = ids(await memory.add("x", metadata={"a": 1}))
        before = await memory.get(id)
        with pytest.raises(InvalidInput):
            await memory.update(id, **arguments)
        assert await memory.get(id) == before

    async def test_many_at_once_lose_none(self, memory):
        (id,) = ids(await memory.add("x"))
        await asyncio.gather(*(memory.update(id, metadata={f"k{i}": i}) for i in range(50)))
        assert (await memory.get(id))["metadata"] == {f"k{i}": i for i in range(50)}


class TestDelete:
    async def test_it_is_gone_everywhere(self, memory):
        (id,) = ids(await memory.add("I like tea", user_id="anna"))
        await memory.add("I like rain", user_id="anna")
        assert await memory.delete(id) is True
        assert await memory.delete(id) is False
        assert await memory.get(id) is None
        assert texts(await memory.search("tea", user_id="anna")) == ["I like rain"]
        assert await held(memory) == ["I like rain"]

    async def test_all_of_a_scope_however_many(self, memory):
        await asyncio.gather(*(memory.add(f"memory {i}", user_id="anna", run_id=f"r{i % 2}") for i in range(2500)))
        await memory.add("the other's", user_id="ben", run_id="r0")
        assert await memory.delete_all(user_id="anna", run_id="r0") == {"deleted": 1250}
        assert await memory.delete_all(user_id="anna") == {"deleted": 1250}
        assert await memory.delete_all(user_id="anna") == {"deleted": 0}
        assert await held(memory) == ["the other's"]
        assert await memory.delete_all() == {"deleted": 1}
        assert await memory.count() == 0

    async def test_all_of_a_name_nobody_has_is_nothing(self, memory):
        await memory.add("x", user_id="anna")
        assert await memory.delete_all(user_id="%") == {"deleted": 0}
        with pytest.raises(InvalidInput):
            await memory.delete_all(user_id="")
        assert await memory.count() == 1


class TestListing:
    async def test_in_the_order_they_were_added_page_by_page(self, memory):
        said = [f"memory {i}" for i in range(250)]
        for start in range(0, 250, 50):
            for text in said[start : start + 50]:
                await memory.add(text, user_id="anna")
        assert texts(await memory.get_all("anna")) == said[:100]
        pages = [texts(await memory.get_all("anna", limit=60, offset=offset)) for offset in range(0, 300, 60)]
        assert [text for page in pages for text in page] == said
        seen, after = [], None
        while page := (await memory.get_all("anna", limit=70, after=after))["results"]:
            seen += texts({"results": page})
            after = page[-1]["id"]
        assert seen == said
        assert texts(await memory.get_all("anna", after=str(after))) == []

    @pytest.mark.parametrize("wrong", [-1, 1.5, "10", None, True, 2**63])
    async def test_limit_and_offset_are_numbers(self, memory, wrong):
        for arguments in ({"limit": wrong}, {"offset": wrong}):
            with pytest.raises(InvalidInput):
                await memory.get_all(**arguments)
        with pytest.raises(InvalidInput):
            await memory.search("x", limit=wrong)

    @pytest.mark.parametrize("wrong", ["abc", -1, 1.5, True])
    async def test_a_place_to_go_on_that_is_none_is_no_beginning(self, memory, wrong):
        await memory.add("x")
        with pytest.raises(InvalidInput, match="after"):
            await memory.get_all(after=wrong)

    async def test_none_and_very_many_are_allowed(self, memory):
        await memory.add("x")
        assert texts(await memory.get_all(limit=0)) == texts(await memory.search("x", limit=0)) == []
        assert texts(await memory.get_all(limit=2**63 - 1)) == texts(await memory.search("x", limit=2**63 - 1)) == ["x"]
        assert texts(await memory.get_all(offset=2**63 - 1)) == []


class TestSearch:
    async def test_what_is_meant_comes_first(self, memory):
        for text in (
            "My cat is called Miso",
            "I work as a carpenter in Lyon",
            "Green tea in the morning, never coffee",
        ):
            await memory.add(text, user_id="anna")
        for query, wanted in (("What does she drink?", "tea"), ("the pet's name", "Miso"), ("her job", "carpenter")):
            assert wanted in texts(await memory.search(query, user_id="anna"))[0]

    async def test_scores_fall_from_1_to_0_and_mean_the_same_at_any_limit(self, memory):
        said = [
            f"{subject} {verb} the {thing}"
            for subject in ("Anna", "Ben")
            for verb in ("likes", "hates")
            for thing in ("tea", "rain", "piano", "garden")
        ]
        await asyncio.gather(*(memory.add(text) for text in said))
        found = (await memory.search("Anna likes the piano"))["results"]
        scores = [hit["score"] for hit in found]
        assert found[0]["memory"] == "Anna likes the piano"
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        assert scores[0] > 0.9
        assert (await memory.search("Anna likes the piano", limit=3))["results"] == found[:3]
        assert set(found[0]) == MEMORY_KEYS | {"score"}

    async def test_the_threshold_is_the_least_score(self, memory):
        await asyncio.gather(
            *(memory.add(text) for text in ("I like tea", "My bicycle is red", "The piano is out of tune"))
        )
        scored = [(hit["score"], hit["memory"]) for hit in (await memory.search("tea"))["results"]]
        for threshold in (0, 0.1, scored[0][0], 1):
            wanted = [text for score, text in scored if score >= threshold]
            assert texts(await memory.search("tea", threshold=threshold)) == wanted
        assert texts(await memory.search("I like tea", threshold=0.7)) == ["I like tea"]

    @pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), 70])
    async def test_a_threshold_is_between_0_and_1(self, memory, wrong):
        with pytest.raises(InvalidInput, match="threshold"):
            await memory.search("tea", threshold=wrong)

    @pytest.mark.parametrize("wrong", ["", " ", None, 7, ["tea"], "nul \0"])
    async def test_a_query_is_a_text(self, memory, wrong):
        with pytest.raises(InvalidInput):
            await memory.search(wrong)

    @pytest.mark.parametrize(
        "query",
        [
            '"',
            "tea AND",
            "NEAR(tea)",
            "tea*",
            "-tea",
            "(tea",
            "tea'; DROP TABLE memories;--",
            "terms:tea",
            "^tea",
            "{tea}",
        ],
    )
    async def test_punctuation_is_no_syntax(self, memory, query):
        await memory.add("I like tea")
        await memory.add("Das Klavier ist verstimmt")
        found = texts(await memory.search(query))
        assert found[:1] == ["I like tea"] if "tea" in query else True
        assert await memory.count() == 2

    async def test_words_the_embedder_does_not_know_are_found_all_the_same(self, memory):
        for text in ("我喜欢喝绿茶", "外婆住在成都", "Мой кот по имени Мурзик"):
            await memory.add(text)
        assert texts(await memory.search("绿茶"))[0] == "我喜欢喝绿茶"
        assert texts(await memory.search("МУРЗИК"))[0] == "Мой кот по имени Мурзик"

    async def test_no_hit_is_an_empty_list(self, memory):
        assert await memory.search("tea") == {"results": []}
        await memory.add("tea", user_id="anna")
        assert await memory.search("tea", user_id="ben") == {"results": []}

    async def test_selective_filters_still_fill_the_limit(self, memory):
        """Fifty of 3,000 are wanted, and they are the farthest from the query."""
        calls = []
        for i in range(3000):
            rare = i % 60 == 59
            text = f"note {i} about the weather in spring" if rare else f"I like green tea, cup number {i}"
            calls.append(memory.add(text, user_id="anna", metadata={"rare": rare, "n": i}))
        await asyncio.gather(*calls)
        for filters in (
            {"rare": True},
            {"NOT": {"rare": False}},
            {"AND": [{"rare": {"in": [True]}}, {"n": {"gte": 0}}]},
        ):
            found = (await memory.search("green tea", user_id="anna", filters=filters))["results"]
            assert len(found) == 30
            assert all(hit["metadata"]["rare"] for hit in found)
        assert len(texts(await memory.search("green tea", filters={"rare": True}, limit=100))) == 50
        assert texts(await memory.search("tea", filters={"n": 1234})) == ["I like green tea, cup number 1234"]

    async def test_times_and_columns_can_be_filtered(self, memory):
        (old,) = ids(await memory.add("I like tea", user_id="anna", run_id="r1"))
        stamp = (await memory.get(old))["created_at"]
        (new,) = ids(await memory.add("I like coffee", user_id="anna", run_id="r2"))
        found = {
            "until": await memory.search("like", filters={"created_at": {"lte": stamp}}),
            "run": await memory.search("like", filters={"run_id": {"ilike": "R_"}, "NOT": {"run_id": "r2"}}),
            "id": await memory.search("like", filters={"id": {"lt": new}}),
            "text": await memory.search("like", filters={"memory": {"contains": "tea"}}),
        }
        assert {name: ids(result) for name, result in found.items()} == {name: [old] for name in found}

    @pytest.mark.parametrize(
        "wrong", [{"a": {"likes": 1}}, {"a": []}, {"AND": {}}, {"a' OR 1=1": 1}, "a=1", {"a": float("nan")}]
    )
    async def test_a_filter_that_is_none_is_refused(self, memory, wrong):
        for call in (memory.search("x", filters=wrong), memory.get_all(filters=wrong)):
            with pytest.raises(InvalidInput):
                await call
