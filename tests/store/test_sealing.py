"""Encryption at rest: what can be read from the files, keys that are wrong, and rotation without a stop."""

from __future__ import annotations

import asyncio
import sqlite3
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cache import CachePut
from engine.delivery import DeliveryState, MessageState
from engine.errors import DoesNotOpen, StoreError
from engine.hl7.bulk import Pieces
from engine.store import SqliteStore, database, ring, schema, sqlite
from engine.store.base import Accept, AckSent, CloseKey, Find, NewDelivery, OpenKey, Route, Settle
from engine.store.crypto import Crypto, joined, row_places
from engine.store.whole import COLUMNS

from .every_state import KEY, NOW, PATIENT, VERSIONS, database_of, expect, fill

SECOND, THIRD = bytes(range(1, 33)), bytes(range(2, 34))
NAME = b"PLANTED^NAME"
#: The beginning of an answer that has a row of its own.
LONG = b"MSA|AA|" + bytes(5000)


@pytest.fixture
def make(tmp_path):
    """Makes stores on one folder."""
    return lambda keys=KEY, **options: SqliteStore(tmp_path / "data", keys, now=lambda: NOW, **options)


async def test_no_nonce_is_used_twice_or_kept_for_another_transaction(make, samples):
    store = make()
    await store.open()
    for _ in range(3):
        await asyncio.gather(*(store.submit(samples.accept(store, body=b"the same")) for _ in range(50)))
        assert store._crypto._drawn == []
    bodies = store._opened.reader.execute("SELECT body FROM message_body").fetchall()
    assert len({body[:12] for (body,) in bodies}) == len(bodies) == 150
    await store.close()


@given(st.text(st.characters(codec=None), max_size=80))
def test_hashes_that_are_made_in_a_shorter_way_are_the_same(value):
    crypto = Crypto({1: KEY})
    crypto.use_hash_key(bytes(range(32)))
    assert crypto.patient_hash(value) == crypto.hashed("patient", value)[:16]
    encoded = urlsafe_b64encode(crypto.hashed("lane", value)[:16]).rstrip(b"=").decode()
    assert crypto.lane_key(value) == ("\x01" + encoded if value else "")


def test_what_partners_choose_is_hashed_and_kept_if_it_is_short():
    crypto = Crypto({1: KEY})
    crypto.use_hash_key(bytes(range(32)))
    for text in ("short", "long" * 1000):
        for _ in range(2):
            assert crypto.patient_hash(text) == crypto.hashed("patient", text)[:16]
            assert crypto.key_hash((text, "key")) == crypto.hashed("exchange_key", text, "key")
            crypto.lane_key(text)
    kept = [of.__self__ for of in (crypto.patient_hash, crypto.lane_key, crypto.key_hash)]
    assert [list(memory) for memory in kept] == [["short"], ["", "short"], [("short", "key")]]


@given(st.integers(0, (1 << 63) - 1))
def test_a_row_s_value_opens_at_its_place_and_at_no_other(row_id):
    crypto = Crypto({1: KEY})
    number, sealed = crypto.seal_row(b"value", row_places("message_body"), row_id)
    assert crypto.open(number, bytes(sealed), joined("message_body", str(row_id))) == b"value"
    with pytest.raises(DoesNotOpen):
        crypto.open(number, bytes(sealed), joined("message_body", str(row_id + 1)))


def content(store) -> bytes:
    """Every byte of the folder."""
    return b"".join(path.read_bytes() for path in sorted(store.folder.iterdir()) if path.is_file())


def rows(store) -> list[str]:
    """Everything that the database of a closed store holds."""
    connection = sqlite3.connect(store.folder / database.DATABASE_FILE)
    dump = list(connection.iterdump())
    connection.close()
    return dump


def numbers(store) -> dict[str, set[int]]:
    """Table → the keys that its rows are sealed with."""
    reader = store._state.reader
    return {
        sealed.table: {
            number
            for (number,) in reader.execute(
                f"SELECT DISTINCT sealed FROM {sealed.table} WHERE {sealed.column} IS NOT NULL"
            )
        }
        for sealed in COLUMNS
    }


async def write(store, name: bytes = NAME) -> tuple[int, int]:
    """A delivered message, a cache entry and an answer under a key, all of which hold ``name``."""
    message_id, delivery_id = store.new_id(), store.new_id()
    text = name.decode()
    accept = Accept(
        message_id,
        "siu",
        f"c{message_id}",
        NOW,
        b"MSH|" + name,
        key=text,
        origin={"source": "rest", "peer": "1.2.3.4", "query": {"name": text}, "headers": {"x-name": text}},
        patients=(text,),
    )
    await store.submit(accept)
    delivery = NewDelivery(delivery_id, "epic", text, b"to send " + name)
    large = NewDelivery(store.new_id(), "archive", text, await store.keep(Pieces([b"in parts ", name])))
    route = Route(message_id, "siu", f"c{message_id}", MessageState.ROUTED, NOW, deliveries=(delivery, large))
    await store.submit(route)
    await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, NOW, 1, answer=b"MSA|AA|" + name))
    await store.submit(Settle(large.delivery_id, DeliveryState.DELIVERED, NOW, 1, answer=LONG + name))
    await store.submit(AckSent(message_id, "AA", b"passed on " + name))
    key = OpenKey("booking|app", text, b"hash", "booking", 1, 2, NOW + 10, {"body.patient": text})
    await store.submit(CachePut("orders", text, b"order " + name, NOW + 10), key)
    await store.submit(CloseKey(key.scope, key.key, 201, None, b"answer " + name))
    return message_id, delivery_id


