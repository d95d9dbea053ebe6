"""`query_database` on real databases: an SQLite file, and a PostgreSQL server that these tests start."""

from __future__ import annotations

import asyncio
import gc
import socket
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from engine.envelope import Envelope
from engine.errors import Refused, SpecError, StepFailed
from engine.transforms.base import Step, Verdict
from engine.transforms.databases.pool import Pool
from engine.transforms.databases.statement import Statement
from tests.postgresql import server

Make = Callable[..., Envelope]

TABLE = """CREATE TABLE slots (id text PRIMARY KEY, place text, starts {time}, minutes integer, note text)"""
SLOTS = [
    ("A", "DTI", "2027-01-29T15:00:00Z", 30, None),
    ("B", "DTI", "2027-01-29T15:30:00Z", 45, "it's 100% :free; -- $1"),
    ("C", "NSI", "2027-01-29T16:00:00Z", 30, ""),
]
#: A query that does not end by itself.
ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000000) SELECT count(*) FROM n"
)


@dataclass(frozen=True)
class Place:
    """A database with SLOTS in it."""

    dsn: str
    execute: Callable[[str], None]
    #: How a time that was bound in UTC comes back.
    time: str


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        path = tmp_path / "calendar with % and #.sqlite"
        lite = sqlite3.connect(path, isolation_level=None)
        lite.execute(TABLE.format(time="text"))
        lite.executemany("INSERT INTO slots VALUES (?, ?, ?, ?, ?)", SLOTS)
        yield Place(f"sqlite:{path}", lambda text: void(lite.execute(text)), "2027-01-29T15:00:00Z")
        lite.close()
        return
    address = request.getfixturevalue("postgresql")
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS slots")
        connection.execute(TABLE.format(time="timestamptz"))  # type: ignore[arg-type]
        connection.cursor().executemany("INSERT INTO slots VALUES (%s, %s, %s, %s, %s)", SLOTS)
        yield Place(
            f"{address}/postgres",
            lambda text: void(connection.execute(text)),  # type: ignore[arg-type]
            "2027-01-29T15:00:00+00:00",
        )


def void(_: object) -> None: ...


Ask = Callable[..., Awaitable[Any]]
#: For what only a server has: types that are checked, and sessions.
SERVER = pytest.mark.parametrize("place", ["postgresql"], indirect=True)


@pytest.fixture
def ask(place: Place, kit: SimpleNamespace, envelope: Make) -> Ask:
    """Run the step once on ``place`` and return what is in the variable ``found``."""

    async def go(query: str, with_: dict[str, Any] | None = None, *, body: Any = None, **keys: Any) -> Any:
        step = make(kit, place.dsn, query, with_, **keys)
        return await run(step, envelope(None, request=body or {}), kit.Context())

    return go


def make(kit: SimpleNamespace, dsn: str, query: str, with_: dict[str, Any] | None = None, **keys: Any) -> Step:
    spec = {"dsn": dsn, "query": query, "with": with_ or {}, "into": "found", **keys}
    step: Step = kit.Loading().step({"query_database": spec})
    assert step.asynchronous
    assert not step.pure
    return step


async def run(step: Step, envelope: Envelope, context: Any) -> Any:
    verdict = step.run(envelope, context)
    assert not isinstance(verdict, Verdict)
    assert await verdict is Verdict.CONTINUE
    return envelope.variables["found"]


# -- what it finds -------------------------------------------------------------------------------------------------


async def test_rows_come_as_json_has_them(ask: Ask, place: Place) -> None:
    query = "SELECT id, starts, minutes, note FROM slots WHERE place = :at ORDER BY id"
    found = await ask(query, {"at": "$body.place"}, body={"place": "DTI"})
    assert found[0] == {"id": "A", "starts": place.time, "minutes": 30, "note": None}
    assert [row["note"] for row in found] == [None, SLOTS[1][4]]


async def test_no_rows_are_an_empty_list(ask: Ask) -> None:
    assert await ask("SELECT id FROM slots WHERE place = :at", {"at": "WSI"}) == []


@pytest.mark.parametrize("text", ["DTI' OR '1'='1", "'; DROP TABLE slots; --", ":at", "$1", "%s", '"', "\\", "x\ny"])
async def test_a_value_is_never_part_of_the_query(text: str, ask: Ask) -> None:
    assert await ask("SELECT id FROM slots WHERE place = :at", {"at": "$body.place"}, body={"place": text}) == []
    echoed = await ask("SELECT CAST(:at AS text) AS said", {"at": "$body.place"}, body={"place": text})
    assert echoed == [{"said": text}]
    assert len(await ask("SELECT id FROM slots")) == 3


