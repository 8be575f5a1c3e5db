"""Every row of the table of exit codes by a real fault of the real program; and which code wins where several apply."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter

import apsw
import pytest
from fake_api import DIMS, FakeApi, Reply
from hypothesis import given, strategies as st
from memories import MoodyEmbedder, config
from program import PROGRAM, SECONDS

from powermem_cli.batch import Tally
from powermem_cli.cli.add_report import summary_of
from powermem_cli.cli.exits import Exit, exit_of, stop_reason_of
from powermem_cli.errors import EmbedderMismatch, Locked, PowerMemError, StoreBusy
from powermem_cli.ingestion import Report

GOOD = {"memory": "Ana drinks green tea"}
BY_A_PROCESS = {
    "add -f good.jsonl",
    "get 17",
    "add -f nowhere.jsonl",
    "add --nonsense",
    "nonsense",
    "add -f mixed.jsonl",
}
"""For each code one that a shell sees; the others of the same code are told in this process, which is quicker."""
BAD = {"memory": 7}


@pytest.fixture(scope="module")
def api():
    with FakeApi() as running:
        yield running


def remote(api: FakeApi) -> dict[str, str]:
    """The settings that let the program ask *api* for embeddings, without patience."""
    return {
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_API_KEY": "sk-test",
        "EMBEDDING_MODEL": "fake",
        "EMBEDDING_DIMS": str(DIMS),
        "OPENAI_EMBEDDING_BASE_URL": api.url,
        "POWERMEM_RETRIES": "1",
    }


def last_document(said):
    """The last JSON object on stdout."""
    document = said.summary
    assert isinstance(document, dict)
    return document


# ── 0, 1, 2, 3: what became of what was asked ──


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add", "-f", "good.jsonl"], 0),
        (["add", "-f", "known.jsonl"], 0),
        (["add", "-f", "empty.jsonl"], 0),
        (["search", "zeppelin", "--threshold", "1"], 0),
        (["list", "-u", "nobody"], 0),
        (["delete", "--all", "-u", "nobody", "-y"], 0),
        (["get", "17"], 1),
        (["delete", "17"], 1),
        (["update", "17", "new"], 1),
        (["search", "zeppelin", "--threshold", "1", "--fail-if-empty"], 1),
        (["add", "-f", "bad.jsonl"], 1),
        (["add", "-f", "nowhere.jsonl"], 2),
        (["add", "--nonsense"], 2),
        (["nonsense"], 2),
        (["list", "--env-file", "nowhere"], 2),
        (["delete", "--all"], 2),
        (["add", "-f", "mixed.jsonl"], 3),
        (["add", "-f", "mixed.jsonl", "--dry-run"], 3),
        (["search", "-f", "questions"], 3),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else str(part),
)
def test_what_became_of_what_was_asked(powermem, arguments, code):
    known = powermem.write("known.jsonl", {"memory": "known"})
    powermem.inside("add", "-f", known)
    powermem.write("good.jsonl", GOOD)
    powermem.write("empty.jsonl")
    powermem.write("bad.jsonl", BAD, {})
    powermem.write("mixed.jsonl", GOOD, BAD)
    powermem.write("questions", "zeppelin", '{"query": 5}')
    run = powermem if " ".join(arguments) in BY_A_PROCESS else powermem.inside
    said = run(*arguments, "--json")
    assert said.code == code
    document = last_document(said)
    if "exit_code" in document:
        assert document["exit_code"] == code


# ── 4 and 75: the provider ──

PROVIDER = [
    ("a key that is refused", {}, Reply(401), 4),
    ("a key that may not", {}, Reply(403), 4),
    ("a model that is not there", {}, Reply(404, body={"error": {"code": "model_not_found", "message": "none"}}), 4),
    ("an account without credit", {}, Reply(429, body={"error": {"code": "insufficient_quota", "message": "x"}}), 4),
    ("a redirect", {}, Reply(302, headers={"Location": "http://169.254.169.254/"}), 4),
    ("other dimensions", {}, Reply(body={"data": [{"index": 0, "embedding": [1.0, 2.0]}]}), 4),
    ("too many calls", {"POWERMEM_TIMEOUT": "1"}, Reply(429, headers={"Retry-After": "99999"}), 75),
]
FAULTS_BY_A_PROCESS = {"a key that is refused", "too many calls"}


@pytest.mark.parametrize("command", [["add", "-f", "in.jsonl"], ["search", "tea"]], ids=lambda one: one[0])
@pytest.mark.parametrize(("fault", "env", "reply", "code"), PROVIDER, ids=[one[0] for one in PROVIDER])
def test_a_provider_that_fails(powermem, api, command, fault, env, reply, code):
    powermem.write("in.jsonl", GOOD)
    run = powermem if fault in FAULTS_BY_A_PROCESS else powermem.inside
    said = with_fault(powermem, api, reply, *command, run=run, env=env)
    assert said.code == code, said.err
    assert last_document(said)["exit_code"] == code


@pytest.mark.parametrize(("reply", "code"), [(Reply(503), 75), (Reply(raw=b""), 75), (Reply(400), 1)])
def test_one_question_that_gets_no_answer(powermem, api, reply, code):
    said = with_fault(powermem, api, reply, "search", "tea")
    assert (said.code, last_document(said)["exit_code"]) == (code, code)


def test_a_provider_that_takes_none_of_the_first_inputs(powermem, api):
    powermem.write("in.jsonl", *({"memory": f"memory {n}"} for n in range(200)))
    said = with_fault(powermem, api, Reply(400), "add", "-f", "in.jsonl", "--batch-size", "1")
    assert (said.code, last_document(said)["exit_code"]) == (4, 4)


@pytest.mark.parametrize(("limit", "code", "stops"), [("none", 3, "end"), ("5", 1, "too_many_failures")])
def test_records_that_are_refused(powermem, api, limit, code, stops):
    powermem.write("in.jsonl", *({"memory": f"{'bad' if n >= 100 else 'good'} {n}"} for n in range(200)))
    api.rule = lambda request: Reply(400) if "bad" in str(request.body) else None
    try:
        said = powermem.inside(
            *("add", "-f", "in.jsonl", "--max-failures", limit, "--batch-size", "1", "--json"), env=remote(api)
        )
    finally:
        api.rule = lambda _request: None
    document = last_document(said)
    assert (said.code, document["exit_code"], document["stop_reason"]) == (code, code, stops)
    assert document["added"] == 100


def with_fault(powermem, api, reply, *command, run=None, env=None):
    """The command on a store with one memory, while every call is answered so; nothing is added by it."""
    assert powermem.inside("add", "first", "--json", env=remote(api)).code == 0
    api.rule = lambda _request: reply
    try:
        said = (run or powermem.inside)(*command, "--json", env={**remote(api), **(env or {})})
    finally:
        api.rule = lambda _request: None
    kept = powermem.inside("list", "--json", env=remote(api)).json["results"]
    assert [row["memory"] for row in kept] == ["first"]
    return said


@pytest.mark.parametrize("command", [["add", "x"], ["search", "x"], ["config", "validate"]], ids=" ".join)
def test_a_key_that_is_missing(powermem, api, command):
    environ = {name: value for name, value in remote(api).items() if name != "EMBEDDING_API_KEY"}
    environ["OPENAI_EMBEDDING_BASE_URL"] = "https://api.openai.com/v1"
    said = powermem.inside(*command, "--json", env=environ)
    document = last_document(said)
    assert (said.code, document["exit_code"], document["stop_reason"]) == (4, 4, "auth")
    assert not powermem.database.exists()


def test_nobody_at_the_address(powermem, api):
    environ = {**remote(api), "OPENAI_EMBEDDING_BASE_URL": "http://127.0.0.1:9"}
    said = powermem.inside("search", "x", "--json", env=environ)
    assert (said.code, last_document(said)["exit_code"]) == (75, 75)


def test_a_store_of_another_model(powermem, api):
    powermem.inside("add", "x")
    said = powermem.inside("search", "x", "--json", env=remote(api))
    assert (said.code, last_document(said)["code"]) == (4, "embed.dims_mismatch")


# ── 5: the store; and stdout ──


@pytest.mark.parametrize("command", [["add", "x"], ["list"], ["search", "x"], ["delete", "--all", "-y"]])
def test_a_store_that_is_none(powermem, command):
    powermem.database.write_bytes(b"\0" * 8192)
    run = powermem if command[0] == "add" else powermem.inside
    said = run(*command, "--json")
    assert (said.code, last_document(said)["exit_code"]) == (5, 5)


def test_a_store_that_may_grow_no_more(powermem):
    """As on a full disk: the kernel refuses the write."""
    path = powermem.write("in.jsonl", *({"memory": f"{n} {'x' * 900}"} for n in range(2000)))
    limited = ("bash", "-c", 'trap "" XFSZ; ulimit -f 1024; exec "$@"', "bash", *PROGRAM)
    said = powermem("add", "-f", path, "--json", wrapper=limited)
    assert (said.code, last_document(said)["exit_code"]) == (5, 5)
    assert last_document(said)["stop_reason"] == "store"
    again = powermem.inside("add", "-f", path, "--json")
    assert (again.code, len(powermem.memories())) == (0, 2000)


@pytest.mark.parametrize("where", ["/dev/null", "."])
def test_a_place_where_no_store_may_be(powermem, where):
    said = powermem.inside("add", "x", "--json", "--db", where)
    assert (said.code, last_document(said)["code"]) == (5, "store.permission")


def test_a_ledger_that_somebody_has_cut(powermem):
    powermem.inside("add", "-f", powermem.write("in.jsonl", GOOD))
    connection = apsw.Connection(str(powermem.database))
    connection.execute("DROP TABLE ledger")
    connection.close()
    said = powermem.inside("add", "-f", "in.jsonl", "--no-resume", "--json")
    document = last_document(said)
    assert (said.code, document["exit_code"], document["error"]["code"]) == (5, 5, "store.corrupt")


@pytest.mark.soak  # for the sake of a server of its own
def test_a_login_that_is_refused(powermem, postgres_server):
    dsn = f"postgresql://nobody@/postgres?host={postgres_server.folder}"
    store = {"provider": "postgres", "config": {"dsn": dsn}}
    said = powermem("add", "x", "--json", "--config", powermem.write("pg.json", {"vector_store": store}))
    assert (said.code, last_document(said)["code"]) == (5, "store.auth"), said.err


# ── 70 ──


@pytest.mark.parametrize("command", [["add", "-f", "in.jsonl"], ["add", "x"], ["search", "x"]], ids=" ".join)
def test_a_bug(powermem, monkeypatch, command):
    async def embed(_embedder, _texts):
        raise LookupError("nobody thought of this")

    monkeypatch.setattr(MoodyEmbedder, "embed_each", embed)
    powermem.write("in.jsonl", GOOD)
    settings = powermem.write("moody.json", config(powermem.database, embedding_dims=8))
    said = powermem.inside(*command, "--config", settings, "--json")
    document = last_document(said)
    assert (said.code, document["exit_code"], document["stop_reason"]) == (70, 70, "bug")


# ── 75: later ──


def test_the_lock_is_held(powermem):
    pipe = powermem.folder / "pipe"
    os.mkfifo(pipe)
    with powermem.started("add", "-f", pipe, "--job", "mine") as first, pipe.open("w") as writer:
        writer.write('{"memory": "x"}\n')
        writer.flush()  # who reads holds the lock
        powermem.write("in.jsonl", GOOD)
        said = powermem.inside("add", "-f", "in.jsonl", "--job", "mine", "--json")
        assert (said.code, last_document(said)["code"]) == (75, "job.locked")
        first.kill()
    assert powermem.inside("add", "-f", "in.jsonl", "--job", "mine").code == 0, "no lock outlives its run"


def test_the_deadline_is_reached(powermem):
    path = powermem.write("in.jsonl", *({"memory": f"memory {n}"} for n in range(1000)))
    said = powermem("add", "-f", path, "--deadline", "0s", "--json")
    document = last_document(said)
    assert (said.code, document["exit_code"], document["stop_reason"]) == (75, 75, "deadline")
    assert powermem.inside("add", "-f", path).code == 0
    assert len(powermem.memories()) == 1000


# ── signals ──


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_death_by_the_signal_that_came(powermem, name):
    pipe = powermem.folder / "pipe"
    os.mkfifo(pipe)
    with powermem.started("add", "-f", pipe, "--jsonl", stdin=subprocess.DEVNULL) as process:
        with pipe.open("w") as writer:
            writer.write('{"memory": "x"}\n')
            writer.flush()
            assert process.stdout is not None
            process.send_signal(getattr(signal, name))
        process.wait(SECONDS)
    assert process.returncode == -getattr(signal, name)


# ── which one wins ──

ORDER = [70, 5, 4, 75, 3, 1, 0]
"""As the help tells it; a signal comes before all of them."""


def errors() -> list[PowerMemError]:
    """One of each kind."""
    kinds = [PowerMemError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return [
        kind("x", provider="p") if "provider" in kind.__init__.__code__.co_varnames else kind("x") for kind in kinds
    ]


STOPS = {"end": 0, "signal": 75, "deadline": 75, "output": 5, "too_many_failures": 1, "error": 0}
TALLIES = st.fixed_dictionaries(
    {status: st.integers(0, 2) for status in ("added", "rejected", "failed", "not_started")}
)


@given(
    faults=st.lists(st.sampled_from([error for error in errors() if exit_of(error) != Exit.USAGE]), max_size=3),
    stop=st.sampled_from(sorted(STOPS)),
    counts=TALLIES,
    number=st.sampled_from([None, *map(int, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))]),
)
def test_the_gravest_of_several_wins(faults, stop, counts, number):
    """Whatever went wrong, in whatever order, and became of the records."""
    report = Report(Tally(sum(counts.values()), Counter(counts)), stop, 1.0, tuple(faults))
    bad = counts["rejected"] + counts["failed"]
    applies = {int(exit_of(fault)) for fault in faults} | {STOPS[stop]}
    if bad and stop == "end":
        applies.add(1 if bad == sum(counts.values()) else 3)
    summary = summary_of(report, "job", signalled=number)
    wanted = next(code for code in ORDER if code in applies)
    assert summary["exit_code"] == (wanted if number is None else 128 + number)
    assert ("error" in summary) == bool(faults)
    if faults:
        told = next(fault for fault in faults if exit_of(fault) == min(map(exit_of, faults), key=ORDER.index))
        assert summary["error"]["code"] == told.code
        assert summary["stop_reason"] == ("signal" if number else stop_reason_of(told))


def test_an_input_that_cannot_be_read_after_others_were_is_no_2(powermem):
    """Which would say that nothing was started."""
    good = powermem.write("a.jsonl", GOOD)
    (powermem.folder / "b.jsonl").write_bytes(b"\x7fELF" + bytes(range(256)))
    said = powermem.inside("add", "-f", good, "-f", "b.jsonl", "--json")
    assert (said.code, said.json["exit_code"], said.json["added"]) == (3, 3, 1)
    assert said.json["error"]["code"] == "input.binary"
    assert powermem.inside("add", "-f", "b.jsonl", "-f", good, "--json").code == 2
    assert powermem.memories() == [GOOD["memory"]]


def test_every_error_has_a_code():
    for error in errors():
        assert exit_of(error) in Exit
        assert exit_of(error) not in {Exit.DONE, Exit.PARTIAL}
        if error.retryable:
            assert exit_of(error) == Exit.LATER
    assert (exit_of(Locked("x")), exit_of(StoreBusy("x")), exit_of(EmbedderMismatch("x"))) == (75, 75, 4)
