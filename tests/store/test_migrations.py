"""Schema versions: forward only, whole, from each version on, with rows in every state."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.store import SqliteStore, backup, database, look, queries, ring, schema
from engine.store.audit import Who
from engine.store.base import DropKey, OpenKey
from engine.store.crypto import Crypto
from engine.store.upkeep import PurgeExpired

from .every_state import KEY, NOW, PATIENT, VERSIONS, database_of, expect, fill

LATEST = len(schema.scripts())
#: Dumps of databases that engines of these versions filled.
DUMPS = {int(dump.stem): dump for dump in VERSIONS.glob("*.sql")}


def of_version(version: int, folder: Path) -> None:
    """A data folder of that version: the nearest dump of an older engine, migrated that far."""
    nearest = max(number for number in DUMPS if number <= version)
    database_of(DUMPS[nearest], folder)
    connection = sqlite3.connect(folder / database.DATABASE_FILE, isolation_level=None)
    ring.before_migration(connection, Crypto({1: KEY}))
    schema.migrate(connection, schema.scripts()[:version])
    assert schema.version_of(connection) == version
    connection.close()


def objects(connection: sqlite3.Connection) -> dict[str, str]:
    """Tables and indexes with the text that made them."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())


@pytest.fixture
def store(tmp_path):
    return SqliteStore(tmp_path / "data", KEY, now=lambda: NOW)


@pytest.mark.parametrize("version", range(1, LATEST + 1))
async def test_rows_of_every_state_survive_the_way_from_each_version(version, store):
    of_version(version, store.folder)
    await store.open()
    try:
        expect(store)
    finally:
        await store.close()


@pytest.mark.parametrize("version", range(1, LATEST + 1))
async def test_what_an_older_version_stored_is_sealed_rotated_and_found_whole(version, tmp_path):
    folder, second = tmp_path / "data", bytes(range(1, 33))
    of_version(version, folder)
    for keys, current in (({1: KEY}, 1), ({1: KEY, 2: second}, 2), ({2: second}, 2)):
        store = SqliteStore(folder, keys, encrypt=True, now=lambda: NOW)
        await store.open()
        expect(store)
        while store.resealing() is not None:
            await store.reseal()
        expect(store)
        assert [key.number for key in store.store_keys() if key.retired_at is None] == [current]
        await store.close()
        assert backup.verify(folder, keys) == []
        assert PATIENT.encode() not in b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("version", range(1, LATEST + 1))
async def test_a_site_that_keeps_bodies_plain_reads_every_version_too(version, tmp_path):
    of_version(version, tmp_path / "data")
    store = SqliteStore(tmp_path / "data", KEY, encrypt=False, now=lambda: NOW)
    await store.open()
    expect(store)
    await store.close()
    assert backup.verify(store.folder, {1: KEY}) == []


@pytest.mark.parametrize("version", range(1, LATEST + 1))
async def test_a_key_of_an_older_version_goes_with_its_members_whoever_removes_it(version, store):
    of_version(version, store.folder)
    await store.open()
    opened, closed = (store.find_keys("booking", "body.mrn", PATIENT, NOW)[at] for at in (1, 0))
    new = OpenKey("booking|app", "order-3", b"", "booking", opened.message_id, 9, NOW + 1, {"body.mrn": PATIENT})
    await store.submit(DropKey(closed.scope, closed.key), new)
    first, second = store.find_keys("booking", "body.mrn", PATIENT, NOW)
    assert (first.key, second.delivery_id) == (opened.key, 9)
    await store.submit(PurgeExpired(NOW + 2e9, 10))
    tables = ("exchange_key", "key_member")
    left = [store._opened.reader.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables]
    await store.close()
    assert left == [(0,), (0,)]


@pytest.mark.parametrize("version", range(3, LATEST + 1))
def test_a_backup_of_an_older_engine_is_checked_and_put_back(version, tmp_path):
    of_version(version, tmp_path / "old")
    assert backup.verify(tmp_path / "old", {1: KEY}) == []
    with look.looking(tmp_path / "old") as reader:
        backup.back_up(reader, tmp_path / "backup", NOW, Crypto({1: KEY}))
    backup.restore(tmp_path / "backup", tmp_path / "new", {1: KEY}, Who.command(0), replace=False, hold=False)
    assert backup.verify(tmp_path / "new", {1: KEY}) == []


async def test_the_expectations_hold_for_what_this_engine_writes(store):
    await store.open()
    await fill(store)
    crashed = store._state
    crashed.files.close()  # as a crash: nothing is settled, ids stay reserved
    again = SqliteStore(store.folder, KEY, now=lambda: NOW)
    await again.open()
    try:
        expect(again)
    finally:
        await again.close()


@pytest.mark.parametrize("version", range(1, LATEST + 1))
def test_an_old_database_ends_with_the_schema_of_a_new_one(version, tmp_path):
    of_version(version, tmp_path / "old")
    (tmp_path / "new").mkdir(mode=0o700)
    old, new = (database.connect_writer(tmp_path / name, Crypto({1: KEY})) for name in ("old", "new"))
    try:
        assert objects(old) == objects(new)
        assert schema.version_of(old) == schema.version_of(new) == LATEST
        for pragma in ("auto_vacuum", "journal_mode"):
            assert old.execute(f"PRAGMA {pragma}").fetchone() == new.execute(f"PRAGMA {pragma}").fetchone()
        for name, query in vars(queries).items():
            if name.isupper() and not name.startswith("_"):
                old.execute(f"EXPLAIN {query}", [None] * query.count("?"))
    finally:
        old.close()
        new.close()


async def test_a_newer_schema_is_left_alone(store):
    database_of(DUMPS[1], store.folder)
    connection = sqlite3.connect(store.folder / database.DATABASE_FILE, isolation_level=None)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", [LATEST + 1])
    before = list(connection.iterdump())
    with pytest.raises(StoreError, match=rf"newer engine \(schema {LATEST + 1}, this one knows {LATEST}\)"):
        await store.open()
    assert list(connection.iterdump()) == before
    connection.close()


def test_a_migration_that_fails_leaves_the_version_before_whole(tmp_path):
    of_version(1, tmp_path / "data")
    connection = sqlite3.connect(tmp_path / "data" / database.DATABASE_FILE, isolation_level=None)
    addition = "CREATE TABLE addition (id INTEGER PRIMARY KEY);"
    half = "CREATE TABLE half (id INTEGER PRIMARY KEY); DELETE FROM message; SELECT nonsense;"
    rows = connection.execute("SELECT count(*) FROM message").fetchone()
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, (schema.scripts()[0], addition, half))
    assert schema.version_of(connection) == 2
    assert {"addition"} == objects(connection).keys() & {"addition", "half"}
    assert connection.execute("SELECT count(*) FROM message").fetchone() == rows
    assert not connection.in_transaction
    schema.migrate(connection, (schema.scripts()[0], addition, "DROP TABLE addition;"))
    assert schema.version_of(connection) == 3
    connection.close()


def test_a_number_that_is_missing_is_told_before_anything_is_changed(tmp_path, monkeypatch):
    (tmp_path / "migrations").mkdir()
    (tmp_path / "schema.sql").touch()
    (tmp_path / "migrations" / "0003_third.sql").touch()
    monkeypatch.setattr(schema.resources, "files", lambda package: tmp_path)
    with pytest.raises(StoreError, match="0003"):
        schema.scripts.__wrapped__()