async def test_signs_in_texts_comments_and_casts_are_no_parameters(ask: Ask) -> None:
    found = await ask(
        """-- of :nobody
        SELECT id, '100% of :this; ?' AS "said :once" /* not :me, $1 */ FROM slots WHERE place = :at AND id <> :at
        ORDER BY id;""",
        {"at": "DTI"},
    )
    assert found == [{"id": name, "said :once": "100% of :this; ?"} for name in ("A", "B")]


async def test_a_time_is_bound_in_utc_and_a_value_that_is_missing_as_null(ask: Ask) -> None:
    moment = {"from": "$body.from", "format": "timestamp"}
    found = await ask(
        "SELECT id FROM slots WHERE starts >= :begin AND CAST(:note AS text) IS NULL ORDER BY id",
        {"begin": moment, "note": "$body.nothing"},
        body={"from": "2027-01-29T09:30:00-06:00"},
    )
    assert [row["id"] for row in found] == ["B", "C"]


async def test_numbers_are_compared_as_numbers(ask: Ask) -> None:
    found = await ask("SELECT id FROM slots WHERE minutes > :least", {"least": "$body.least"}, body={"least": 9})
    assert len(found) == 3


async def test_of_the_first_row_the_columns_can_be_named(ask: Ask, kit: SimpleNamespace) -> None:
    query = "SELECT id, minutes FROM slots WHERE place = :at ORDER BY id"
    assert await ask(query, {"at": "DTI"}, rows="first") == {"id": "A", "minutes": 30}
    with pytest.raises(StepFailed, match="query_database failed: no_row at found"):
        await ask(query, {"at": "WSI"}, rows="first")
    with pytest.raises(Refused) as refused:
        await ask(query, {"at": "WSI"}, rows="first", missing={"error": "unknown_location"})
    assert refused.value.code == "unknown_location"
    assert await ask(query, {"at": "WSI"}, rows="first", missing="null") is None


# -- what it refuses and survives ----------------------------------------------------------------------------------


async def test_more_rows_than_allowed_are_a_failure_and_not_a_shorter_list(ask: Ask) -> None:
    assert len(await ask("SELECT id FROM slots", max_rows=3)) == 3
    with pytest.raises(StepFailed, match="database_failed"):
        await ask("SELECT id FROM slots", max_rows=2)


async def test_nothing_can_be_written(ask: Ask, place: Place, kit: SimpleNamespace) -> None:
    writes = "WITH gone AS (DELETE FROM slots RETURNING id) SELECT id FROM gone"  # PostgreSQL reads this as a query
    with pytest.raises(StepFailed, match="database_failed"):
        await ask(writes)
    assert len(await ask("SELECT id FROM slots")) == 3


async def test_a_refused_query_says_its_code_and_nothing_of_its_values(
    place: Place, kit: SimpleNamespace, envelope: Make
) -> None:
    step = make(kit, place.dsn, "SELECT nosuch FROM slots WHERE id = :id", {"id": "$body.id"},
                failed={"error": "ris_error"})  # fmt: skip
    context = kit.Context()
    with pytest.raises(Refused) as refused:
        await run(step, envelope(None, request={"id": "Doe-4711"}), context)
    assert refused.value.code == "ris_error"
    ((event, told),) = context.warnings
    assert event == "database.failed"
    assert told["reason"] in ("SQLITE_ERROR", "42703")
    assert "4711" not in f"{told} {refused.value} {refused.value.__context__}"


@SERVER
async def test_a_value_the_database_cannot_read_is_told_by_code(
    place: Place, kit: SimpleNamespace, envelope: Make
) -> None:
    step = make(kit, place.dsn, "SELECT id FROM slots WHERE minutes = :m", {"m": "$body.m"})
    context = kit.Context()
    with pytest.raises(StepFailed, match="database_failed") as failed:
        await run(step, envelope(None, request={"m": "Doe"}), context)
    assert context.warnings[0][1]["reason"] == "22P02"
    assert "Doe" not in f"{failed.value} {context.warnings}"


