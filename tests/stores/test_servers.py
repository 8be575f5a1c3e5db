"""What can happen between a store and its database server, on both servers: lost lines, restarts, strangers' tables."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import numpy as np
import pytest
from cutting_proxy import CuttingProxy
from places import MODEL, add, digest, insert, noted, texts, vector
from relay import Relay

from powermem_cli.errors import ConfigError, EmbedderMismatch, StoreBusy, StoreCorrupt, StoreError
from powermem_cli.filters import parse_filter
from powermem_cli.model import Hit, Scope
from powermem_cli.stores import attempts, create_store, oceanbase, oceanbase_pool, postgres, server_search
from powermem_cli.stores.base import EVERYTHING, Delete, Update, Where, Write
from powermem_cli.terms import terms_of

pytestmark = pytest.mark.anyio

SERVERS = ("postgres", "oceanbase")


@pytest.fixture(params=SERVERS)
def fresh(request, new_place):
    """A place without any table."""
    return new_place(request.param)


@pytest.fixture
def short():
    """A folder whose name leaves room for that of a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
async def proxied(place, short):
    """A proxy that can cut, and the options of a store behind it."""
    proxy = CuttingProxy(short / place.socket.name, place.socket)
    async with proxy.running(), place.opened(**place.options_at(proxy.listening)) as store:
        await add(store, insert("before", "ann", vector=vector(0), id=1))
        yield proxy, store


@pytest.mark.parametrize("place", SERVERS, indirect=True)
@pytest.mark.parametrize("cuts", [["before"], ["after"], ["after", "after"], ["before", "after"]], ids="-".join)
class TestLostLine:
    """A write is done exactly once, and the caller is told what became of it, wherever the line was cut."""

    async def test_a_write_with_a_ledger(self, proxied, cuts):
        proxy, store = proxied
        proxy.cuts = list(cuts)
        first, second = await store.apply([Write((insert(f"{n}", "ann"),), noted(f"{n}")) for n in range(2)])
        assert proxy.cuts == []
        assert (first.events[0][0], second.events[0][0]) == ("ADD", "ADD")
        assert await texts(store) == ["before", "0", "1"]
        assert (await store.known([digest("1")]))[digest("1")].memory_ids == (second.events[0][1],)

    async def test_a_write_without_a_ledger(self, proxied, cuts):
        proxy, store = proxied
        proxy.cuts = list(cuts)
        (id,) = await add(store, insert("after", "ann", vector=vector(1)))
        assert [memory.id for memory in await store.find(EVERYTHING, limit=9)] == [1, id]

    async def test_a_fact_that_is_kept_once(self, proxied, cuts):
        proxy, store = proxied
        proxy.cuts = list(cuts)
        (applied,) = await store.apply([Write((insert("fact", "ann", unless_known=True),))])
        assert applied.events[0][0] == "ADD"
        assert await texts(store) == ["before", "fact"]

    async def test_a_deletion(self, proxied, cuts):
        proxy, store = proxied
        proxy.cuts = list(cuts)
        (applied,) = await store.apply([Write((Delete(1),))])
        assert applied.events == (("DELETE", 1),)
        assert await texts(store) == []

    async def test_an_update(self, proxied, cuts):
        proxy, store = proxied
        proxy.cuts = list(cuts)
        (applied,) = await store.apply([Write((Update(1, 7, text="now", digest=digest("now")),))])
        assert applied.events == (("UPDATE", 1),)
        assert await texts(store) == ["now"]

    async def test_what_is_added_and_deleted_again_beside_what_stays(self, proxied, cuts):
        proxy, store = proxied
        proxy.cuts = list(cuts)
        changes = (insert("passing", id=5), insert("staying", id=6), Delete(5), Update(6, 7, metadata={"a": 1}))
        (applied,) = await store.apply([Write(changes)])
        assert applied.events == (("ADD", 5), ("ADD", 6), ("DELETE", 5), ("UPDATE", 6))
        assert await texts(store) == ["before", "staying"]

    async def test_a_deletion_of_many(self, proxied, cuts):
        proxy, store = proxied
        await add(store, *[insert("x", "ann") for _ in range(4)])
        proxy.cuts = list(cuts)
        assert await store.delete(Where(Scope("ann"))) == 5
        assert await store.count(EVERYTHING) == 0


