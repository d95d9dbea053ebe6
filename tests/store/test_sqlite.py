"""The data folder of the embedded store: who may have it, what a crash leaves, what can be read from its bytes."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engine.cache import CachePut
from engine.delivery import DeliveryState
from engine.errors import DataFolderInUse, StoreError
from engine.store import SqliteStore
from engine.store.base import CloseKey, Find, OpenKey, Requeue, Settle
from engine.store.database import durability

KEY = bytes(range(32))
NAME = b"PLANTED^NAME"
NOW = 1_000_000.0


def process(code: str, folder: Path) -> subprocess.Popen[str]:
    """Another Python that runs ``code`` with the folder as its argument."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )


# -- the folder ----------------------------------------------------------------------------------------------------


async def test_the_folder_and_its_files_are_the_owners_alone(sqlite, samples):
    await samples.message(sqlite)
    assert sqlite.folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in sqlite.folder.iterdir()}
    assert modes == dict.fromkeys(("engine.db", "engine.db-wal", "engine.db-shm", "engine.lock"), 0o600)


async def test_a_folder_that_others_could_read_is_closed_to_them(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    (folder / "engine.db").touch(mode=0o644)
    store = SqliteStore(folder, KEY)
    await store.open()
    await store.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "engine.db").stat().st_mode & 0o777 == 0o600


async def test_one_connection_writes_durably_and_the_other_cannot(sqlite):
    writer, reader = sqlite._state.group._transaction._connection, sqlite._state.reader

    def pragma(name: str) -> object:
        return writer.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("journal_mode"), pragma("synchronous"), pragma("auto_vacuum")) == ("wal", 2, 2)
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM message")


async def test_opening_tells_how_the_connection_that_writes_commits(tmp_path):
    store = SqliteStore(tmp_path / "data", KEY)
    assert (await store.open()).durability == "journal_mode=wal synchronous=FULL"
    store._state.group._transaction._connection.execute("PRAGMA synchronous = NORMAL")
    assert durability(store._state.group._transaction._connection) == "journal_mode=wal synchronous=NORMAL"
    await store.close()


async def test_a_second_store_is_refused_and_told_who_has_the_folder(sqlite):
    with pytest.raises(DataFolderInUse) as caught:
        await SqliteStore(sqlite.folder, KEY).open()
    assert str(sqlite.folder) in str(caught.value)
    assert f"process {os.getpid()}" in str(caught.value)


async def test_a_second_process_is_refused_until_the_first_lets_go(tmp_path):
    with process(
        """
        import asyncio, sys
        from pathlib import Path
        from engine.store import SqliteStore

        async def main():
            store = SqliteStore(Path(sys.argv[1]), bytes(range(32)))
            await store.open()
            print("open", flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """,
        tmp_path,
    ) as other:
        assert other.stdout.readline() == "open\n"
        store = SqliteStore(tmp_path, KEY)
        with pytest.raises(DataFolderInUse, match=rf"process {other.pid}\b"):
            await store.open()
        other.kill()
        other.wait()
        await store.open()
        await store.close()


async def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "engine.db").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StoreError, match=r"data cannot be used: SQLITE_NOTADB"):
        await SqliteStore(tmp_path / "data", KEY).open()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used"):
        await SqliteStore(tmp_path / "file", KEY).open()
    (tmp_path / "data" / "engine.db").unlink()
    store = SqliteStore(tmp_path / "data", KEY)  # the failed ones let go of the folder
    await store.open()
    await store.close()


# -- what can be read from the bytes -------------------------------------------------------------------------------


async def test_sealed_content_is_in_no_byte_of_the_files(sqlite, samples):
    await sqlite.submit(CachePut("orders", "P1", b"name: " + NAME, NOW + 10))
    await samples.owed(sqlite, body=b"to send: " + NAME, sealed=True)
    parked = await samples.owed(sqlite, body=b"", state=DeliveryState.PARKED)
    await sqlite.submit(Requeue(parked, NOW, b"made later: " + NAME, sealed=True))
    assert sqlite.delivery_body(parked) == b"made later: " + NAME
    key = OpenKey("booking|app", NAME.decode(), b"hash", "booking", 1, 2, NOW + 10, {"body.patient": NAME.decode()})
    await sqlite.submit(key, CloseKey(key.scope, key.key, 201, None, b"answer: " + NAME))
    assert sqlite.cache_get("orders", "P1", NOW) == b"name: " + NAME
    before = b"".join(path.read_bytes() for path in sqlite.folder.iterdir())
    await sqlite.close()
    after = b"".join(path.read_bytes() for path in sqlite.folder.iterdir())
    assert b"booking|app" in before
    assert b"booking|app" in after
    assert NAME not in before + after


