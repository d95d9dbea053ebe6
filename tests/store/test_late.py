"""Patients and control ids are put into their indexes later than their messages, and found all the while."""

from __future__ import annotations

import sqlite3

import pytest

from engine.errors import StoreError
from engine.store import SqliteStore, keeping, late, queries
from engine.store.base import Find
from engine.store.late import IndexMessages
from engine.store.process.__main__ import Process
from engine.store.process.carried import carried
from engine.store.process.wire import Beginning
from engine.store.reader import Reader

from .conftest import KEY
from .test_group_commit import DiskOfATest


def found(store: SqliteStore, patient: str = "P1") -> list[int]:
    return [row.message_id for row in store.find(Find(patient=patient))]


def indexed(store: SqliteStore) -> list[int]:
    rows = store._opened.reader.execute("SELECT message_id FROM patient ORDER BY message_id").fetchall()
    return [message_id for (message_id,) in rows]


async def fail_to_index(store: DiskOfATest) -> None:
    """What waits is put into its index, and that is rolled back."""

    def fail() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    store.instead = fail
    with pytest.raises(StoreError):
        await store.submit(IndexMessages(1))
    store.instead = None


async def test_so_many_are_put_into_the_index_together_and_no_more_at_once(sqlite, samples, monkeypatch):
    monkeypatch.setattr(late, "_LOT", 4)
    made = [await samples.message(sqlite, patients=("P1", "P2") if number % 2 else ("P1",)) for number in range(5)]
    await sqlite.submit(IndexMessages(6))
    assert indexed(sqlite) == []
    await sqlite.submit(IndexMessages(5))
    assert sorted(set(indexed(sqlite))) == made[:4]
    assert len(indexed(sqlite)) == 6
    await sqlite.submit(IndexMessages(1))
    await sqlite.submit(IndexMessages(0))
    assert sorted(set(indexed(sqlite))) == made
    assert (found(sqlite), found(sqlite, "P2"), found(sqlite, "P3")) == (made[::-1], [made[3], made[1]], [])


async def test_a_message_whose_id_is_older_than_the_index_is_found_at_once(sqlite, samples):
    late = samples.accept(sqlite, patients=("P1",))
    made = await samples.message(sqlite, patients=("P1",))
    await sqlite.submit(IndexMessages(1))
    await sqlite.submit(late)
    assert indexed(sqlite) == found(sqlite)[::-1] == [late.message_id, made]


async def test_an_index_that_was_rolled_back_or_forgotten_is_made_again(tmp_path, samples):
    store = DiskOfATest(tmp_path / "data", KEY)
    await store.open()
    made = [await samples.message(store, patients=("P1",)) for _ in range(3)]
    await fail_to_index(store)
    made.append(await samples.message(store, patients=("P1",)))
    assert (indexed(store), found(store)) == ([], made[::-1])
    await store.submit(IndexMessages(1))
    assert (indexed(store), found(store)) == (made, made[::-1])
    made.append(await samples.message(store, patients=("P1",)))
    await store.close()
    await store.open()
    assert (indexed(store), found(store)) == (made[:-1], made[::-1])
    made.append(await samples.message(store, patients=("P1",)))
    await store.submit(IndexMessages(1))
    assert (indexed(store), found(store)) == (made, made[::-1])
    await store.close()


async def test_what_the_engine_writes_is_indexed_by_and_by(sqlite, samples, monkeypatch):
    made = [await samples.message(sqlite, patients=("P1",)) for _ in range(450)]
    monkeypatch.setattr("engine.store.sqlite._INDEXED_TOGETHER", 400)
    made += [await samples.message(sqlite, patients=("P1",)) for _ in range(200)]
    assert 400 <= len(indexed(sqlite)) < 650
    assert [row.message_id for row in sqlite.find(Find(patient="P1", limit=1000))] == made[::-1]


# -- control ids ---------------------------------------------------------------------------------------------------


def named(store: SqliteStore) -> list[str]:
    """The control ids in their index."""
    query = "SELECT control_id FROM message INDEXED BY message_control_id WHERE control_id <> '' ORDER BY id"
    return [control_id for (control_id,) in store._opened.reader.execute(query).fetchall()]


def with_id(store: SqliteStore, control_id: str, **more: object) -> list[int]:
    """Messages of one control id, as a search finds them and as a receiver does; that is the same."""
    searched = [row.message_id for row in store.find(Find(control_id=control_id, **more))]
    if not more:
        assert [row.message_id for row in store.same_control_id("siu", control_id, 99)] == searched
    return searched


NAMES = ("M1", "", "Mü", "M\udc80", "M" * 300, "M2")


async def test_a_control_id_is_found_before_and_after_it_is_in_the_index(sqlite, samples):
    made = {name: await samples.message(sqlite, control_id=name) for name in NAMES}
    other = await samples.message(sqlite, control_id="M1", channel="adt")
    for step in range(3):
        assert len(named(sqlite)) == (0 if step == 0 else 6)
        for name, message_id in made.items():
            assert sqlite.message(message_id).control_id == name
            if name and name != "M1":
                assert with_id(sqlite, name) == [message_id]
        assert [row.message_id for row in sqlite.same_control_id("siu", "M1", 9)] == [made["M1"]]
        assert with_id(sqlite, "M1", limit=1) == [other]
        assert with_id(sqlite, "M1", before_id=other) == [made["M1"]]
        assert with_id(sqlite, "M" * 300 + "N") == with_id(sqlite, "M0") == with_id(sqlite, "M") == []
        await sqlite.submit(IndexMessages(1))
    assert sqlite._opened.reader.execute("SELECT count(late_control_id) FROM message").fetchone() == (0,)


