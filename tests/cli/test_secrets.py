"""Canaries: whatever goes wrong, no key and no password is in anything the program writes or says."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from fake_api import FakeApi, Reply

CANARY = "sk-canary+0123456789/abcdef=XYZ"
FORMS = {CANARY, quote(CANARY, safe=""), quote(CANARY)} | {
    base64.b64encode(f"{before}{CANARY}".encode()).decode()[start:-4].rstrip("=")
    for before, start in (("", 0), (":", 2), ("u:", 4))  # alone and behind a user's name, at every shift of the bits
}
SAYS_IT = f"your key {CANARY}, {quote(CANARY, safe='')} or {base64.b64encode(CANARY.encode()).decode()} is no good"


def status(number, **more):
    return Reply(number, body={"error": {"message": SAYS_IT, **more}})


FAULTS = {
    "a good answer": None,
    "400": status(400),
    "401": status(401),
    "402": status(402),
    "403": status(403),
    "404": status(404, code="model_not_found"),
    "408": status(408),
    "413": status(413),
    "429": Reply(429, headers={"Retry-After": "86400"}, body={"error": {"message": SAYS_IT}}),
    "429 quota": status(429, code="insufficient_quota"),
    "500": status(500),
    "503": status(503),
    "529": status(529),
    "redirect": Reply(302, headers={"Location": f"http://127.0.0.1:9/{CANARY}?key={quote(CANARY)}"}),
    "header": Reply(503, headers={"x-request-id": CANARY}),
    "HTML": Reply(body=f"<html>{SAYS_IT}"),
    "half a JSON": Reply(body='{"data": "' + SAYS_IT),
    "another form": Reply(body={"message": SAYS_IT}),
    "an error in a success": Reply(body={"error": {"message": SAYS_IT}}),
    "the key as embedding": Reply(change=lambda answer: {**answer, "data": [{"index": 0, "embedding": CANARY}]}),
    "cut": Reply(cut=10),
    "no HTTP": Reply(raw=SAYS_IT.encode() + b"\r\n\r\n"),
    "closed": Reply(raw=b""),
    "late": Reply(delay=30),
    "trickle": Reply(trickle=1.0),
    "an encoding": Reply(headers={"Content-Encoding": "br"}),
}


def leaks(powermem, *said):
    """Where any form of the canary is found in what the program said or left behind; its .env is ours."""
    texts = dict(enumerate(said))
    texts |= {
        path: path.read_bytes().decode("latin-1")
        for path in powermem.folder.rglob("*")
        if path.is_file() and path.name not in {".env", "config.json"}
    }
    return [(where, form) for where, text in texts.items() for form in FORMS if form in text]


@pytest.fixture
def fake():
    with FakeApi() as api:
        yield api


@pytest.fixture
def dot_env(powermem, fake):
    path = powermem.folder / ".env"
    path.write_text(
        f"EMBEDDING_PROVIDER=openai\nEMBEDDING_MODEL=fake\nOPENAI_API_KEY='{CANARY}'\n"
        f"OPENAI_EMBEDDING_BASE_URL={fake.url}\n"
    )
    path.chmod(0o600)
    return path


def test_the_search_for_leaks_sees_them(powermem):
    for name, form in enumerate(FORMS):
        (powermem.folder / str(name)).write_text(f"x{form}x")
    said = base64.b64encode(f"u:{CANARY}".encode()).decode()
    assert len({where for where, _ in leaks(powermem, said)}) == len(FORMS) + 1


@pytest.mark.parametrize("reply", FAULTS.values(), ids=FAULTS)
def test_no_fault_of_a_provider_brings_the_key_to_light(powermem, fake, dot_env, reply):
    fake.rule = lambda request: reply
    path = powermem.write("notes.jsonl", *({"memory": f"note {i}"} for i in range(3)))
    common = ("-vv", "--log-file", "all.log", "--retries", 1, "--timeout", 0.2)
    said = [
        powermem.inside(*command, *common)
        for command in (
            ("add", "-f", path, "--no-infer", "--jsonl", "--max-failures", "none"),
            ("search", "what?", "--json"),
            ("check", "--json"),
        )
    ]
    assert (powermem.folder / "all.log").stat().st_size > 100
    assert any(CANARY in request.headers["authorization"] for request in fake.requests)
    assert leaks(powermem, *(part for one in said for part in (one.out, one.err))) == []


@pytest.mark.parametrize("number", [401, 407, 503])
def test_the_password_of_a_proxy(powermem, fake, dot_env, number):
    fake.rule = lambda request: status(number)
    address = fake.url.replace("://", f"://user:{quote(CANARY, safe='')}@")
    dot_env.write_text(dot_env.read_text().replace(fake.url, "http://127.0.0.2:9"))
    for proxy in (address, address.rpartition(":")[0] + ":9"):
        said = powermem.inside(
            "add", "tea", "-vv", "--log-file", "all.log", "--retries", 1, env={"HTTP_PROXY": proxy, "http_proxy": proxy}
        )
        assert said.code in {4, 75}
        assert leaks(powermem, said.out, said.err) == []


@pytest.mark.parametrize("engine", ["postgres", "oceanbase"])
def test_the_password_of_a_database(powermem, engine):
    prefix = engine.upper()
    env = {f"{prefix}_{name}": value for name, value in {"HOST": "127.0.0.1", "PORT": "9", "PASSWORD": CANARY}.items()}
    for command in (("add", "tea"), ("list",), ("check", "--json")):
        said = powermem.inside(*command, "-vv", "--log-file", "all.log", env={"DATABASE_PROVIDER": engine, **env})
        assert said.code in {5, 75}
        assert leaks(powermem, said.out, said.err) == []


def test_the_password_in_an_address_on_the_command_line(powermem):
    said = powermem.inside("list", "--db", f"postgres://user:{quote(CANARY, safe='')}@127.0.0.1/x", "-vv", "--json")
    assert said.code == 2
    assert leaks(powermem, said.out, said.err) == []