@pytest.mark.parametrize("place", SERVERS, indirect=True)
class TestPatience:
    async def test_connections_the_server_closed_are_replaced(self, place):
        async with place.opened() as store, anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(add, store, insert(f"{number}", "ann"))
            tasks.start_soon(close_connections, place)
            await add(store, insert("last", "ann"))
        async with place.opened() as store:
            assert sorted(await texts(store)) == ["0", "1", "2", "3", "4", "last"]

    async def test_a_server_that_comes_back_is_waited_for(self, place, short):
        relay = Relay(short / place.socket.name, place.socket)
        with contextlib.ExitStack() as stack:
            away = stack.enter_context(contextlib.ExitStack())
            away.enter_context(relay.running())
            async with place.opened(**place.options_at(short / place.socket.name)) as store:
                await add(store, insert("before", "ann"))
                away.close()
                async with anyio.create_task_group() as tasks:
                    for number in range(3):
                        tasks.start_soon(add, store, insert(f"{number}", "ann"))
                    await refused(store)
                    stack.enter_context(relay.running())
                assert sorted(await texts(store)) == ["0", "1", "2", "before"]

    async def test_patience_ends(self, place, short, monkeypatch):
        monkeypatch.setattr(attempts, "PATIENCE", 0.1)
        relay = Relay(short / place.socket.name, place.socket)
        with contextlib.ExitStack() as line:
            line.enter_context(relay.running())
            async with place.opened(**place.options_at(short / place.socket.name)) as store:
                line.close()
                with pytest.raises(StoreBusy, match="can't be reached") as caught:
                    await add(store, insert("x"))
                assert caught.value.retryable

    async def test_a_number_that_another_process_gave_is_not_used(self, place):
        numbers = iter([5, 5, 6])
        async with place.opened() as store:
            store._ids.take = lambda: next(numbers)
            assert await add(store, insert("first", "ann")) == [5]
            assert await add(store, insert("second", "ann")) == [6]
            assert await texts(store) == ["first", "second"]


async def refused(store):
    """Returns when nobody answers the store."""
    with pytest.raises(StoreError):
        async with store._session() as session:
            await session.rows("SELECT 1")


async def close_connections(place):
    """As an administrator, or a proxy between, may do at any time."""
    if place.engine == "postgres":
        mine = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'powermem'"
        mine += " AND datname = current_database()"
        await place.execute(mine)
        return
    database = place.server.arguments()["db_name"]
    for number, _, _, used, *_ in await place.execute("SHOW PROCESSLIST"):
        if used != database:
            continue
        with contextlib.suppress(StoreError):  # it has ended by itself, or it is this one
            await place.execute(f"KILL {int(number)}")


class TestNobodyThere:
    """One clear error, at once."""

    @pytest.mark.parametrize("engine", SERVERS)
    async def test_no_server_listens(self, engine):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and does not listen
            store = elsewhere(engine, taken.getsockname()[1])
            with pytest.raises(StoreError, match=f"127.0.0.1:{taken.getsockname()[1]}.*can't be reached"):
                await store.open(MODEL)

    @pytest.mark.parametrize("engine", SERVERS)
    async def test_a_server_that_says_nothing(self, engine, monkeypatch):
        monkeypatch.setattr(oceanbase_pool, "CONNECT_TIMEOUT", 0.05)
        monkeypatch.setattr(postgres, "CONNECT_TIMEOUT", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(StoreError, match="no answer in time"):
            await elsewhere(engine, silent.getsockname()[1]).open(MODEL)

    @pytest.mark.parametrize("engine", SERVERS)
    async def test_something_else_listens(self, engine):
        async def answer(stream):
            async with stream:
                await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, answer)
            with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
                await elsewhere(engine, listener.extra(anyio.abc.SocketAttribute.local_port)).open(MODEL)
            tasks.cancel_scope.cancel()

    async def test_a_login_that_is_refused(self, fresh):
        if fresh.engine == "postgres":
            store = fresh.store(dsn=re.sub("//[^@]*@", "//stranger:s3cret@", fresh.server.dsn()))
        else:
            store = fresh.store(connection_args={**fresh.options()["connection_args"], "password": "s3cret"})
        with pytest.raises(StoreError) as caught:
            await store.open(MODEL)
        assert caught.value.code == "store.auth"
        assert "s3cret" not in f"{caught.value} {caught.value.hint}"

    async def test_a_database_that_is_missing(self, new_place):
        place = new_place("postgres")
        with pytest.raises(StoreError) as caught:
            await place.store(dsn=place.server.dsn("nowhere")).open(MODEL)
        assert caught.value.code == "store.missing"

    async def test_a_missing_database_is_made_in_oceanbase(self, new_place):
        place = new_place("oceanbase")
        arguments = {**place.options()["connection_args"], "db_name": "new `one"}
        async with place.opened(connection_args=arguments) as store:
            await add(store, insert("x"))
        async with place.opened(connection_args=arguments) as store:
            assert await texts(store) == ["x"]
        await place.execute("DROP DATABASE `new ``one`")


