"""kill -9 while an LLM judges: no conversation is lost, none takes effect twice, and little is asked again."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from fake_api import FakeApi
from fake_llm import data_in
from program import Powermem

from powermem_cli.ingestion import MOST_JUDGED
from powermem_cli.memory import AsyncMemory

RECORDS = 160
USERS = 4


def write_records(path: Path) -> None:
    """Of each user a number that changes, so that each record must take effect once, and in order."""
    records = [
        {"id": str(i), "user_id": f"u{i % USERS}", "messages": [{"role": "user", "content": f"My number is {i}."}]}
        for i in range(RECORDS)
    ]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), "utf-8")


async def stories(path: Path) -> dict[str, list[str]]:
    """User → all that the one memory of this user ever said."""
    found = {}
    async with AsyncMemory({"vector_store": {"provider": "sqlite", "config": {"path": str(path)}}}) as memory:
        for row in (await memory.get_all(limit=1000))["results"]:
            assert row["user_id"] not in found
            found[row["user_id"]] = [entry["memory"] for entry in (await memory.history(row["id"]))["results"]]
    return found


@pytest.mark.timeout(120)
def test_two_kills_lose_nothing_double_nothing_and_ask_little_again(tmp_path):
    powermem, source = Powermem(tmp_path), tmp_path / "talks.jsonl"
    write_records(source)
    with FakeApi(latency=0.005) as api:
        env = {"LLM_PROVIDER": "vllm", "LLM_MODEL": "fake", "VLLM_LLM_BASE_URL": api.url}
        for lines in (20, 40):
            options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with powermem.started("add", "-f", source, "--jsonl", env=env, **options) as process:
                assert process.stdout is not None
                for _ in range(lines):
                    process.stdout.readline()
                process.kill()
                process.stdout.read()
                assert process.wait() < 0
        done = powermem("add", "-f", source, "--jsonl", env=env)
        assert done.code == 0, done.err
        shown = [data_in(request.body["messages"]) for request in api.requests]
        again = powermem.inside("add", "-f", source, "--no-resume", "--jsonl", env=env)
        assert again.summary["unchanged"] == RECORDS
        assert len(api.requests) == len(shown)
    assert asyncio.run(stories(powermem.database)) == {
        f"u{user}": [f"My number is {i}." for i in range(user, RECORDS, USERS)] for user in range(USERS)
    }
    found = sum("conversation" in data for data in shown)
    assert RECORDS <= found <= RECORDS + 2 * MOST_JUDGED
    assert len(shown) - found <= RECORDS + 2 * USERS  # of each user one decision at most is under way
