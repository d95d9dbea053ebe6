"""Many units share one fsync, and a disk that fails takes nothing down but the units that were under way."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cache import CachePut
from engine.errors import StoreError
from engine.store import SqliteStore
from engine.store.base import Find

KEY = bytes(32)
LATER = 2e9


class DiskOfATest(SqliteStore):
    """Calls ``instead`` in place of the commit while it is set."""

    instead: Callable[[], None] | None = None

    def _commit(self, writer: sqlite3.Cursor) -> None:
        if self.instead is not None:
            self.instead()
        super()._commit(writer)


@pytest.fixture
async def store(tmp_path: Path):
    store = DiskOfATest(tmp_path / "data", KEY)
    await store.open()
    await store.submit()  # what open itself submits is done
    yield store
    store.instead = None
    await store.close()


def writer_of(store: SqliteStore) -> sqlite3.Connection:
    return store._state.group._transaction._connection


async def test_units_of_one_turn_share_one_commit(store, samples):
    before = store.commits
    await asyncio.gather(*(store.submit(samples.accept(store)) for _ in range(100)))
    assert store.commits - before == 1


async def test_sqlite_sees_one_transaction_for_many_units(store, samples):
    statements: list[str] = []
    writer_of(store).set_trace_callback(statements.append)
    await asyncio.gather(*(store.submit(samples.accept(store)) for _ in range(50)))
    writer_of(store).set_trace_callback(None)
    assert statements.count("COMMIT") == statements.count("BEGIN IMMEDIATE") == 1
    assert sum("INSERT INTO message\n" in statement for statement in statements) == 50


async def test_units_that_come_while_a_commit_runs_go_together_in_the_next(store, samples):
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go_on.wait(30)

    store.instead = wait
    first = [store.submit(samples.accept(store)) for _ in range(10)]
    assert await asyncio.to_thread(began.wait, 30)
    before = store.commits
    later = []
    for _ in range(10):  # turns of a loop that a running commit does not hold up
        later.append(store.submit(samples.accept(store)))
        await asyncio.sleep(0)
    assert not any(future.done() for future in first + later)
    store.instead = None
    go_on.set()
    await asyncio.gather(*first, *later)
    assert store.commits - before == 2


async def test_units_of_turns_that_follow_each_other_share_one_commit_and_none_waits_for_ever(store, samples):
    before = store.commits
    first = store.submit(samples.accept(store))
    later = []
    while not first.done():
        await asyncio.sleep(0)
        if len(later) < 20:
            later.append(store.submit(samples.accept(store)))
    assert store.commits - before == 1
    assert 3 <= sum(unit.done() for unit in later) <= 6
    await asyncio.gather(*later)


async def test_a_unit_alone_waits_for_two_turns(store, samples):
    unit = store.submit(samples.accept(store))
    turns = 0
    while not unit.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns <= 3, "the turn that sees it is counted"


@pytest.mark.parametrize("units", [1, 20], ids=["in the loop", "beside it"])
async def test_what_is_to_be_done_beside_a_commit_is_done_before_anybody_hears_of_it(store, samples, units):
    done: list[str] = []
    told = [store.submit(samples.accept(store)) for _ in range(units)]
    told[0].add_done_callback(lambda _: done.append("told"))
    store.meanwhile(lambda: 1 / 0)  # reported, and nobody else's trouble
    store.meanwhile(lambda: done.append("meanwhile"))
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: reported.append(repr(facts["exception"])))
    await asyncio.gather(*told)
    assert done == ["meanwhile", "told"]
    assert reported == ["ZeroDivisionError('division by zero')"]


@pytest.mark.parametrize("units", [1, 20], ids=["in the loop", "beside it"])
async def test_what_is_to_be_done_afterwards_is_done_once_everybody_of_the_commit_has_been_told(store, samples, units):
    done: list[str] = []

    def told(_error: StoreError | None) -> None:
        if not done:
            store.afterwards(lambda: 1 / 0)  # reported, and nobody else's trouble
            store.afterwards(lambda: done.append("afterwards"))
        done.append("told")

    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: reported.append(repr(facts["exception"])))
    for _ in range(units):
        store.commit([samples.accept(store)], told)
    await store.submit(samples.accept(store))
    assert done == ["told"] * units + ["afterwards"]
    assert reported == ["ZeroDivisionError('division by zero')"]
    store.afterwards(lambda: done.append("next turn"))
    await asyncio.sleep(0)
    assert done[-1] == "next turn"


async def test_what_is_to_be_done_beside_a_commit_that_does_not_come_is_done_in_the_next_turn(store, samples):
    done: list[str] = []
    store.meanwhile(lambda: done.append("idle"))
    await asyncio.sleep(0)
    assert done == ["idle"]
    taken = samples.accept(store)
    await store.submit(taken)
    unit = store.submit(taken)
    store.meanwhile(lambda: done.append("nothing committed"))
    await asyncio.gather(unit, return_exceptions=True)
    await asyncio.sleep(0)
    assert done == ["idle", "nothing committed"]


async def test_few_units_are_committed_in_the_loop_and_many_in_a_thread(store, samples):
    threads: list[threading.Thread] = []
    store.instead = lambda: threads.append(threading.current_thread())
    await store.submit(samples.accept(store))
    await asyncio.gather(*(store.submit(samples.accept(store)) for _ in range(20)))
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


async def test_a_slow_disk_does_not_hold_up_the_loop(store, samples):
    store._state.group._commit_seconds = 0.01
    threads: list[threading.Thread] = []
    store.instead = lambda: threads.append(threading.current_thread())
    await store.submit(samples.accept(store))
    assert [thread.name for thread in threads] == ["store-commit"]


async def test_a_turn_with_very_many_units_is_split(store, samples):
    before = store.commits
    await asyncio.gather(*(store.submit(samples.accept(store)) for _ in range(600)))
    assert store.commits - before == 3
    assert len(store.find(Find(limit=1000))) == 600


@pytest.mark.parametrize("units", [1, 20], ids=["in the loop", "in the thread"])
@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("disk I/O error"), OSError(5, "Input/output error")], ids=repr
)
async def test_a_commit_that_fails_fails_its_units_and_the_next_succeed(store, samples, units, error):
    def fail() -> None:
        raise error

    store.instead = fail
    accepts = [samples.accept(store) for _ in range(units)]
    results = await asyncio.gather(*(store.submit(accept) for accept in accepts), return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    assert [store.message(accept.message_id) for accept in accepts] == [None] * units
    store.instead = None
    await asyncio.gather(*(store.submit(accept) for accept in accepts))
    assert all(store.message(accept.message_id) for accept in accepts)


async def test_a_full_disk_fails_units_until_there_is_room_again(store, samples):
    writer = writer_of(store)
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    kept, refused = [], []
    for size in (10, 100_000, 100_000, 10):
        accept = samples.accept(store, body=b"x" * size)
        (result,) = await asyncio.gather(store.submit(accept), return_exceptions=True)
        (kept if result is None else refused).append(accept)
        assert result is None or str(result) == "not committed: SQLITE_FULL"
    assert [len(accept.body) for accept in kept] == [10, 10]
    assert all(store.message(accept.message_id) is None for accept in refused)
    writer.execute("PRAGMA max_page_count = 1000000")
    await asyncio.gather(*(store.submit(accept) for accept in refused))
    assert all(len(store.message_body(accept.message_id)) == 100_000 for accept in refused)
    assert store._state.reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_disk_that_fills_up_while_a_faulty_unit_is_set_apart_fails_the_batch(store, samples):
    writer = writer_of(store)
    taken = samples.accept(store)
    await store.submit(taken)
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    units = [samples.accept(store), taken, samples.accept(store, body=b"x" * 100_000)]
    results = await asyncio.gather(*(store.submit(unit) for unit in units), return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    writer.execute("PRAGMA max_page_count = 1000000")
    await asyncio.gather(store.submit(units[0]), store.submit(units[2]))


async def test_closing_on_a_broken_disk_still_lets_go_of_the_folder(tmp_path, samples):
    store = DiskOfATest(tmp_path / "data", KEY)
    await store.open()

    def fail() -> None:
        raise OSError(28, "No space left on device")

    store.instead = fail
    future = store.submit(samples.accept(store))
    last = store.new_id()
    await store.close()
    assert isinstance(future.exception(), StoreError)
    again = SqliteStore(tmp_path / "data", KEY)
    await again.open()
    assert again.new_id() > last
    await again.close()


async def test_a_batch_of_faulty_units_only_commits_nothing(store, samples):
    taken = samples.accept(store)
    await store.submit(taken)
    before = store.commits
    results = await asyncio.gather(*(store.submit(taken) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    assert store.commits == before
    await store.submit(CachePut("c", "k", b"v", LATER))
    assert store.cache_get("c", "k", 0) == b"v"


async def test_more_ids_are_reserved_before_the_reserve_ends(tmp_path, samples):
    store = DiskOfATest(tmp_path / "data", KEY)
    await store.open()
    given = [store.new_id() for _ in range(25_000)]
    await store.submit()
    (reserved,) = store._state.reader.execute("SELECT value FROM meta WHERE name = 'reserved_ids'").fetchone()
    assert reserved >= given[-1]
    await store.close()