async def test_messages_of_one_control_id_are_found_on_both_sides_of_what_is_indexed(sqlite, samples):
    late = samples.accept(sqlite, control_id="M1")
    made = [await samples.message(sqlite, control_id="M1") for _ in range(3)]
    await sqlite.submit(IndexMessages(1))
    made += [await samples.message(sqlite, control_id="M1") for _ in range(3)]
    await sqlite.submit(late)  # its id was given out long ago: nobody sorts it in any more
    newest = [*made[::-1], late.message_id]
    assert with_id(sqlite, "M1") == newest
    for limit in range(1, 8):
        assert with_id(sqlite, "M1", limit=limit) == newest[:limit]
        assert [row.message_id for row in sqlite.same_control_id("siu", "M1", limit)] == newest[:limit]
    assert named(sqlite) == ["M1"] * 4


async def test_what_a_crash_left_out_of_the_index_is_known_by_the_next_engine(tmp_path, samples):
    store = SqliteStore(tmp_path / "data", KEY)
    await store.open()
    made = [await samples.message(store, control_id=name) for name in NAMES]
    assert named(store) == []
    store._state.files.close()
    again = SqliteStore(tmp_path / "data", KEY)
    await again.open()
    assert named(again) == []
    for name, message_id in zip(NAMES, made, strict=True):
        assert not name or with_id(again, name) == [message_id]
    assert with_id(again, "M0") == with_id(again, "M11") == []
    await again.submit(IndexMessages(0))
    assert len(named(again)) == 5
    assert not again._absent.knows("M1")
    await again.close()


async def test_an_engine_forgets_control_ids_that_are_in_the_index(sqlite, samples, monkeypatch):
    monkeypatch.setattr("engine.store.sqlite._INDEXED_TOGETHER", 50)
    made = {f"M{number}": await samples.message(sqlite, control_id=f"M{number}") for number in range(5000)}
    assert len(sqlite._absent._late) < 3000
    assert len(named(sqlite)) > 4000
    for name in ("M0", "M17", "M4500", "M4999"):
        assert with_id(sqlite, name) == [made[name]]
    assert with_id(sqlite, "M5000") == []


@pytest.mark.parametrize(
    "moment", [keeping.INDEXED_UP_TO, queries.FIND_BY_LATE_CONTROL_ID, queries.SAME_LATE_CONTROL_ID]
)
async def test_a_control_id_is_found_while_it_is_sorted_in(sqlite, samples, monkeypatch, moment):
    read, other = Reader.rows, sqlite3.connect(sqlite.folder / "engine.db")

    def rows(reader, query, *parameters):
        found = read(reader, query, *parameters)
        if query == moment:
            ((up_to,),) = other.execute("SELECT max(id) FROM message").fetchall()
            with other:
                other.execute(keeping.INDEX_CONTROL_IDS, (0, up_to))
                other.execute(keeping.NOTE_INDEXED, (up_to,))
        return found

    made = []
    for _ in range(4):
        made.append(await samples.message(sqlite, control_id="M1"))
        assert sqlite.message(made[-1])
        with monkeypatch.context() as patch:
            patch.setattr(Reader, "rows", rows)
            assert with_id(sqlite, "M1") == made[::-1]
        sqlite._state.group._transaction.behind = True
    other.close()


async def test_a_delivery_that_goes_out_as_it_came_has_the_control_id_of_its_message(sqlite, samples):
    of = await samples.owed(sqlite, control_id="M1")
    assert sqlite.delivery(of).control_id == "M1"
    await sqlite.submit(IndexMessages(1))
    assert sqlite.delivery(of).control_id == "M1"


async def test_a_message_with_an_old_id_is_in_its_place_after_an_index_that_was_rolled_back(tmp_path, samples):
    store = DiskOfATest(tmp_path / "data", KEY)
    await store.open()
    first, old, last = (samples.accept(store, control_id="M1") for _ in range(3))
    await store.submit(first)
    await store.submit(last)
    await fail_to_index(store)
    await store.submit(old)
    newest = [last.message_id, old.message_id, first.message_id]
    for limit in range(1, 4):
        assert [row.message_id for row in store.same_control_id("siu", "M1", limit)] == newest[:limit]
    await store.close()


async def test_what_an_earlier_writer_left_out_of_the_index_counts_for_the_next(sqlite, samples, monkeypatch):
    monkeypatch.setattr(late, "_LOT", 4)
    made = [await samples.message(sqlite, control_id=f"M{number}") for number in range(6)]
    crypto = sqlite._crypto
    process = Process(Beginning(str(sqlite.folder), crypto.keys, crypto.current, crypto.hash_key, crypto.encrypt))
    for number in range(3):  # as many as there may be more behind a full lot
        upkeep = carried([(IndexMessages(4),)])
        assert upkeep is not None
        assert isinstance(process.write(number + 1, number, upkeep), tuple)
        assert named(sqlite) == [f"M{number}" for number in range(4 if number == 0 else 6)]
    process._connection.close()
    sqlite._state.group._transaction.behind = True
    assert [with_id(sqlite, f"M{number}") for number in range(6)] == [[message_id] for message_id in made]