def elsewhere(engine, port):
    if engine == "postgres":
        return create_store(engine, {"host": "127.0.0.1", "port": port, "user": "u", "password": "p", "dbname": "d"})
    arguments = {"host": "127.0.0.1", "port": str(port), "user": "root@sys", "password": "p", "db_name": "d"}
    return create_store(engine, {"connection_args": arguments})


class TestTables:
    async def test_a_table_of_another_program_is_left_alone(self, fresh):
        await fresh.execute(f"CREATE TABLE {fresh.collection} (id BIGINT PRIMARY KEY, document TEXT)")
        with pytest.raises(StoreCorrupt, match="another program") as caught:
            await fresh.store().open(MODEL)
        assert caught.value.code == "store.foreign"
        assert await fresh.execute(f"SELECT count(*) FROM {fresh.collection}") == [(0,)]

    async def test_tables_of_a_newer_version_are_left_alone(self, fresh):
        async with fresh.opened():
            pass
        await fresh.execute(f"UPDATE {fresh.collection}_meta SET value = '99' WHERE name = 'schema'")
        with pytest.raises(StoreError, match="newer powermem") as caught:
            await fresh.store().open(MODEL)
        assert caught.value.code == "store.newer"

    async def test_collections_lie_side_by_side(self, new_place):
        for engine in SERVERS:
            one, other = new_place(engine), new_place(engine)
            async with one.opened() as first, other.opened() as second:
                await add(first, insert("x"))
                assert await texts(second) == []

    async def test_dimensions_may_be_said_before_the_first_vector(self, fresh):
        async with fresh.opened(embedding_model_dims=16) as store:
            with pytest.raises(EmbedderMismatch, match=r"16.*8 dimensions"):
                await add(store, insert("x", vector=vector(1, 8)))
            await add(store, insert("x", vector=vector(1, 16)))
        with pytest.raises(EmbedderMismatch, match=r"16 dimensions.*8 dimensions"):
            await fresh.store(embedding_model_dims=8).open(MODEL)

    async def test_a_column_made_for_a_vector_that_was_not_kept_is_made_anew(self, new_place):
        place = new_place("oceanbase")
        async with place.opened() as store:
            await store._prepare_vectors(8)
            await add(store, insert("x", vector=vector(1, 16)))
            assert len(await store.nearest(vector(1, 16), EVERYTHING, limit=1)) == 1

    async def test_a_schema_of_its_own(self, new_place):
        place = new_place("postgres")
        async with place.opened(schema='my "own"') as store:
            await add(store, insert("there", vector=vector(1)))
            assert len(await store.nearest(vector(1), EVERYTHING, limit=1)) == 1
        async with place.opened() as store:
            assert await texts(store) == []
        async with place.opened(schema='my "own"') as store:
            assert await texts(store) == ["there"]

    async def test_the_search_path_is_respected(self, new_place):
        place = new_place("postgres")
        await place.execute('CREATE SCHEMA IF NOT EXISTS "elsewhere"')
        dsn = f"{place.server.dsn()}&options=-csearch_path%3Delsewhere"
        async with place.opened(dsn=dsn) as store:
            await add(store, insert("there", vector=vector(1)))
            assert len(await store.nearest(vector(1), EVERYTHING, limit=1)) == 1
        async with place.opened(schema="elsewhere") as store:
            assert await texts(store) == ["there"]


