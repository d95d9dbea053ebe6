"""A check, and a backup, beside a store that goes on: how long its log gets, in bytes and pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.delivery import DeliveryState
from engine.errors import StoreError
from engine.store import SqliteStore, backup, database, whole
from engine.store.base import Settle

#: Of one page in the log: the page, and what SQLite writes before it.
FRAME = database.PAGE_BYTES + 24


async def filled(store: SqliteStore, samples: Any, number: int = 60) -> None:
    for _ in range(number):
        delivery_id = await samples.owed(store, body=bytes(3000))
        await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, 5.0, 1, answer=b"MSA|AA"))


def committing(store: SqliteStore, pages: int) -> Callable[[], tuple[int, int]]:
    """Commits so many pages of something, and moves the log as far as readers let it: pages in it, pages moved."""
    writer = store._opened.group._transaction._connection
    writer.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, value BLOB)")

    def commit() -> tuple[int, int]:
        writer.execute("INSERT INTO other (value) VALUES (?)", (bytes(pages * database.PAGE_BYTES),))
        _, written, moved = writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return written, moved

    return commit


def log_of(store: SqliteStore) -> Path:
    return store.folder / database.LOG_FILE


async def test_a_check_of_a_running_store_holds_no_moment_between_its_pieces(sqlite, samples, monkeypatch):
    monkeypatch.setattr(whole, "_LOT", 20)
    monkeypatch.setattr(whole, "_VALUES", 20)
    await filled(sqlite, samples)
    commit, pieces = committing(sqlite, 40), []
    commit()
    before = log_of(sqlite).stat().st_size
    reader = database.connect_reader(sqlite.folder)
    found = whole.check_running(reader, sqlite._crypto, log_of(sqlite), lambda seconds: pieces.append(commit()))
    reader.close()
    assert found == whole.Found(())
    assert len(pieces) > 30, "in small pieces"
    assert {written - moved for written, moved in pieces} == {0}, "all of the log could go back after each"
    assert log_of(sqlite).stat().st_size - before <= 45 * FRAME, "the log began anew after each"
    assert (await sqlite.check()) == found


async def test_faults_are_found_while_the_store_goes_on(sqlite, samples):
    await filled(sqlite, samples, 3)
    writer = sqlite._opened.group._transaction._connection
    for statement in (
        "UPDATE delivery SET state = 'nowhere' WHERE id = (SELECT max(id) FROM delivery)",
        "UPDATE message_body SET body = zeroblob(40)",
        "INSERT INTO delivery_answer VALUES (999, 0, x'00')",
    ):
        writer.execute(statement)
    assert (await sqlite.check()).faults == (
        "1 deliveries in no state",
        "1 answers without a delivery",
        "3 sealed values of message_body do not open",
    )


async def test_a_table_is_left_out_when_the_log_grows_too_long_meanwhile(sqlite, samples, monkeypatch):
    await filled(sqlite, samples, 10)
    monkeypatch.setattr(whole, "_LOOK", 50)
    grown = iter([0] * 5)
    monkeypatch.setattr(whole.Log, "grown", property(lambda log: next(grown, 2000)))
    reader = database.connect_reader(sqlite.folder)
    found = whole.check_running(reader, sqlite._crypto, log_of(sqlite), lambda seconds: None, log_most=1000)
    reader.close()
    assert (found.faults, "message_body" in found.left_out) == ((), True)


async def test_the_log_grows_by_what_is_committed_during_a_backup_and_no_more(sqlite, samples, tmp_path, monkeypatch):
    await filled(sqlite, samples)
    commit = committing(sqlite, 40)
    commit()
    reader = database.connect_reader(sqlite.folder)
    before = log_of(sqlite).stat().st_size
    steps = 0

    def stepped(seconds: float) -> None:
        nonlocal steps
        steps += 1
        commit()

    monkeypatch.setattr(backup, "_STEP", 4)
    backup.back_up(reader, tmp_path / "monday", 1.0, sqlite._crypto, stepped)
    reader.close()
    assert steps > 20
    grown = log_of(sqlite).stat().st_size - before
    assert 0 < grown <= steps * 45 * FRAME, "by what is committed, and no more"
    written, moved = commit()
    assert written == moved, "nothing holds it any more"
    assert backup.verify_backup(tmp_path / "monday", {1: sqlite._crypto._keys[1]}) == []


async def test_a_backup_hurries_when_the_log_grows_and_gives_up_before_it_fills_the_disk(
    sqlite, samples, tmp_path, monkeypatch
):
    await filled(sqlite, samples)
    commit, pauses = committing(sqlite, 40), []
    monkeypatch.setattr(backup, "_STEP", 8)
    monkeypatch.setattr(backup, "_PRESSING", 6 * 40 * FRAME)
    reader = database.connect_reader(sqlite.folder)

    def stepped(seconds: float) -> None:
        pauses.append(seconds)
        commit()

    backup.back_up(reader, tmp_path / "monday", 1.0, sqlite._crypto, stepped)
    assert (pauses[0], pauses[-1], pauses.count(backup._PAUSE) < 10) == (backup._PAUSE, 0.0, True)
    monkeypatch.setattr(backup, "_log_most", lambda folder: 3 * 40 * FRAME)
    pauses.clear()
    with pytest.raises(StoreError, match=r"the write-ahead log grew by \d+ MiB"):
        backup.back_up(reader, tmp_path / "tuesday", 1.0, sqlite._crypto, stepped)
    reader.close()
    assert len(pauses) < 20
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["monday"]
    written, moved = commit()
    assert written == moved, "it lets go of the log"


async def test_a_log_that_was_long_gives_its_disk_back(sqlite, samples, monkeypatch):
    commit = committing(sqlite, 2000)
    reader = sqlite3.connect(f"file:{sqlite.folder / database.DATABASE_FILE}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM message").fetchone()
    for _ in range(11):
        commit()
    assert log_of(sqlite).stat().st_size > 80 << 20
    reader.close()
    commit()
    commit()
    assert log_of(sqlite).stat().st_size <= 64 << 20