def read(store, ids: tuple[int, int], name: bytes = NAME) -> None:
    """What ``write`` wrote reads as it was written."""
    message_id, delivery_id = ids
    text = name.decode()
    row = store.message(message_id)
    assert row.origin["query"] == {"name": text}
    assert row.key == store.lane_key(text) == store.delivery(delivery_id).key
    assert store.message_body(message_id) == b"MSH|" + name
    assert store.delivery_body(delivery_id) == b"to send " + name
    large = store.deliveries_of(message_id)[1].delivery_id
    assert store.delivery_body(large) == b"in parts " + name
    assert store.delivery_answer(large) == LONG + name
    assert store.delivery_answer(delivery_id) == b"MSA|AA|" + name
    assert store.message_ack(message_id) == b"passed on " + name
    assert store.cache_get("orders", text, NOW) == b"order " + name
    assert store.find_key("booking|app", text, NOW).answer == b"answer " + name
    assert [key.status for key in store.find_keys("booking", "body.patient", text, NOW)] == [201]
    assert message_id in [found.message_id for found in store.find(Find(patient=text))]


# -- what can be read from the bytes -------------------------------------------------------------------------------


async def test_nothing_of_a_message_is_in_any_byte_of_the_files(make):
    store = make()
    await store.open()
    ids = await write(store)
    read(store, ids)
    while_open = content(store)
    await store.close()
    assert b"epic" in while_open
    assert NAME not in while_open + content(store)


async def test_a_site_may_keep_bodies_plain_and_still_seals_caches_keys_and_answers(make):
    store = make(encrypt=False)
    await store.open()
    ids = await write(store)
    read(store, ids)
    await store.close()
    kept = content(store)
    assert b"MSH|" + NAME in kept
    for never in (b"order " + NAME, b"answer " + NAME):
        assert never not in kept


async def test_a_sealed_value_is_bound_to_its_row(make):
    store = make()
    await store.open()
    first, second = await write(store, b"ONE"), await write(store, b"TWO")
    writer = store._state.group._transaction._connection
    for table, name, row_id, column in (("message_body", "message_id", 0, "body"), ("delivery", "id", 1, "answer")):
        writer.execute(
            f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE {name} = ?) WHERE {name} = ?",
            (first[row_id], second[row_id]),
        )
    for moved in (lambda: store.message_body(second[0]), lambda: store.delivery_answer(second[1])):
        with pytest.raises(StoreError, match="does not open"):
            moved()
    assert store.message_body(first[0]) == b"MSH|ONE"
    await store.close()


def test_every_column_that_is_sealed_is_known_to_the_rotation(tmp_path):
    connection = sqlite3.connect(":memory:")
    ring.before_migration(connection, Crypto({1: KEY}))
    schema.migrate(connection)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} for table in tables}
    assert {table for table in tables if "sealed" in columns[table]} == {known.table for known in COLUMNS}


# -- keys that are wrong -------------------------------------------------------------------------------------------


async def test_a_wrong_key_is_told_at_the_start_and_changes_nothing(make):
    store = make()
    await store.open()
    await write(store)
    await store.close()
    before = rows(store)
    with pytest.raises(StoreError, match=r"store key 1 is not the one this data folder was written with"):
        await make(SECOND).open()
    assert rows(store) == before


async def test_a_missing_key_is_named(make):
    store = make({1: KEY, 2: SECOND})
    await store.open()
    await store.close()
    with pytest.raises(StoreError, match=r"sealed with store key 2, which is not given"):
        await make({1: KEY}).open()


async def test_a_wrong_key_on_a_folder_of_the_first_version_is_told_before_it_is_migrated(make):
    store = make(SECOND)
    database_of(VERSIONS / "0001.sql", store.folder)
    with pytest.raises(StoreError, match="store key 1 is not the one"):
        await store.open()
    connection = sqlite3.connect(store.folder / database.DATABASE_FILE)
    assert connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() == (1,)
    connection.close()


async def test_a_crash_between_migration_and_start_keeps_the_hashes_of_the_first_version(make):
    store = make()
    database_of(VERSIONS / "0001.sql", store.folder)
    database.connect_writer(store.folder, Crypto({1: KEY})).close()  # migrated, and no more
    await store.open()
    expect(store)
    await store.close()


# -- rotation ------------------------------------------------------------------------------------------------------


async def reseal_all(store) -> int:
    """Run the pass to its end; gives how many units it took."""
    units = 0
    while store.resealing() is not None:
        await store.reseal()
        units += 1
    return units