async def test_a_slow_query_is_ended_and_the_next_one_is_answered(
    place: Place, kit: SimpleNamespace, envelope: Make
) -> None:
    slow = make(kit, place.dsn, ENDLESS, timeout="1s", unanswered={"error": "ris_timeout"}, connections=1)
    context = kit.Context()
    for _ in range(2):  # with one connection the second tells that the first has given its place up
        with pytest.raises(Refused) as refused:
            await run(slow, envelope(None), context)
        assert refused.value.code == "ris_timeout"
    assert {event for event, _ in context.warnings} == {"database.unanswered"}


async def test_the_loop_goes_on_while_a_query_runs(place: Place, kit: SimpleNamespace, envelope: Make) -> None:
    slow = make(kit, place.dsn, ENDLESS, timeout="1s")
    asked = asyncio.create_task(run(slow, envelope(None), kit.Context()), name="slow query")
    turns = 0
    while not asked.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 20
    with pytest.raises(StepFailed, match="database_unanswered"):
        await asked


class Busy:
    """A database whose every query waits for the test; how many run at once at most."""

    name = "busy"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.running = self.most = 0

    def connect(self) -> Busy:
        return self

    def fetch(self, statement: Statement, values: Any, limit: int) -> list[dict[str, Any]]:
        self.running += 1
        self.most = max(self.most, self.running)
        self.go.wait(30)
        self.running -= 1
        return [{"one": 1}]

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


async def test_queries_beyond_the_connections_wait_and_then_count_as_unavailable() -> None:
    database, statement = Busy(), Statement.read("SELECT 1", frozenset())
    pool = Pool(database, 2, 0.5)
    asked = [asyncio.create_task(pool.fetch(statement, {}, 1), name=f"query {number}") for number in range(5)]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(str(error) for error in ended) == ["unanswered timeout"] * 2 + ["unavailable busy"] * 3
    assert database.most == 2
    database.go.set()
    assert await pool.fetch(statement, {}, 1) == [{"one": 1}], "those that gave up have left their places"


async def test_a_cancelled_query_ends_in_the_database_too(place: Place, kit: SimpleNamespace, envelope: Make) -> None:
    step = make(kit, place.dsn, ENDLESS, timeout="60s", connections=1)
    before = set(threading.enumerate())
    asked = asyncio.create_task(run(step, envelope(None), kit.Context()), name="query")
    while not (mine := set(threading.enumerate()) - before):  # noqa: ASYNC110 - threads set no event of ours
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait({asked})
    assert asked.cancelled()
    del step, asked
    gc.collect()
    for thread in mine:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive(), "the thread of a query that nobody waits for"


@SERVER
async def test_a_database_that_was_restarted_is_asked_again_at_once(
    place: Place, kit: SimpleNamespace, envelope: Make
) -> None:
    step = make(kit, place.dsn, "SELECT id FROM slots", connections=1)
    assert len(await run(step, envelope(None), kit.Context())) == 3
    place.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'hl7engine'")
    assert len(await run(step, envelope(None), kit.Context())) == 3


@SERVER
async def test_connections_are_kept_and_closed_with_the_step(
    place: Place, kit: SimpleNamespace, envelope: Make
) -> None:
    step = make(kit, place.dsn, "SELECT pg_backend_pid() AS pid")
    first, second = [await run(step, envelope(None), kit.Context()) for _ in range(2)]
    assert first == second
    del step
    gc.collect()
    alive = make(kit, place.dsn, "SELECT count(*) AS n FROM pg_stat_activity WHERE pid = :pid", {"pid": "$body.pid"})
    for _ in range(200):
        if await run(alive, envelope(None, request=first[0]), kit.Context()) == [{"n": 0}]:
            return
    raise AssertionError("the session of a step that is gone")


@pytest.mark.parametrize("dsn", ["sqlite:nowhere/calendar.sqlite", "postgresql://reader:s3cret@127.0.0.1:{port}/ris"])
async def test_a_database_that_is_not_there_is_unavailable(dsn: str, kit: SimpleNamespace, envelope: Make) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        step = make(kit, dsn.format(port=closed.getsockname()[1]), "SELECT 1 AS one",
                    unavailable={"error": "ris_unavailable"})  # fmt: skip
        context = kit.Context()
        with pytest.raises(Refused) as refused:
            await run(step, envelope(None), context)
    assert refused.value.code == "ris_unavailable"
    ((event, told),) = context.warnings
    assert (event, told["reason"]) in [("database.unavailable", word) for word in ("SQLITE_CANTOPEN", "refused")]
    assert "s3cret" not in str(told)