class TestIndex:
    """Of very many memories an index names the candidates; here of few, so that it can be compared."""

    @pytest.fixture(autouse=True)
    def few_are_many(self, monkeypatch):
        monkeypatch.setattr(server_search, "WORTH_AN_INDEX", 100)
        monkeypatch.setattr(server_search, "EXACT_UP_TO", 200)

    @pytest.mark.parametrize(
        ("engine", "changed", "dims"),
        [
            ("postgres", {}, 32),
            ("postgres", {}, 2100),
            ("oceanbase", {}, 32),
            ("oceanbase", {"index_type": "IVF_FLAT", "vidx_metric_type": "l2"}, 32),
            pytest.param(
                *("oceanbase", {"index_type": "hnsw", "vidx_metric_type": "inner_product"}, 32), marks=pytest.mark.soak
            ),
        ],
    )
    async def test_what_it_finds_is_nearly_what_is_nearest(self, new_place, engine, changed, dims):
        place = new_place(engine)
        vectors = [vector(seed, dims) for seed in range(400)]
        async with place.opened(**changed) as store:
            facts = [insert(said(n), f"u{n % 10}", vector=v, metadata={"n": n}) for n, v in enumerate(vectors)]
            applied = await store.apply([Write((fact,)) for fact in facts])
            ids = [result.events[0][1] for result in applied]
            await check_keywords_of_many(store)
            assert await store.optimize()
            await check_keywords_of_many(store)
            await add(store, insert("later", vector=vector(1000, dims)))
            assert await store.optimize()
        async with place.opened(**changed) as store:
            assert store._has_index
            for where, low in ((EVERYTHING, 0), (Where(filter=parse_filter({"n": {"gte": 150}})), 150)):
                query = vector(7777, dims)
                cosines = np.array([np.frombuffer(v, "<f4") for v in vectors]) @ np.frombuffer(query, "<f4")
                best = [n for n in np.argsort(-cosines) if n >= low][:10]
                hits = await store.nearest(query, where, limit=10)
                assert len({hit.id for hit in hits} & {ids[n] for n in best}) >= 9
                assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
                assert hits[0].score == pytest.approx(cosines[best[0]], abs=1e-4)
            (hit,) = await store.nearest(vector(1000, dims), EVERYTHING, limit=1)
            assert hit.score == pytest.approx(1, abs=1e-4)
            exact = await store.nearest(query, Where(Scope("u1")), limit=100)
            assert len(exact) == 40
            asked, rows = [], store._rows
            store._rows = lambda sql, values: asked.append(sql) or rows(sql, values)
            assert await store.nearest(query, Where(Scope("u1")), limit=100) == exact
            assert len(asked) == 1  # that they are few is not asked again

    @pytest.mark.parametrize("place", ["oceanbase"], indirect=True)
    async def test_without_one_every_metric_finds_the_same(self, place):
        vectors = [vector(seed) for seed in range(50)]
        async with place.opened() as store:
            await add(store, *[insert("x", vector=one) for one in vectors])
            expected = await store.nearest(vector(99), EVERYTHING, limit=20)
        for metric in ("l2", "inner_product"):
            async with place.opened(vidx_metric_type=metric) as store:
                hits = await store.nearest(vector(99), EVERYTHING, limit=20)
                assert hits == [Hit(hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in expected]

    async def test_it_is_not_built_for_few_or_against_the_configuration(self, new_place):
        for engine in SERVERS:
            async with new_place(engine).opened() as store:
                assert not await store.optimize()
                await add(store, insert("x", vector=vector(1)))
                assert not await store.optimize()
        async with new_place("oceanbase").opened(index_type="none") as store:
            await store.apply([Write((insert("x", vector=vector(n)),)) for n in range(101)])
            assert not await store.optimize()


WORDS = ("rain", "snow", "hail", "don't", "naïve", "日本", "fog", "x2")


def said(n):
    """The first word is in each, the second in every other, the third in each third..."""
    return " ".join([word for every, word in enumerate(WORDS, 1) if n % every == 0] + ["thing"] * (n % 9))


async def check_keywords_of_many(store):
    """Of very many memories an index names those that hold a word; here of few, so that it can be compared."""
    asked = terms_of(" ".join(WORDS))
    wheres = (EVERYTHING, Where(Scope("u2")), Where(filter=parse_filter({"n": {"gte": 300}})))
    read = [await store.matching(asked, where, limit=60) for where in wheres]
    counted, total = await store.frequencies([*asked, "unheard"], None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_search, "READ_THROUGH", -1)
        found = [await store.matching(asked, where, limit=60) for where in wheres]
        # The last digits of a score are the engine's own.
        assert found == [[Hit(hit.id, pytest.approx(hit.score)) for hit in hits] for hits in read]
        patch.setattr(server_search, "MOST_POSTINGS", 250)
        patch.setattr(postgres, "COUNTED", 100)
        patch.setattr(oceanbase, "COUNTED", 100)
        counts, estimated = await store.frequencies([*counted], None)
        assert estimated == total
        assert [*counts.values()] == pytest.approx([*counted.values()], rel=0.3, abs=2)
        assert len(await store.matching(["rain", "snow"], EVERYTHING, limit=400)) == 200  # those with snow
        assert len(await store.matching(["rain"], EVERYTHING, limit=400)) == 400  # nothing rarer was asked for


class TestOptions:
    @pytest.mark.parametrize(
        ("engine", "options", "words"),
        [
            ("oceanbase", {"connection_args": {"hots": "x"}}, "hots"),
            ("oceanbase", {"connection_args": {"port": "many"}}, "port"),
            ("oceanbase", {"connection_args": {}, "index_type": "BTREE"}, "index_type"),
            ("oceanbase", {"connection_args": {}, "vidx_metric_type": "manhattan"}, "vidx_metric_type"),
            ("oceanbase", {"connection_args": {}, "collection_name": "a`b"}, "collection_name"),
            ("oceanbase", {}, "connection_args"),
            ("postgres", {"collection_name": 'a"b'}, "collection_name"),
            ("postgres", {"dsn": "postgresql://x", "host": "y"}, "dsn"),
            ("postgres", {"port": "many"}, "port"),
            ("postgres", {"dsn": "postgresql://u:p@h:many/d"}, "dsn"),
        ],
    )
    def test_a_wrong_one_is_named_before_anything_is_opened(self, engine, options, words):
        with pytest.raises(ConfigError, match=words):
            create_store(engine, options)

    def test_the_guides_dictionary_is_taken_as_it_is(self):
        arguments = {
            "host": "127.0.0.1",
            "port": 2881,
            "user": "root@sys",
            "password": "password",
            "db_name": "powermem",
        }
        options = {"collection_name": "memories", "connection_args": arguments, "embedding_model_dims": 1536}
        store = create_store("oceanbase", {**options, "index_type": "IVF_FLAT", "vidx_metric_type": "cosine"})
        assert "password" not in store.place

    def test_no_password_is_ever_shown(self):
        for options in ({"dsn": "postgresql://u:s3cret@h:1/d"}, {"host": "h", "password": "s3cret"}):
            assert "s3cret" not in create_store("postgres", options).place


FORGETFUL = """
import asyncio
from places import MODEL, add, insert, vector
from powermem_cli.stores import create_store
from powermem_cli.stores.base import EVERYTHING

async def main():
    kept.append(create_store({engine!r}, {options!r}))
    await kept[0].open(MODEL)
    await asyncio.gather(*[add(kept[0], insert("x", vector=vector(1))) for _ in range(5)])
    print(len(await kept[0].nearest(vector(1), EVERYTHING, limit=9)))

kept = []
asyncio.run(main())
"""


def test_nobody_has_to_close_a_store(fresh):
    script = FORGETFUL.format(engine=fresh.engine, options=fresh.options())
    tests = Path(__file__).parents[1]
    for forget in ("", "kept.append(kept)", "import gc; kept.clear(); gc.collect()"):
        command = [sys.executable, "-c", f"{script}\n{forget}"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=tests)
        assert (ended.returncode, ended.stderr) == (0, "")
