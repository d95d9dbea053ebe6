"""Rows in every state, written through the contract, and what they must read as for ever.

``versions/NNNN.sql`` are dumps of databases that an engine of schema NNNN filled with ``fill`` and left as a crash
leaves them. ``expect`` holds for each of them after its migration, whatever version the engine has.

A released schema gets its dump from the engine that was released with it:
``python tests/store/every_state.py`` writes the one of the current version.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path

from engine.cache import CachePut
from engine.delivery import DeliveryState, MessageState
from engine.errors import Evidence
from engine.store import SqliteStore, database, schema
from engine.store.base import (
    Accept,
    AckSent,
    CloseKey,
    Find,
    NewDelivery,
    OpenKey,
    Route,
    Sending,
    Settle,
)

KEY = bytes(range(32))
NOW = 1_000_000.0
VERSIONS = Path(__file__).parent / "versions"

PATIENT = "MRN-4711"
ORIGIN = {"source": "rest", "peer": "10.0.0.9", "api_key": "portal", "query": {"mrn": PATIENT}, "headers": {"a": "b"}}
EVIDENCE = Evidence("AE", "204", "PID-3", "SLOT_TAKEN")
#: Bytes outside a message's charset are lone surrogates in its text.
STRANGE = "K\udce4se"


def _body(number: int) -> bytes:
    return f"MSH|^~\\&|A|B|C|D|2026||ADT^A01|C{number}|P|2.5\rPID|1||{PATIENT}^^^H\r".encode()


async def fill(store: SqliteStore) -> None:
    """One message of every state, one delivery of every state with what belongs to it, cache entries and keys."""
    for state in MessageState:
        message_id = store.new_id()
        first = MessageState.REFUSED if state is MessageState.REFUSED else MessageState.RECEIVED
        accept = Accept(
            message_id,
            f"in-{state}",
            f"correlation-{state}",
            NOW + message_id,
            _body(message_id),
            STRANGE if state is MessageState.FILTERED else f"C{message_id}",
            "ADT^A01",
            key=PATIENT,
            state=first,
            cause="malformed" if state is MessageState.REFUSED else "",
            origin=ORIGIN,
        )
        await store.submit(accept)
        if state is not first:
            cause = "step lookup: missing" if state is MessageState.FAILED else ""
            await store.submit(Route(message_id, accept.channel, accept.correlation_id, state, NOW + 50, cause))
            await store.submit(AckSent(message_id, "AE" if state is MessageState.FAILED else "AA"))
    for number, state in enumerate(DeliveryState):
        await _owed(store, number, state)
    await _at_once(store)
    await store.submit(CachePut("orders", PATIENT, b"order of " + PATIENT.encode(), NOW + 1e9))
    await store.submit(CachePut("orders", STRANGE, b"", NOW + 1e9))
    closed = OpenKey("booking|app", "order-1", b"hash", "booking", 1, 2, NOW + 1e9, {"body.mrn": PATIENT})
    waiting = OpenKey("booking|app", "order-2", b"hash", "booking", 3, 4, NOW + 1e9, {"body.mrn": PATIENT})
    await store.submit(
        closed, waiting, CloseKey(closed.scope, closed.key, 201, None, b"answer for " + PATIENT.encode())
    )


async def _owed(store: SqliteStore, number: int, state: DeliveryState) -> None:
    message_id, delivery_id = store.new_id(), store.new_id()
    accept = Accept(message_id, "lanes", f"lane-{state}", NOW + message_id, _body(message_id), f"C{message_id}")
    settled = state in (DeliveryState.DELIVERED, DeliveryState.DISCARDED, DeliveryState.PARKED)
    delivery = NewDelivery(
        delivery_id,
        "epic",
        "" if number % 2 else PATIENT,
        b"to send: " + _body(message_id),
        f"O{number}",
        state=DeliveryState.QUEUED if settled or state is DeliveryState.SENDING else state,
        interrupted=DeliveryState.HELD,
        sealed=state is DeliveryState.UNKNOWN,
    )
    route = Route(message_id, "lanes", accept.correlation_id, MessageState.ROUTED, NOW + 50, deliveries=(delivery,))
    await store.submit(accept, route)
    if settled:
        await store.submit(
            Settle(delivery_id, state, NOW + 60, 2, "rejected", evidence=EVIDENCE, answer=b"MSA|AE|" + PATIENT.encode())
        )
    elif state is DeliveryState.SENDING:
        await store.submit(Sending(delivery_id, NOW + 55, 1))


async def _at_once(store: SqliteStore) -> None:
    """A message that was routed as it came: what was received, what is sent of it, and the same again."""
    message_id = store.new_id()
    bodies = (b"to send: " + _body(message_id), b"to send: " + _body(message_id), _body(message_id))
    accept = Accept(
        message_id,
        "at once",
        "at-once",
        NOW + message_id,
        _body(message_id),
        state=MessageState.ROUTED,
        at=NOW + 50,
        deliveries=tuple(NewDelivery(store.new_id(), f"to {at}", "", body) for at, body in enumerate(bodies)),
    )
    await store.submit(accept)
    first, second, _ = (delivery.delivery_id for delivery in accept.deliveries)
    for delivery_id, answer in ((first, b"MSA|AE|" + PATIENT.encode()), (second, bytes(5000))):
        settle = Settle(delivery_id, DeliveryState.PARKED, NOW + 60, 1, evidence=EVIDENCE, answer=answer)
        await store.submit(settle)


def expect(store: SqliteStore) -> None:
    """What ``fill`` wrote is there, after a crash and a start."""
    for state in MessageState:
        (row,) = store.find(Find(correlation_id=f"correlation-{state}"))
        assert (row.state, row.channel, row.origin) == (state, f"in-{state}", ORIGIN)
        assert row.control_id == (STRANGE if state is MessageState.FILTERED else f"C{row.message_id}")
        assert store.message_body(row.message_id) == _body(row.message_id)
        assert [found.message_id for found in store.find(Find(channel=row.channel, state=str(state)))] == [
            row.message_id
        ]
    lanes: dict[str, set[str]] = {"": set(), PATIENT: set()}
    for number, state in enumerate(DeliveryState):
        (message,), (delivery,) = store.trace(f"lane-{state}")
        lanes["" if number % 2 else PATIENT].add(delivery.key)
        expected = DeliveryState.HELD if state is DeliveryState.SENDING else state
        assert (delivery.state, delivery.control_id) == (expected, f"O{number}")
        assert store.delivery_body(delivery.delivery_id) == b"to send: " + _body(message.message_id)
        assert message in store.find(Find(control_id=f"O{number}"))
        assert message in store.find(Find(delivery_state=str(expected)))
        if delivery.evidence is not None:
            assert delivery.evidence == EVIDENCE
            assert store.delivery_answer(delivery.delivery_id) == b"MSA|AE|" + PATIENT.encode()
    messages, deliveries = store.trace("at-once")
    for message in messages:  # of versions since 12
        body = _body(message.message_id)
        assert store.message_body(message.message_id) == body
        sent = [store.delivery_body(delivery.delivery_id) for delivery in deliveries]
        assert sent == [b"to send: " + body, b"to send: " + body, body]
        answers = [store.delivery_answer(delivery.delivery_id) for delivery in deliveries]
        assert answers == [b"MSA|AE|" + PATIENT.encode(), bytes(5000), b""]
    assert lanes == {"": {""}, PATIENT: {store.lane_key(PATIENT)}}, "old and new deliveries share lanes"
    waiting = {row.state for row in store.queued("lanes", "epic", 0, 100)}
    assert waiting == {DeliveryState.QUEUED, DeliveryState.HELD}
    assert store.cache_get("orders", PATIENT, NOW) == b"order of " + PATIENT.encode()
    assert store.cache_get("orders", STRANGE, NOW) == b""
    assert [row.status for row in store.find_keys("booking", "body.mrn", PATIENT, NOW)] == [201, None]
    kept = store.find_key("booking|app", "order-1", NOW)
    assert kept is not None
    assert kept.answer == b"answer for " + PATIENT.encode()
    assert store.find_key("booking|app", "order-2", NOW) is not None


def database_of(dump: Path, folder: Path) -> None:
    """Make a data folder whose database is ``dump``."""
    folder.mkdir(mode=0o700, exist_ok=True)
    connection = sqlite3.connect(folder / database.DATABASE_FILE)
    for pragma in ("page_size = 8192", "auto_vacuum = INCREMENTAL", "journal_mode = WAL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.executescript(dump.read_text(encoding="utf-8"))
    connection.close()


async def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder), KEY, now=lambda: NOW)
        await store.open()
        await fill(store)
        reader = database.connect_reader(Path(folder))
        dump = "\n".join(reader.iterdump()) + "\n"
        (VERSIONS / f"{schema.version_of(reader):04}.sql").write_text(dump, encoding="utf-8")
        reader.close()
        await store.close()


if __name__ == "__main__":
    asyncio.run(_write())