async def test_a_server_that_says_nothing_costs_no_more_than_the_time(kit: SimpleNamespace, envelope: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        step = make(kit, f"postgresql://u@127.0.0.1:{mute.getsockname()[1]}/d", "SELECT 1 AS one", timeout="200ms")
        context = kit.Context()
        with pytest.raises(StepFailed, match="database_unavailable"):
            await run(step, envelope(None), context)
        assert context.warnings[0][1]["reason"] == "timeout"
        mute.settimeout(5)
        mute.accept()[0].close()  # which ends the thread that connects


async def test_a_server_elsewhere_is_asked_over_tls_unless_the_address_says_otherwise() -> None:
    from engine.transforms.databases.postgresql import PostgresqlDatabase

    elsewhere = PostgresqlDatabase("postgresql://u:p@ris.example.org/ris", 5)._settings
    assert (elsewhere["sslmode"], elsewhere["sslrootcert"]) == ("verify-full", "system")
    own = PostgresqlDatabase("postgresql://u@ris.example.org/ris?sslrootcert=/etc/ris.pem", 5)
    assert (own._settings["sslmode"], own._settings["sslrootcert"]) == ("verify-full", "/etc/ris.pem")
    assert PostgresqlDatabase("postgresql://u@ris.example.org/ris?sslmode=disable", 5)._settings["sslmode"] == "disable"
    assert "sslmode" not in PostgresqlDatabase("postgresql://u@127.0.0.1/ris", 5)._settings
    assert own.name == "postgresql:ris.example.org/ris"


async def test_a_server_without_tls_is_not_asked_in_clear(
    kit: SimpleNamespace, envelope: Make, postgresql: str
) -> None:
    step = make(kit, f"{postgresql}/postgres?sslmode=verify-full&sslrootcert=system", "SELECT 1 AS one")
    with pytest.raises(StepFailed, match="database_unavailable"):
        await run(step, envelope(None), kit.Context())


# -- what is wrong in a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "at", "message"),
    [
        ({"dsn": "mysql://u:s3cret@h/d"}, "dsn", "no address of a database"),
        ({"dsn": "postgresql://u:s3cret@h/d?nosuch=1"}, "dsn", "no address that PostgreSQL"),
        ({"dsn": "sqlite:"}, "dsn", "no address of a database"),
        ({"query": "DELETE FROM slots"}, "query", "no query that reads"),
        ({"query": "/* SELECT */ UPDATE slots SET id = 1"}, "query", "no query that reads"),
        ({"query": "SELECT 1; DROP TABLE slots"}, "query", "two statements"),
        ({"query": "SELECT * FROM slots WHERE id = '{{ body.id }}'"}, "query", "no template"),
        ({"query": "SELECT * FROM slots WHERE id = $body.id"}, "query", "`$body.id` is no parameter"),
        ({"query": "SELECT * FROM slots WHERE id = ?"}, "query", "`?` is no parameter"),
        ({"query": "SELECT :plaice", "with": {"place": "DTI"}}, "query", ":plaice has no value"),
        ({"query": "SELECT 1", "with": {"place": "DTI"}}, "query", "no parameter :place"),
        ({"into": "a b"}, "into", "cannot be changed"),
        ({"unavailable": "perhaps"}, "unavailable", "no way to go on"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_where_it_stands(
    keys: dict[str, Any], at: str, message: str, kit: SimpleNamespace
) -> None:
    spec = {"dsn": "sqlite:a", "query": "SELECT 1", "with": {}, "into": "found", **keys}
    with pytest.raises(SpecError, match=message.replace("$", r"\$").replace("?", r"\?")) as found:
        kit.Loading().step({"query_database": spec})
    assert found.value.at == (at,)
    assert "s3cret" not in str(found.value)


def test_names_become_numbers_in_the_order_in_which_they_stand() -> None:
    read = Statement.read(
        "SELECT a::text, E'\\':no' FROM t WHERE b = :two AND $x$ :c $x$ = :one OR c = :two", {"one", "two"}
    )
    assert read.names == ("two", "one")
    assert read.numbered == "SELECT a::text, E'\\':no' FROM t WHERE b = $1 AND $x$ :c $x$ = $2 OR c = $1"


def test_without_psycopg_postgresql_is_told_and_sqlite_works(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "engine.transforms.databases.postgresql", raising=False)
    make(kit, "sqlite:a", "SELECT 1 AS one")
    with pytest.raises(SpecError, match="psycopg, which is not installed") as found:
        make(kit, "postgresql://u@h/d", "SELECT 1 AS one")
    assert found.value.at == ("dsn",)
    assert "hl7engine[postgresql]" in found.value.expected
