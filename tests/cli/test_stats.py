"""powermem stats: the numbers are right, for a person and for a program."""

from __future__ import annotations

import re

import pytest
from terminal import in_terminal

from powermem_cli.output.plot import HEIGHT, plot


@pytest.fixture
def filled(powermem):
    records = [
        {"memory": f"note {number}", "user_id": user, "agent_id": agent, "created_at": day, "metadata": {"n": number}}
        for number, (user, agent, day) in enumerate(
            [
                ("anna", "bot", "2026-03-01T00:00:00Z"),
                ("anna", "bot", "2026-03-01T23:59:59Z"),
                ("anna", None, "2026-03-03T12:00:00Z"),
                ("ben", None, "2026-03-04T12:00:00Z"),
                (None, None, "2026-03-04T12:00:00Z"),
            ]
        )
    ]
    path = powermem.write("all.jsonl", *[{k: v for k, v in one.items() if v is not None} for one in records])
    assert powermem.inside("add", "-f", path, "--no-infer").code == 0
    return powermem


def test_as_json(filled):
    said = filled.inside("stats", "--json").json
    assert said["memories"] == 5
    assert said["users"] == [
        {"user_id": "anna", "memories": 3},
        {"user_id": "ben", "memories": 1},
        {"user_id": None, "memories": 1},
    ]
    assert said["agents"] == [{"agent_id": None, "memories": 3}, {"agent_id": "bot", "memories": 2}]
    assert said["days"] == [
        {"day": "2026-03-01", "memories": 2},
        {"day": "2026-03-03", "memories": 1},
        {"day": "2026-03-04", "memories": 2},
    ]
    assert said["store"]["engine"] == "sqlite"
    assert said["store"]["bytes"] > 0
    assert said["spent"]["http"]["calls"] == 0


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (["--user", "anna"], 3),
        (["--user", "anna", "--agent", "bot"], 2),
        (["--user", "nobody"], 0),
        (["--since", "2026-03-03"], 3),
        (["--until", "2026-03-01"], 2),
        (["--since", "2026-03-02", "--until", "2026-03-03"], 1),
        (["--since", "1h"], 0),
        (["--where", "n=1"], 1),
    ],
)
def test_only_some(filled, options, number):
    assert filled.inside("stats", "--json", *options).json["memories"] == number


def test_in_a_pipe_lines_that_cut_and_awk_understand(filled):
    rows = filled.inside("stats").rows
    assert ["memories", "", "5"] in rows
    assert ["user", "anna", "3"] in rows
    assert ["day", "2026-03-04", "2"] in rows


def test_in_a_terminal_tables_and_a_plot(filled):
    code, shown = in_terminal(filled, "stats", columns=80)
    assert code == 0
    assert re.search(r"memories +5\n", re.sub(r"\x1b\[[0-9;]*m| +$", "", shown, flags=re.MULTILINE))
    assert "2026-03-01 to 2026-03-04" in shown
    assert "█" in shown


def test_where_nothing_is_there_is_nothing_to_count(powermem):
    said = powermem.inside("stats", "--json")
    assert (said.code, said.json["memories"], said.json["days"]) == (0, 0, [])
    assert not powermem.database.exists()
    assert powermem.inside("stats", "--db", "nowhere.db").code == 2


class Stream:
    def __init__(self, encoding: str) -> None:
        self.encoding = encoding


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("days", [1, 2, 79, 80, 1000])
def test_a_plot_fits_and_loses_nothing(encoding, days):
    numbers = {20_000 + day: 1 + day % 7 for day in range(days)}
    lines = plot(numbers, 79, Stream(encoding))
    assert len(lines) == HEIGHT
    assert max(map(len, lines)) <= 79
    assert len(lines[-1]) == -(-days // -(-days // 79))  # a column for each, none of them empty
    "".join(lines).encode(encoding)
    assert " " not in lines[-1]


def test_one_among_a_million_shows():
    assert plot({1: 1_000_000, 3: 1}, 79, Stream("utf-8"))[-1] == "█ ▁"


def test_no_days_no_plot():
    assert plot({}, 79, Stream("utf-8")) == []
