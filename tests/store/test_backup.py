"""Backups: one moment of a store that goes on, checked, and put back so that nothing unfinished is lost."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace

import pytest

from engine.cache import CachePut
from engine.delivery import DeliveryState, MessageState
from engine.errors import DataFolderInUse, StoreError
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.store import SqliteStore, backup, look, whole
from engine.store.audit import Act, Audit, FindAudit, Who
from engine.store.base import AckSent, CloseKey, OpenKey, Settle
from engine.store.crypto import Crypto, fingerprint

from .conftest import KEY

KEYS = {1: KEY}
OTHER = bytes(range(1, 33))
WHO = Who.command(0)


async def some(store, samples) -> tuple[int, int, int]:
    """A delivered, a queued and an unrouted message; ids of the deliveries and of the last."""
    done = await samples.owed(store, patients=("MRN1",))
    await store.submit(Settle(done, DeliveryState.DELIVERED, 5.0, 1, answer=bytes(5000)))
    queued = await samples.owed(store)
    await store.submit(Audit(Act.LOGIN, WHO, 1.0))
    return done, queued, await samples.message(store)


async def test_a_backup_of_a_running_store_is_whole_private_and_says_what_it_holds(store, samples, tmp_path):
    await some(store, samples)
    manifest = await store.back_up(tmp_path / "monday")
    assert json.loads((tmp_path / "monday" / "manifest.json").read_text()) == manifest
    assert (manifest["messages"], manifest["deliveries"], manifest["store_keys"]) == (3, 2, [1])
    assert manifest["audit_head"] == store.audit_head()
    assert manifest["key_fingerprints"] == {"1": fingerprint(KEY)}
    assert KEY.hex() not in json.dumps(manifest)
    assert sorted(path.name for path in (tmp_path / "monday").iterdir()) == ["engine.db", "manifest.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "monday").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "monday").stat().st_mode) == 0o700
    assert not (tmp_path / "monday.part").exists()
    assert backup.verify_backup(tmp_path / "monday", KEYS) == []
    assert backup.verify_backup(tmp_path / "monday", {}) == []


async def test_a_backup_is_one_moment_while_commits_go_on(store, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(backup, "_STEP", 1)
    for _ in range(30):
        await samples.owed(store)
    making = asyncio.create_task(store.back_up(tmp_path / "monday"))
    during = 0
    while not making.done():
        await samples.owed(store)
        during += 1
    manifest = await making
    assert during > 5
    assert 30 <= manifest["messages"] <= 30 + during
    assert manifest["messages"] == manifest["deliveries"]
    assert backup.verify_backup(tmp_path / "monday", KEYS) == []


async def test_a_restore_says_at_once_which_key_the_backup_needs(store, samples, tmp_path, monkeypatch):
    await some(store, samples)
    await store.use_keys({1: KEY, 2: OTHER})
    manifest = await store.back_up(tmp_path / "monday")
    assert manifest["key_fingerprints"] == {"1": fingerprint(KEY), "2": fingerprint(OTHER)}
    monkeypatch.setattr(backup, "_digest", lambda path: pytest.fail("the database was read before the keys were"))
    wrong = fingerprint(bytes(32))
    for keys, told in (
        ({1: KEY}, f"store key 2 with fingerprint {fingerprint(OTHER)}; given: 1 (fingerprint {fingerprint(KEY)})"),
        (
            {1: KEY, 2: bytes(32)},
            f"key 2 with fingerprint {fingerprint(OTHER)}; the store key 2 .* fingerprint {wrong}",
        ),
    ):
        with pytest.raises(StoreError, match=told.replace("(", r"\(").replace(")", r"\)")):
            backup.restore(tmp_path / "monday", tmp_path / "new", keys, WHO, replace=False, hold=False)
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    keys = {1: KEY, 2: OTHER}
    assert backup.restore(tmp_path / "monday", tmp_path / "new", keys, WHO, replace=False, hold=False)


@pytest.mark.parametrize("crypto", [None, Crypto({1: bytes(32)})], ids=["no key", "another key"])
async def test_a_manifest_names_no_key_that_does_not_open_the_store(store, samples, tmp_path, crypto):
    await some(store, samples)
    await store.close()
    with look.looking(store.folder) as reader:
        manifest = backup.back_up(reader, tmp_path / "cold", 1.0, crypto)
    assert (manifest["store_keys"], manifest["key_fingerprints"]) == ([1], {})
    assert backup.verify_backup(tmp_path / "cold", KEYS) == []


async def test_a_backup_replaces_nothing(store, samples, tmp_path):
    (tmp_path / "monday").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        await store.back_up(tmp_path / "monday")
    with pytest.raises(StoreError, match="no backup was made"):
        await store.back_up(tmp_path / "data" / "engine.db" / "below a file")


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE message SET channel = 'x'", "the manifest names"),
        ("DELETE FROM message WHERE id = (SELECT min(id) FROM message)", "the manifest names"),
    ],
)
async def test_a_backup_that_was_changed_is_not_the_one_of_its_manifest(store, samples, tmp_path, statement, fault):
    await some(store, samples)
    await store.back_up(tmp_path / "monday")
    change(tmp_path / "monday" / "engine.db", statement)
    assert fault in backup.verify_backup(tmp_path / "monday", KEYS)[0]


@pytest.mark.parametrize("manifest", [None, "", '{"sha256": ', "[]"])
async def test_a_backup_that_was_broken_off_is_none_whatever_its_database_looks_like(
    store, samples, tmp_path, manifest
):
    await some(store, samples)
    await store.back_up(tmp_path / "monday")
    (tmp_path / "monday" / "manifest.json").unlink()
    if manifest is not None:
        (tmp_path / "monday" / "manifest.json").write_text(manifest)
    assert "broken off" in backup.verify_backup(tmp_path / "monday", KEYS)[0]
    with pytest.raises(StoreError, match="broken off"):
        backup.restore(tmp_path / "monday", tmp_path / "elsewhere", KEYS, WHO, replace=False, hold=False)
    assert not (tmp_path / "elsewhere" / "engine.db").exists()


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM message WHERE id = (SELECT min(id) FROM message)", "1 deliveries without a message"),
        ("UPDATE delivery SET state = 'nowhere'", "2 deliveries in no state"),
        ("UPDATE message SET state = 'nowhere' WHERE id = 1", "1 messages in no state"),
        ("DELETE FROM delivery WHERE state = 'delivered'", "1 answers without a delivery"),
        ("UPDATE message_body SET body = x'00112233445566778899aabbccddeeff00112233'", "sealed values of message_body"),
        ("UPDATE message_body SET message_id = message_id + 100", "bodies without a message"),
        ("UPDATE audit_head SET seal = x''", "audit trail: the seal of the head does not fit"),
    ],
)
async def test_what_is_wrong_with_a_data_folder_is_told(store, samples, statement, fault):
    await some(store, samples)
    await store.close()
    change(store.folder / "engine.db", statement)
    assert fault in "; ".join(backup.verify(store.folder, KEYS))


@pytest.mark.parametrize("column", whole.COLUMNS, ids=lambda column: column.table)
async def test_a_value_of_any_sealed_column_that_does_not_open_is_told(store, samples, column):
    delivery_id = await samples.owed(store)
    message_id = store.delivery(delivery_id).message_id
    large = await store.keep(Pieces([Slice(Bulk(bytes(LARGE)), 0, LARGE)]))
    key = {"scope": "c|caller", "key": "k"}
    long_answer = await samples.owed(store)
    await store.submit(
        Settle(long_answer, DeliveryState.DELIVERED, 5.0, 1, answer=bytes(5000)),
        replace(samples.accept(store), body=large, origin={"source": "rest", "query": {"mrn": "MRN1"}}),
        Settle(delivery_id, DeliveryState.DELIVERED, 5.0, 1, answer=b"MSA|AA"),
        AckSent(message_id, "AA", b"MSA|AA"),
        CachePut("orders", "1", b"value", 9e9),
        OpenKey(**key, body_hash=b"", channel="c", message_id=1, delivery_id=delivery_id, expires_at=9e9),
        CloseKey(**key, status=201, code=None, answer=b"{}"),
    )
    await store.close()
    assert backup.verify(store.folder, KEYS) == []
    change(
        store.folder / "engine.db",
        f"UPDATE {column.table} SET {column.column} = zeroblob(40) WHERE {column.column} <> '' AND sealed > 0",
    )
    assert [fault.partition(" ")[2] for fault in backup.verify(store.folder, KEYS)] == [
        f"sealed values of {column.table} do not open"
    ]


def change(path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)


async def test_a_restored_store_goes_on_with_what_was_unfinished(store, samples, tmp_path):
    done, queued, unrouted = await some(store, samples)
    await store.back_up(tmp_path / "monday")
    unfinished = backup.restore(tmp_path / "monday", tmp_path / "new", KEYS, WHO, replace=False, hold=False)
    assert unfinished == {"queued": 1, "received": 1}
    restored = SqliteStore(tmp_path / "new", KEY)
    recovered = await restored.open()
    assert (recovered.received, recovered.queued) == (1, 1)
    assert restored.delivery(done).state is DeliveryState.DELIVERED
    assert restored.delivery_body(queued) == b"MSH|out"
    assert restored.message_body(unrouted) == b"MSH|"
    (entry,) = restored.audit_rows(FindAudit(act=Act.BACKUP_RESTORED))
    assert (entry.who, entry.facts["numbers"]) == (WHO.text, unfinished)
    assert (await restored.verify_audit()).fault == ""
    await restored.close()


async def test_with_hold_a_person_decides_about_what_was_unfinished(store, samples, tmp_path):
    done, queued, unrouted = await some(store, samples)
    await store.back_up(tmp_path / "monday")
    backup.restore(tmp_path / "monday", tmp_path / "new", KEYS, WHO, replace=False, hold=True)
    restored = SqliteStore(tmp_path / "new", KEY)
    await restored.open()
    held = restored.delivery(queued)
    assert (held.state, held.cause, held.may_be_duplicated) == (DeliveryState.HELD, "restored", True)
    failed = restored.message(unrouted)
    assert (failed.state, failed.cause) == (MessageState.FAILED, "restored")
    assert restored.delivery(done).state is DeliveryState.DELIVERED
    await restored.close()


async def test_a_restore_never_takes_a_folder_by_surprise(store, samples, tmp_path):
    await some(store, samples)
    await store.back_up(tmp_path / "monday")
    with pytest.raises(DataFolderInUse):
        backup.restore(tmp_path / "monday", store.folder, KEYS, WHO, replace=True, hold=False)
    await store.close()
    with pytest.raises(StoreError, match="has a store already"):
        backup.restore(tmp_path / "monday", store.folder, KEYS, WHO, replace=False, hold=False)
    backup.restore(tmp_path / "monday", store.folder, KEYS, WHO, replace=True, hold=False)
    assert [path for path in store.folder.iterdir() if "replaced" in path.name]
    with pytest.raises(StoreError, match="not the one"):
        backup.restore(tmp_path / "monday", tmp_path / "other", {1: bytes(32)}, WHO, replace=False, hold=False)
    change(tmp_path / "monday" / "engine.db", "DELETE FROM audit")
    with pytest.raises(StoreError, match="the backup is not whole"):
        backup.restore(tmp_path / "monday", tmp_path / "another", KEYS, WHO, replace=False, hold=False)
    assert not (tmp_path / "another").exists()
