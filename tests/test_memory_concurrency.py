"""Many callers, several event loops, several processes on one file: nothing is lost, doubled, blocked or left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from memories import config, held, ids, no_thread_left, texts

from powermem_cli.errors import StoreError, UsageError
from powermem_cli.memory import AsyncMemory

ADD_FROM_STDIN = """
import asyncio, json, sys
from powermem_cli import AsyncMemory

async def main():
    order = json.loads(sys.stdin.readline())
    async with AsyncMemory({"vector_store": {"provider": "sqlite", "config": {"path": order["path"]}}}) as memory:
        for start in range(0, len(order["texts"]), order["at_once"]):
            some = order["texts"][start:start + order["at_once"]]
            results = await asyncio.gather(*(memory.add(text, user_id=order["user"]) for text in some))
            for result in results:
                for one in result["results"]:
                    print(one["id"], flush=True)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "memories.db"


def adding(path: Path, texts: list[str], user: str, at_once: int = 50) -> subprocess.Popen[str]:
    """Another process that adds *texts* and prints the id of each memory once `add` has returned."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", ADD_FROM_STDIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(json.dumps({"path": str(path), "texts": texts, "user": user, "at_once": at_once}) + "\n")
    process.stdin.flush()
    return process


async def all_of(path: Path, user: str | None = None) -> list[str]:
    async with AsyncMemory(config(path)) as memory:
        return await held(memory, user)


class TestCallers:
    @pytest.mark.anyio
    async def test_what_five_thousand_calls_acknowledged_another_process_finds(self, path):
        async with AsyncMemory(config(path)) as memory:
            acknowledged = []
            for start in range(0, 5000, 1000):
                calls = [memory.add(f"fact {i} about {i % 7} things", f"u{i % 20}") for i in range(start, start + 1000)]
                acknowledged += [id for result in await asyncio.gather(*calls) for id in ids(result)]
        assert len(set(acknowledged)) == 5000
        code = f"""
import asyncio
from powermem_cli import AsyncMemory
async def main():
    async with AsyncMemory({config(path)!r}) as memory:
        for one in (await memory.get_all(limit=10**6))["results"]:
            print(one["id"])
