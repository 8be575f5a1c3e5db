"""Programs that never call close() end as if they had: at once, with nothing on stderr."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_api import FakeApi, Reply

START = """
import asyncio, sys
from powermem_cli.errors import PowerMemError
from powermem_cli.model import Message
from powermem_cli.providers import create_embedder, create_llm
url = sys.argv[1]
def embedder(): return create_embedder("openai", {"model": "m", "base_url": url, "batch_size": 3})
def llm(): return create_llm("openai", {"model": "m", "base_url": url})
talk = [Message("user", "Hello.")]
"""

PROGRAMS = {
    "left in a function": """
async def main():
    e, l = embedder(), llm()
    await asyncio.gather(*(e.embed([str(i)]) for i in range(20)), *(l.complete(talk) for _ in range(5)))
asyncio.run(main())
""",
    "left in a global": """
e, l = embedder(), llm()
async def main():
    await asyncio.gather(*(e.embed([str(i)]) for i in range(20)), *(l.complete(talk) for _ in range(5)))
asyncio.run(main())
""",
    "left in a cycle": """
async def main():
    class Holder: pass
    holder = Holder()
    holder.itself, holder.e = holder, embedder()
    await holder.e.embed(["a"])
asyncio.run(main())
""",
    "dropped while the loop goes on": """
async def main():
    for i in range(5):
        await embedder().embed(["a"])
        await asyncio.sleep(0)
asyncio.run(main())
""",
    "one loop after another": """
e = embedder()
first = asyncio.run(e.embed(["a"]))
assert asyncio.run(e.embed(["a"])) == first
asyncio.run(e.close())
""",
    "closed twice": """
async def main():
    e = embedder()
    await e.embed(["a"])
    await e.close()
    await e.close()
asyncio.run(main())
""",
    "cancelled in the middle": """
e = embedder()
async def main():
    tasks = [asyncio.ensure_future(e.embed([f"slow {i}"])) for i in range(10)]
    await asyncio.to_thread(sys.stdin.readline)  # until all calls are under way
    tasks[0].cancel()
asyncio.run(main())
""",
    "failed in the middle": """
async def main():
    e = embedder()
    await asyncio.gather(*(e.embed([f"refuse {i}"]) for i in range(10)))
try:
    asyncio.run(main())
except PowerMemError:
    pass
else:
    sys.exit("no error?")
""",
    "never used": """
e, l = embedder(), llm()
assert "httpx" not in sys.modules and "numpy" not in sys.modules
""",
}


def rule(request):
    text = str(request.body)
    if "slow" in text:
        return Reply(delay=30)
    return Reply(401) if "refuse" in text else None


@pytest.fixture(scope="module")
def fake():
    with FakeApi() as api:
        api.rule = rule
        yield api


def run(program, url, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", START + program, url], capture_output=True, text=True, timeout=30
    )


CALLS = 4  # for ten texts that come at once: the first, and three times three


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_ends_clean(fake, program):
    command = [sys.executable, "-W", "error", "-c", START + program, fake.url]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as started:
        while "stdin" in program and fake.in_flight < CALLS and started.poll() is None:
            time.sleep(0.001)
        said = started.communicate("go on\n", timeout=30)
    assert (started.returncode, *said) == (0, "", "")


def test_a_program_that_does_not_even_close_its_loop(fake):
    program = "loop = asyncio.new_event_loop(); e = embedder(); loop.run_until_complete(e.embed(['a']))"
    ended = run(program, fake.url)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_fake_server_as_a_program():
    command = [
        sys.executable,
        str(Path(__file__).parent.parent / "fake_api.py"),
        "--latency-ms",
        "1",
        "--fail",
        "401:1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            refused = run("asyncio.run(embedder().embed(['a']))", url)
        finally:
            server.send_signal(signal.SIGINT)
        assert "ProviderRefused" in refused.stderr
        assert server.wait(10) == 0
        assert server.stderr.read() == ""