async def test_a_changed_or_moved_value_does_not_open(sqlite, samples):
    await sqlite.submit(CachePut("orders", "P1", NAME, NOW + 10), CachePut("orders", "P2", b"other", NOW + 10))
    delivery_id = await samples.owed(sqlite, body=NAME, sealed=True)
    writer = sqlite._state.group._transaction._connection
    writer.execute("UPDATE cache SET value = (SELECT value FROM cache WHERE id = 1) WHERE id = 2")
    writer.execute("UPDATE delivery_body SET body = zeroblob(60) WHERE delivery_id = ?", [delivery_id])
    for read in (lambda: sqlite.cache_get("orders", "P2", NOW), lambda: sqlite.delivery_body(delivery_id)):
        with pytest.raises(StoreError, match="does not open") as caught:
            read()
        assert "PLANTED" not in str(caught.value)
    assert sqlite.cache_get("orders", "P1", NOW) == NAME


async def test_another_store_key_is_refused_at_open(sqlite):
    await sqlite.close()
    with pytest.raises(StoreError, match="store key"):
        await SqliteStore(sqlite.folder, bytes(32)).open()
    await sqlite.open()


def test_a_store_key_has_32_bytes(tmp_path):
    with pytest.raises(StoreError, match="16 bytes"):
        SqliteStore(tmp_path, bytes(16))


async def test_expired_rows_are_removed_a_few_at_a_time(sqlite, clock):
    def left() -> list[int]:
        tables = ("cache", "exchange_key", "key_member")
        return [sqlite._state.reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]

    for number in range(150):
        key = OpenKey(
            "booking|app", f"K{number}", b"", "booking", 1, 2, NOW + 1, {"body.a": f"{number}", "body.b": "x"}
        )
        await sqlite.submit(CachePut("orders", f"P{number}", b"value", NOW + 1), key)
    clock.at = NOW + 1
    seen = [left()]
    while seen[-1] != [0, 0, 0]:
        await sqlite.submit()
        if (now := left()) != seen[-1]:
            seen.append(now)
    assert seen == [[150, 150, 300], [50, 50, 100], [0, 0, 0]]


# -- crash ---------------------------------------------------------------------------------------------------------


async def test_a_run_that_did_not_end_in_order_is_known_at_the_next_start(tmp_path, samples):
    first = SqliteStore(tmp_path / "data", KEY)
    assert not (await first.open()).crashed, "there was no run before"
    assert first.in_doubt_up_to == 0
    message_id = await samples.message(first)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")  # what a kill would have left
    await first.close()
    assert not (await first.open()).crashed
    await first.close()

    crashed = SqliteStore(tmp_path / "copy", KEY)
    assert (await crashed.open()).crashed
    assert crashed.in_doubt_up_to >= message_id
    await crashed.close()
    assert not (await crashed.open()).crashed
    await crashed.close()


async def test_the_doubt_about_a_crash_ends_when_nothing_waits_any_more_that_it_may_have_sent(tmp_path, samples):
    first = SqliteStore(tmp_path / "data", KEY)
    await first.open()
    delivery_id = await samples.owed(first)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    await first.close()

    store = SqliteStore(tmp_path / "copy", KEY)
    for crashed in (True, False):
        assert (await store.open()).crashed is crashed
        assert store.in_doubt_up_to >= delivery_id
        await samples.owed(store)
        await store.close()
    await store.open()
    await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, 5.0, 1))
    await store.close()
    await store.open()
    assert store.in_doubt_up_to == 0
    await store.close()


async def test_nothing_that_was_promised_is_lost_by_a_kill(tmp_path):
    with process(
        """
        import asyncio, sys
        from pathlib import Path
        from engine.delivery import MessageState
        from engine.store import SqliteStore
        from engine.store.base import Accept, NewDelivery, Route

        async def messages(store):
            while True:
                message_id, delivery_id = store.new_id(), store.new_id()
                await store.submit(Accept(message_id, "siu", "c", 1.0, b"x" * 500))
                delivery = NewDelivery(delivery_id, "epic", "", b"y" * 500)
                await store.submit(Route(message_id, "siu", "c", MessageState.ROUTED, 2.0, deliveries=(delivery,)))
                print(message_id, delivery_id, flush=True)

        async def main():
            store = SqliteStore(Path(sys.argv[1]), bytes(range(32)))
            await store.open()
            await asyncio.gather(*(messages(store) for _ in range(16)))

        asyncio.run(main())
        """,
        tmp_path,
    ) as other:
        promised = [other.stdout.readline() for _ in range(2000)]
        other.send_signal(signal.SIGKILL)
        promised += [line for line in other.stdout if line.endswith("\n")]
    store = SqliteStore(tmp_path, KEY)
    recovered = await store.open()
    assert recovered.queued >= len(promised) >= 2000
    highest = 0
    for line in promised:
        message_id, delivery_id = map(int, line.split())
        assert len(store.message_body(message_id)) == 500
        assert store.delivery(delivery_id).message_id == message_id
        highest = max(highest, delivery_id)
    assert store.new_id() > max(highest, *(row.message_id for row in store.find(Find(limit=1))))
    assert store._state.reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    await store.close()