asyncio.run(main())
"""
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        found, _ = await process.communicate()
        assert sorted(map(int, found.split())) == sorted(acknowledged)

    @pytest.mark.anyio
    async def test_searches_and_writes_go_on_side_by_side(self, path):
        async with AsyncMemory(config(path)) as memory:
            await memory.add("the piano is out of tune", user_id="anna")

            async def write(number: int) -> None:
                (id,) = ids(await memory.add(f"note {number} on the weather", user_id="anna"))
                await memory.update(id, metadata={"n": number})
                if number % 3 == 0:
                    assert await memory.delete(id)

            async def read() -> None:
                found = await memory.search("piano", user_id="anna")
                assert texts(found)[0] == "the piano is out of tune"
                listed = await memory.get_all("anna", limit=1000)
                assert ids(listed) == sorted(ids(listed))

            await asyncio.gather(*(call for i in range(200) for call in (write(i), read())))
            assert await memory.count("anna") == 1 + 200 - 67

    @pytest.mark.anyio
    async def test_a_caller_who_gives_up_leaves_all_of_it_or_nothing(self, path):
        async with AsyncMemory(config(path)) as memory:
            turns = [{"role": "user", "content": text} for text in ("one", "two", "three")]
            for pause in range(12):
                task = asyncio.create_task(memory.add(turns, user_id=f"u{pause}"))
                for _ in range(pause):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await memory.add("the last", user_id="anna")
            kept = [await held(memory, f"u{pause}") for pause in range(12)]
        assert all(some in ([], ["one", "two", "three"]) for some in kept)

    @pytest.mark.anyio
    async def test_many_calls_are_carried_out_together_and_each_gets_its_own(self, path, monkeypatch):
        async with AsyncMemory(config(path)) as memory:
            embedded: list[int] = []
            embed_each = memory._embedder.embed_each

            async def counted(some):
                embedded.append(len(some))
                return await embed_each(some)

            monkeypatch.setattr(memory._embedder, "embed_each", counted)
            await memory.add("tea at four", user_id="anna", metadata={"n": 1})
            among = [None, {"n": {"eq": 1}}, {"n": {"eq": 2}}]
            calls = [memory.add("tea at four", user_id="anna", metadata={"n": 3}, filters=one) for one in among]
            said = [f"fact {i}" for i in range(300)]
            again, inside, outside, *others = await asyncio.gather(*calls, *(memory.add(text, "ben") for text in said))
            assert [texts(again), texts(inside), texts(outside)] == [[], [], ["tea at four"]]
            assert [texts(one) for one in others] == [[text] for text in said]
            assert sum(embedded) == 304
            assert len(embedded) < 10

    @pytest.mark.anyio
    @pytest.mark.parametrize("loops", range(0, 40, 3))
    async def test_closing_keeps_what_was_begun_and_says_so_of_the_rest(self, path, loops):
        memory = AsyncMemory(config(path))
        await memory.initialize()
        calls = [asyncio.create_task(memory.add(f"fact {i}")) for i in range(300)]
        for _ in range(loops):
            await asyncio.sleep(0)
        await memory.close()
        ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        acknowledged = [text for one in ended if not isinstance(one, Exception) for text in texts(one)]
        assert {type(one) for one in ended} <= {dict, UsageError}
        assert sorted(await all_of(path)) == sorted(acknowledged)

    @pytest.mark.anyio
    async def test_a_search_that_is_given_up_leaves_the_engine_working(self, path):
        async with AsyncMemory(config(path)) as memory:
            await memory.add("tea")
            for _ in range(5):
                tasks = [asyncio.create_task(memory.search("tea")) for _ in range(10)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            assert texts(await memory.search("tea")) == ["tea"]


class TestLoops:
    def test_one_engine_serves_one_event_loop_after_another(self, path):
        memory = AsyncMemory(config(path))

        async def use(number: int) -> list[str]:
            await memory.initialize()
            await asyncio.gather(*(memory.add(f"fact {number} {i}") for i in range(20)))
            # More at once than there are connections to read with: some have to wait, in each loop anew.
            found = await asyncio.gather(*(memory.search("fact", limit=100) for _ in range(20)))
            assert [len(one["results"]) for one in found] == [20 * (number + 1)] * 20
            return await held(memory)

        for number in range(3):
            assert len(asyncio.run(use(number))) == 20 * (number + 1)
        asyncio.run(memory.close())

    def test_what_a_loop_left_unfinished_does_not_stop_the_next_one(self, path):
        memory = AsyncMemory(config(path))

        async def leave() -> None:
            await memory.initialize()
            for i in range(30):
                asyncio.create_task(memory.add(f"left {i}"))  # noqa: RUF006 - that is the point
                asyncio.create_task(memory.search("left"))  # noqa: RUF006
            await asyncio.sleep(0)

        async def go_on() -> list[str]:
            await asyncio.gather(*(memory.search("left") for _ in range(10)))
            await memory.add("the last")
            return await held(memory)

        asyncio.run(leave())
        assert asyncio.run(go_on())[-1] == "the last"
        asyncio.run(memory.close())

    def test_one_that_is_forgotten_leaves_no_thread_and_no_file_open(self, path):
        async def use() -> None:
            memory = AsyncMemory(config(path))
            await memory.initialize()
            await memory.add("x")
            await asyncio.gather(*(memory.search("x") for _ in range(5)))

        with no_thread_left():
            asyncio.run(use())
            gc.collect()
        assert _open_files(path) == []

    def test_one_that_could_not_be_opened_leaves_nothing_either(self, tmp_path):
        broken = tmp_path / "broken.db"
        broken.write_text("no database at all " * 100)

        async def use() -> None:
            with pytest.raises(StoreError):
                await AsyncMemory(config(broken)).initialize()

        with no_thread_left():
            for _ in range(5):
                asyncio.run(use())
        assert _open_files(broken) == []


def _open_files(path: Path) -> list[str]:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("this system does not tell which files are open")
    links = [os.readlink(link) for link in folder.iterdir() if link.is_symlink()]  # noqa: PTH115 - a name, not a path
    return [link for link in links if link.startswith(str(path))]


class TestProcesses:
    def test_two_that_add_at_once_lose_nothing_and_lock_nobody_out(self, path):
        said = {user: [f"{user} said {i}" for i in range(400)] for user in ("anna", "ben")}
        processes = [adding(path, texts, user, at_once=5) for user, texts in said.items()]
        ended = [process.communicate(timeout=50) for process in processes]
        assert [(process.returncode, err) for process, (_, err) in zip(processes, ended, strict=True)] == [(0, "")] * 2
        acknowledged = [line for out, _ in ended for line in out.split()]
        assert len(set(acknowledged)) == 800
        for user, texts_of_user in said.items():
            assert sorted(asyncio.run(all_of(path, user))) == sorted(texts_of_user)

    def test_two_that_add_the_same_keep_it_once(self, path):
        said = [f"fact {i}" for i in range(300)]
        processes = [adding(path, said, "anna", at_once=10) for _ in range(2)]
        ended = [process.communicate(timeout=50) for process in processes]
        assert [err for _, err in ended] == ["", ""]
        assert sum(len(out.split()) for out, _ in ended) == 300
        assert sorted(asyncio.run(all_of(path))) == sorted(said)

    def test_after_kill_9_all_that_was_acknowledged_is_there_and_nothing_twice(self, path):
        said = [f"fact {i}" for i in range(20_000)]
        process = adding(path, said, "anna", at_once=20)
        acknowledged = [int(process.stdout.readline()) for _ in range(500)]
        process.kill()
        rest, _ = process.communicate()
        acknowledged += [int(line) for line in rest.split("\n")[:-1]]

        async def look() -> tuple[list[int], list[str]]:
            async with AsyncMemory(config(path)) as memory:
                result = await memory.get_all(limit=100_000)
                await memory.add("it goes on", user_id="anna")
                return ids(result), texts(result)

        kept, kept_texts = asyncio.run(look())
        assert set(acknowledged) <= set(kept)
        assert len(set(kept_texts)) == len(kept_texts) < 20_000
