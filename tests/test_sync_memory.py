"""Memory does what AsyncMemory does, for code without an event loop, and never keeps the interpreter from ending."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from memories import config, ids, no_thread_left, texts

from powermem_cli.errors import InvalidInput, StoreError, UsageError
from powermem_cli.memory import AsyncMemory
from powermem_cli.sync_memory import Memory

METHODS = (
    "add",
    "search",
    "get",
    "update",
    "delete",
    "delete_all",
    "history",
    "get_all",
    "count",
    "initialize",
    "close",
)
"""All of the public API; what else AsyncMemory has serves the batch runner."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "memories.db"


@pytest.fixture
def memory(path):
    with Memory(config(path)) as opened:
        yield opened


@pytest.mark.parametrize("method", ["__init__", *METHODS])
def test_the_signatures_are_the_same(method):
    blocking, native = (inspect.signature(getattr(one, method)) for one in (Memory, AsyncMemory))
    assert blocking == native
    if method not in {"__init__", "initialize", "close"}:
        assert inspect.iscoroutinefunction(getattr(AsyncMemory, method))
        assert not inspect.iscoroutinefunction(getattr(Memory, method))


def test_no_public_method_is_missing():
    public = {name for name in vars(AsyncMemory) if not name.startswith("_")}
    of_a_job = {"add_records", "keeps_what_is_said", "needs_nobody", "texts_at_once", "store_identity", "usage"}
    assert public - set(METHODS) == of_a_job
    assert {name for name in vars(Memory) if not name.startswith("_")} == set(METHODS)


def test_every_method_does_its_work(memory):
    (first,) = ids(memory.add("I like tea", user_id="anna", metadata={"a": 1}))
    memory.add("The piano is out of tune", user_id="anna", infer=False)
    assert memory.add("I like tea", "anna") == {"results": []}
    assert texts(memory.search("tea", "anna", limit=1)) == ["I like tea"]
    assert texts(memory.search("tea", filters={"a": 2})) == []
    assert texts(memory.search("I like tea", threshold=0.9)) == ["I like tea"]
    assert memory.get(first, user_id="ben") is None
    assert memory.update(first, "I like coffee", "anna", metadata={"b": 2})["metadata"] == {"a": 1, "b": 2}
    assert memory.get(str(first))["memory"] == "I like coffee"
    assert texts(memory.get_all("anna", limit=1, offset=1)) == ["The piano is out of tune"]
    assert texts(memory.get_all(after=first)) == ["The piano is out of tune"]
    assert memory.count("anna") == 2
    assert memory.delete(first) is True
    assert memory.delete_all(user_id="anna") == {"deleted": 1}
    assert memory.count() == 0


def test_errors_are_those_of_the_engine(memory):
    with pytest.raises(InvalidInput) as caught:
        memory.add("x", user_id="")
    assert caught.value.field == "user_id"


def test_it_opens_with_its_first_use(path):
    memory = Memory(config(path))
    assert not path.exists()
    memory.add("x")
    memory.close()
    assert path.exists()


def test_closing_may_be_repeated_and_ends_it(path):
    memory = Memory(config(path))
    memory.add("x")
    memory.close()
    memory.close()
    with pytest.raises(UsageError, match="closed"):
        memory.add("y")
    never_used = Memory(config(path))
    never_used.close()
    with pytest.raises(UsageError, match="closed"):
        never_used.add("y")


def test_many_threads_may_share_one(path):
    memory = Memory(config(path))  # opened by all of them at once
    with ThreadPoolExecutor(16) as pool:
        added = list(pool.map(lambda i: memory.add(f"fact {i}", f"u{i % 4}"), range(200)))
        found = list(pool.map(lambda i: memory.search(f"fact {i}", f"u{i % 4}", limit=1), range(50)))
    assert len({one for result in added for one in ids(result)}) == 200
    assert [texts(result) for result in found] == [[f"fact {i}"] for i in range(50)]
    memory.close()


async def _in_a_loop(path):
    with Memory(config(path)) as memory:
        memory.add("x")
        return texts(memory.get_all())


@pytest.mark.anyio
async def test_it_works_inside_a_running_loop_too(path):
    """A notebook has one."""
    assert await _in_a_loop(path) == ["x"]


def test_one_that_is_forgotten_is_closed(path):
    with no_thread_left():
        memory = Memory(config(path))
        memory.add("x")
        del memory
        gc.collect()


def test_one_that_is_forgotten_in_a_circle_is_closed_by_whichever_thread_finds_it(path):
    """The collector runs where it likes: also on the thread of the very loop that is to be closed."""
    gc.disable()
    try:
        with no_thread_left():
            memory = Memory(config(path))
            memory.add("x")
            circle = [memory]
            circle.append(circle)
            portal = memory._portal
            del memory, circle
            portal.start_task_soon(gc.collect)
    finally:
        gc.enable()


def test_what_could_not_be_opened_leaves_no_thread_however_often_it_is_tried(tmp_path):
    broken = tmp_path / "broken.db"
    broken.write_text("no database at all " * 100)
    memory = Memory(config(broken))
    with no_thread_left():
        for _ in range(3):
            with pytest.raises(StoreError):
                memory.add("x")
    broken.unlink()
    memory.add("x")
    assert texts(memory.get_all()) == ["x"]
    memory.close()


ENDINGS = {
    "forgotten": "memory = Memory(config); memory.add('x'); del memory",
    "global": "memory = Memory(config); memory.add('x')",
    "in a circle": "class Holder: pass\nh = Holder(); h.me = h; h.memory = Memory(config); h.memory.add('x')",
    "never used": "memory = Memory(config)",
    "closed": "memory = Memory(config); memory.add('x'); memory.close()",
    "with": "with Memory(config) as memory: memory.add('x')",
    "two": "one = Memory(config); one.add('x'); two = Memory(config); two.add('y')",
    "in a thread": "import threading\nmemory = Memory(config)\n"
    "thread = threading.Thread(target=lambda: memory.add('x')); thread.start(); thread.join()",
    "exit": "import sys\nmemory = Memory(config); memory.add('x'); sys.exit(0)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_ends_cleanly_without_close(ending, path):
    code = f"from powermem import Memory\nconfig = {config(path)!r}\n{ENDINGS[ending]}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_error_nobody_catches_ends_it_with_that_error_alone(path):
    path.write_text("no database at all " * 100)
    code = f"from powermem import Memory\nMemory({config(path)!r}).add('x')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("powermem_cli.errors.StoreCorrupt: ")