async def test_a_further_key_seals_what_is_new_at_once_and_the_rest_follows(make):
    store = make()
    await store.open()
    old = await write(store, b"OLD")
    assert store.resealing() is None
    assert await store.use_keys({1: KEY, 2: SECOND}) == 2
    new = await write(store, b"NEW")
    assert numbers(store)["message_body"] == {1, 2}
    read(store, old, b"OLD")
    read(store, new, b"NEW")
    assert await reseal_all(store) > 1
    assert all(found == {2} for found in numbers(store).values())
    assert [(key.number, key.retired_at) for key in store.store_keys()] == [(1, NOW), (2, None)]
    await store.close()
    again = make({2: SECOND})  # the old key is not needed any more
    await again.open()
    read(again, old, b"OLD")
    read(again, new, b"NEW")
    assert again.resealing() is None
    await again.close()


async def test_a_key_that_was_added_before_the_start_begins_a_rotation(make):
    store = make()
    await store.open()
    old = await write(store)
    await store.close()
    again = make({1: KEY, 2: SECOND})
    await again.open()
    assert again.resealing() is not None
    await reseal_all(again)
    read(again, old)
    await again.close()
    with pytest.raises(StoreError, match="store key 2, which is not given"):
        await make({1: KEY}).open()


async def test_a_rotation_goes_on_after_a_crash_at_any_unit(make, monkeypatch):
    monkeypatch.setattr(sqlite, "_RESEAL_ROWS", 2)
    store = make()
    await store.open()
    ids = [await write(store, f"NAME{number}".encode()) for number in range(5)]
    await store.use_keys({1: KEY, 2: SECOND})
    units = 0
    while store.resealing() is not None:
        await store.reseal()
        units += 1
        store._state.files.close()  # a crash: nothing is settled
        store = make({1: KEY, 2: SECOND})
        await store.open()
        for number, one in enumerate(ids):
            read(store, one, f"NAME{number}".encode())
    assert units > len(numbers(store))
    assert all(found == {2} for found in numbers(store).values())
    assert [key.number for key in store.store_keys() if key.retired_at is None] == [2]
    await store.close()


async def test_a_second_rotation_begins_before_the_first_has_ended(make):
    store = make()
    await store.open()
    ids = await write(store)
    await store.use_keys({1: KEY, 2: SECOND})
    await store.reseal()
    await store.use_keys({1: KEY, 2: SECOND, 3: THIRD})
    await reseal_all(store)
    assert all(found == {3} for found in numbers(store).values())
    assert [key.number for key in store.store_keys() if key.retired_at is None] == [3]
    await store.close()
    again = make({3: THIRD})
    await again.open()
    read(again, ids)
    await again.close()


async def test_writing_goes_on_between_the_units_of_a_rotation(make):
    store = make()
    await store.open()
    written = {f"A{number}": await write(store, f"A{number}".encode()) for number in range(20)}
    await store.use_keys({1: KEY, 2: SECOND})
    while store.resealing() is not None:
        name = f"B{len(written)}"
        resealing = store.reseal()
        written[name] = await write(store, name.encode())
        await resealing
    assert all(found == {2} for found in numbers(store).values())
    for name, ids in written.items():
        read(store, ids, name.encode())
    await store.close()


async def test_a_key_below_the_one_in_use_is_refused(make):
    store = make({1: KEY, 2: SECOND})
    await store.open()
    with pytest.raises(StoreError, match="no store key above 2"):
        await store.use_keys({1: KEY, 2: SECOND})
    await store.close()


async def test_what_the_first_version_stored_plain_is_sealed_in_the_background(make):
    store = make()
    database_of(VERSIONS / "0001.sql", store.folder)
    assert PATIENT.encode() in content(store)
    await store.open()
    expect(store)
    await reseal_all(store)
    expect(store)
    await store.close()  # empties the log into the database
    assert PATIENT.encode() not in content(store)


async def test_what_was_stored_plain_by_choice_is_sealed_when_the_choice_changes(make):
    store = make(encrypt=False)
    await store.open()
    ids = await write(store)
    assert store.resealing() is None
    await store.close()
    again = make()
    await again.open()
    read(again, ids)
    await reseal_all(again)
    read(again, ids)
    await again.close()
    assert NAME not in content(again)


async def test_a_rotation_of_a_site_that_keeps_bodies_plain_seals_only_what_is_sealed(make):
    store = make(encrypt=False)
    await store.open()
    ids = await write(store)
    await store.use_keys({1: KEY, 2: SECOND})
    await reseal_all(store)
    found = numbers(store)
    assert (found["message_body"], found["cache"], found["exchange_key"]) == ({0}, {2}, {2})
    await store.close()
    again = make({2: SECOND}, encrypt=False)
    await again.open()
    read(again, ids)
    await again.close()


async def test_rows_of_every_state_survive_a_rotation(make):
    store = make()
    await store.open()
    await fill(store)
    store._state.files.close()
    again = make({1: KEY, 2: SECOND})
    await again.open()
    await reseal_all(again)
    expect(again)
    await again.close()
