"""A commit whose fsync failed: nobody is told anything before it is certain what became of it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.store import SqliteStore, faults, group_commit
from engine.store.machine import Machine

KEY = bytes(32)


def failed_fsync() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
    return error


class Failing(SqliteStore):
    """Its next ``failures`` commits fail as a failed fsync does."""

    failures = 0

    def _commit(self, writer: sqlite3.Cursor) -> None:
        if self.failures:
            self.failures -= 1
            raise failed_fsync()
        super()._commit(writer)


@pytest.fixture
async def store(tmp_path: Path):
    store = Failing(tmp_path / "data", KEY)
    await store.open()
    await store.submit()  # what open itself submits is done
    yield store
    store.failures = 0
    await store.close()


def cuts(store: SqliteStore) -> int:
    row = store._state.reader.execute("SELECT value FROM meta WHERE name = 'log_cut'").fetchone()
    return row[0] if row else 0


async def turns() -> None:
    """Until nothing of the loop is left to run at once."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("units", [1, 20], ids=["in the loop", "beside it"])
async def test_the_log_is_cut_before_the_units_hear_that_they_failed(store, samples, units):
    store.failures = 1
    seen: list[int] = []
    futures = [store.submit(samples.accept(store)) for _ in range(units)]
    for future in futures:
        future.add_done_callback(lambda _: seen.append(cuts(store)))
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert {str(result) for result in results} == {"not committed: SQLITE_IOERR_FSYNC"}
    assert seen == [1] * units
    await store.submit(samples.accept(store))


async def test_units_in_doubt_hear_nothing_while_the_cut_fails_and_later_ones_fail_at_once(store, samples):
    store.failures = 3
    in_doubt = store.submit(samples.accept(store))
    await turns()
    assert not in_doubt.done()
    with pytest.raises(StoreError, match="the disk fails"):
        await store.submit(samples.accept(store))
    assert not in_doubt.done()
    later = samples.accept(store)
    await store.submit(later)  # this one's cut succeeds: the disk is well again
    assert isinstance(in_doubt.exception(), StoreError)
    assert not isinstance(in_doubt.exception(), faults.InDoubt)
    assert store.message(later.message_id) is not None
    assert cuts(store) == 1


async def test_a_batch_in_doubt_is_cut_off_when_nothing_else_comes(store, samples, monkeypatch):
    monkeypatch.setattr(group_commit, "_CUT_AGAIN", 0.01)
    store.failures = 5
    with pytest.raises(StoreError, match="the disk failed"):
        await store.submit(samples.accept(store))
    assert store.failures == 0


async def test_a_full_disk_leaves_no_doubt(store, samples):
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode, full.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    assert not faults.may_be_kept(full)
    assert faults.may_be_kept(failed_fsync())


async def test_closing_in_doubt_ends_and_claims_nothing(store, samples):
    store.failures = 1000
    in_doubt = store.submit(samples.accept(store))
    await turns()
    await store.close()
    assert isinstance(in_doubt.exception(), faults.InDoubt)
    assert "not known" in str(in_doubt.exception())


async def test_the_last_unit_of_a_store_that_closes_may_be_in_doubt(store):
    store.failures = 2
    await store.close()
    assert store.failures == 0


class Watched(Machine):
    """Says what it did, in order."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def write_anew(self, path: Path) -> None:
        self.did.append(f"write anew {path.name}")
        super().write_anew(path)

    def connect(self, path: Path, mode: str) -> sqlite3.Connection:
        self.did.append(f"connect {mode}")
        return super().connect(path, mode)


async def test_the_log_is_written_anew_before_anything_is_read_from_it(tmp_path, samples):
    machine = Watched()
    store = SqliteStore(tmp_path / "data", KEY, machine=machine)
    await store.open()
    await store.close()
    assert machine.did == ["write anew engine.db-wal", "connect rw", "connect ro"]


def test_writing_a_file_anew_leaves_its_bytes_as_they_are(tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    path = tmp_path / "engine.db-wal"
    Machine().write_anew(path)
    assert not path.exists()
    path.write_bytes(bytes(range(256)) * 10_000)
    Machine().write_anew(path)
    assert path.read_bytes() == bytes(range(256)) * 10_000
    assert len(synced) == 1


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "engine.db-wal").mkdir()
    with pytest.raises(OSError, match="directory"):
        Machine().write_anew(tmp_path / "engine.db-wal")
