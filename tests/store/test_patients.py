"""Patients are put into their index later than their messages, and found all the while."""

from __future__ import annotations

import sqlite3

import pytest

from engine.errors import StoreError
from engine.store import SqliteStore, patients
from engine.store.base import Find
from engine.store.patients import IndexPatients

from .conftest import KEY
from .test_group_commit import DiskOfATest


def found(store: SqliteStore, patient: str = "P1") -> list[int]:
    return [row.message_id for row in store.find(Find(patient=patient))]


def indexed(store: SqliteStore) -> list[int]:
    rows = store._opened.reader.execute("SELECT message_id FROM patient ORDER BY message_id").fetchall()
    return [message_id for (message_id,) in rows]


async def test_so_many_are_put_into_the_index_together_and_no_more_at_once(sqlite, samples, monkeypatch):
    monkeypatch.setattr(patients, "_LOT", 4)
    made = [await samples.message(sqlite, patients=("P1", "P2") if number % 2 else ("P1",)) for number in range(5)]
    await sqlite.submit(IndexPatients(6))
    assert indexed(sqlite) == []
    await sqlite.submit(IndexPatients(5))
    assert sorted(set(indexed(sqlite))) == made[:4]
    assert len(indexed(sqlite)) == 6
    await sqlite.submit(IndexPatients(1))
    await sqlite.submit(IndexPatients(0))
    assert sorted(set(indexed(sqlite))) == made
    assert (found(sqlite), found(sqlite, "P2"), found(sqlite, "P3")) == (made[::-1], [made[3], made[1]], [])


async def test_a_message_whose_id_is_older_than_the_index_is_found_at_once(sqlite, samples):
    late = samples.accept(sqlite, patients=("P1",))
    made = await samples.message(sqlite, patients=("P1",))
    await sqlite.submit(IndexPatients(1))
    await sqlite.submit(late)
    assert indexed(sqlite) == found(sqlite)[::-1] == [late.message_id, made]


async def test_an_index_that_was_rolled_back_or_forgotten_is_made_again(tmp_path, samples):
    store = DiskOfATest(tmp_path / "data", KEY)
    await store.open()
    made = [await samples.message(store, patients=("P1",)) for _ in range(3)]

    def fail() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    store.instead = fail
    with pytest.raises(StoreError):
        await store.submit(IndexPatients(1))
    store.instead = None
    made.append(await samples.message(store, patients=("P1",)))
    assert (indexed(store), found(store)) == ([], made[::-1])
    await store.submit(IndexPatients(1))
    assert (indexed(store), found(store)) == (made, made[::-1])
    made.append(await samples.message(store, patients=("P1",)))
    await store.close()
    await store.open()
    assert (indexed(store), found(store)) == (made[:-1], made[::-1])
    made.append(await samples.message(store, patients=("P1",)))
    await store.submit(IndexPatients(1))
    assert (indexed(store), found(store)) == (made, made[::-1])
    await store.close()


async def test_what_the_engine_writes_is_indexed_by_and_by(sqlite, samples, monkeypatch):
    made = [await samples.message(sqlite, patients=("P1",)) for _ in range(450)]
    monkeypatch.setattr("engine.store.sqlite._INDEXED_TOGETHER", 400)
    made += [await samples.message(sqlite, patients=("P1",)) for _ in range(200)]
    assert 400 <= len(indexed(sqlite)) < 650
    assert [row.message_id for row in sqlite.find(Find(patient="P1", limit=1000))] == made[::-1]
