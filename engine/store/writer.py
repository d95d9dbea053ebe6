"""Turns operations into statements, inside a transaction that ``group_commit.py`` begins and commits.

Each operation has one method; which earlier states a change may come from is read from the tables of ``delivery.py``.
What does not fit (an unknown id, a move the tables do not have) raises StoreError, and nothing of the unit is kept.
Closing or dropping a key, forgetting a cache entry: what is gone already is no fault.
"""
# ruff: noqa: S608  # put together from this file's own words only

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from engine.cache import CacheForget, CachePut
from engine.delivery import DELIVERY_MOVES, MESSAGE_MOVES, WORDS, DeliveryState, MessageState
from engine.errors import Evidence, StoreError
from engine.hl7.bulk import Pieces
from engine.json_text import writer
from engine.store import base, queries
from engine.store.absent import Absent
from engine.store.audit_writer import AuditWriter
from engine.store.crypto import Crypto, hash_place, row_place, row_places
from engine.store.parts import PartWriter
from engine.store.patients import PatientWriter
from engine.store.pruning import PruneWriter
from engine.store.stored import cache_hash, key_hash, member_hash, tells_more, text, written_members
from engine.store.upkeep import Upkeep

_ORIGIN = writer()


#: Members of the origin of most messages: the connector and the peer.
_BARE = 2


@lru_cache(maxsize=1024)
def _bare_origin(*members: tuple[str, Any]) -> str:
    """The origin of whatever comes over one connection."""
    return _ORIGIN(dict(members))


def _is_one_of(states: Iterable[str]) -> str:
    """The condition that a row is in one of these. For a list of more than two words SQLite makes a table each time."""
    words = [f"'{state}'" for state in sorted(states)]
    pairs = [f"state IN ({', '.join(words[at : at + 2])})" for at in range(0, max(1, len(words)), 2)]
    return f"({' OR '.join(pairs)})"


def _may_become(state: DeliveryState) -> set[DeliveryState]:
    return {before for before, after in DELIVERY_MOVES.items() if state in after}


#: Nothing waits for anybody any more.
_FINISHED = {DeliveryState.DELIVERED, DeliveryState.DISCARDED}

_INSERT_MESSAGE = """
INSERT INTO message
(id, channel, correlation_id, control_id, message_type, key, state, cause, received_at, routed_at, ack, origin, sealed,
    patients)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_MESSAGE_BODY = "INSERT INTO message_body (message_id, sealed, body) VALUES (?, ?, ?)"
_ROUTE = {
    state: f"UPDATE message SET state = '{state}', cause = ?, routed_at = ? WHERE id = ? AND "
    + _is_one_of(before for before, after in MESSAGE_MOVES.items() if state in after)
    for state in MessageState
}
_REOPEN = """
UPDATE message SET state = 'received', cause = '', routed_at = NULL
WHERE id = ? AND state = 'failed' AND bodies_removed_at IS NULL"""
# Undecided is ''; 'owed' is undecided too, and goes out on a connection of its own.
_ACK_SENT = "UPDATE message SET ack = CASE WHEN ack IN ('', 'owed') THEN ? ELSE ack END WHERE id = ?"
_ACK_OWED = "UPDATE message SET ack = ? WHERE id = ? AND ack IN ('', 'owed')"
_PUT_ACK = "INSERT OR IGNORE INTO message_ack (message_id, sealed, answer) VALUES (?, ?, ?)"

_INSERT_DELIVERY = """
INSERT INTO delivery
(id, message_id, channel, destination, key, state, cause, control_id, content_type, interrupted, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# One that is on its way, or at its end, by the time it is written.
_INSERT_BEGUN = """
INSERT INTO delivery
(id, message_id, channel, destination, key, state, cause, control_id, content_type, interrupted, created_at,
 sent_at, attempts, settled_at, next_at, may_be_duplicated, ack, condition, location, application_error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# A further attempt may begin without anything having been written about the one before.
_SENDING = f"""
UPDATE delivery SET state = 'sending', sent_at = ?, attempts = ?, settled_at = NULL
WHERE id = ? AND {_is_one_of(_may_become(DeliveryState.SENDING) | {DeliveryState.SENDING})}"""
# What is on its way is not sent again by a person: it would go out twice.
_REQUEUE = f"""
UPDATE delivery SET state = 'queued', cause = ?, next_at = 0, settled_at = NULL,
    may_be_duplicated = may_be_duplicated OR state IN ('delivered', 'unknown')
WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = message_id AND m.bodies_removed_at IS NOT NULL)
AND id = ? AND {_is_one_of(_may_become(DeliveryState.QUEUED) - {DeliveryState.SENDING})}"""


def _settle(state: DeliveryState, evidence: str) -> str:
    return f"""
UPDATE delivery SET state = '{state}', settled_at = CASE '{state}' WHEN 'queued' THEN NULL ELSE ? END,
    cause = ?, attempts = ?, next_at = ?, may_be_duplicated = may_be_duplicated OR ?,
    sent_at = COALESCE(?, sent_at){evidence}
WHERE id = ? AND {_is_one_of(_may_become(state))}"""


_SETTLE = {state: _settle(state, "") for state in DeliveryState}
_SETTLE_WITH_EVIDENCE = {
    state: _settle(state, ", ack = ?, condition = ?, location = ?, application_error = ?") for state in DeliveryState
}
_READDRESS = f"""
UPDATE delivery SET destination = ? WHERE id = ? AND {_is_one_of(set(DeliveryState) - _FINISHED)}"""
_NAME_DELIVERY = "UPDATE delivery SET control_id = ?, content_type = ? WHERE id = ?"
_PUT_ANSWER = "INSERT OR REPLACE INTO delivery_answer (delivery_id, sealed, answer) VALUES (?, ?, ?)"
_DELETE_ANSWER = "DELETE FROM delivery_answer WHERE delivery_id = ?"
_PUT_BODY = "INSERT OR REPLACE INTO delivery_body (delivery_id, sealed, body) VALUES (?, ?, ?)"

_PAUSE = "INSERT OR IGNORE INTO pause (channel, destination, since) VALUES (?, ?, ?)"
_RESUME = "DELETE FROM pause WHERE channel = ? AND destination = ?"

_CACHE_PUT = """
INSERT INTO cache (cache, key, sealed, value, expires_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (cache, key) DO UPDATE
SET sealed = excluded.sealed, value = excluded.value, expires_at = excluded.expires_at"""
_CACHE_FORGET = "DELETE FROM cache WHERE cache = ? AND key = ?"
_OPEN_KEY = """
INSERT INTO exchange_key (scope, key, body_hash, channel, message_id, delivery_id, expires_at, members, answer)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, x'') ON CONFLICT (scope, key) DO NOTHING"""
_CLOSE_KEY = "UPDATE exchange_key SET status = ?, code = ?, sealed = ?, answer = ? WHERE scope = ? AND key = ?"
_INSERT_MEMBER = "INSERT INTO key_member (member, key_id) VALUES (?, ?)"

#: Where sealed values stand: see ``Crypto.seal_row``.
_MESSAGE_BODY, _MESSAGE_ACK = row_places("message_body"), row_places("message_ack")
_DELIVERY_BODY, _DELIVERY_ANSWER = row_places("delivery_body"), row_places("delivery_answer")


class Writer:
    """Executes operations on the one connection that writes."""

    def __init__(
        self, connection: sqlite3.Connection, crypto: Crypto, now: Callable[[], float], absent: Absent
    ) -> None:
        """``absent`` is told which control ids are written."""
        self._crypto, self._absent = crypto, absent
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        self._parts = PartWriter(self._cursor, crypto)
        self._patients = PatientWriter(self._cursor, crypto)
        #: What executes each type of operation. It raises StoreError when that does not fit what is stored,
        #: sqlite3.Error otherwise.
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            base.Accept: self._accept,
            base.Route: self._route,
            base.Sending: self._sending,
            base.Settle: self._settle,
            base.Requeue: self._requeue,
            base.Readdress: self._readdress,
            base.Pause: self._pause,
            base.Resume: self._resume,
            base.Reopen: self._reopen,
            base.AckSent: self._ack_sent,
            base.AckOwed: self._ack_owed,
            CachePut: self._cache_put,
            CacheForget: self._cache_forget,
            base.OpenKey: self._open_key,
            base.CloseKey: self._close_key,
            base.DropKey: self._drop_key,
            base.Audit: AuditWriter(self._cursor, crypto).append,
            base.PurgeAudit: AuditWriter(self._cursor, crypto).purge,
            **PruneWriter(self._cursor, crypto).handlers,
            **Upkeep(self._cursor, crypto, now).handlers,
            **self._parts.handlers,
            **self._patients.handlers,
        }

    def _must_change(self, what: str) -> None:
        if self._cursor.rowcount != 1:
            raise StoreError(what)

    def _accept(self, accept: base.Accept) -> None:
        message_id = accept.message_id
        sealed, origin = self._origin(message_id, accept.origin)
        self._execute(
            _INSERT_MESSAGE,
            (
                message_id,
                accept.channel,
                accept.correlation_id,
                text(accept.control_id),
                text(accept.message_type),
                self._crypto.stored_lane(accept.key),
                WORDS[accept.state],
                accept.cause,
                accept.received_at,
                accept.at or None,
                accept.ack,
                origin,
                sealed,
                self._patients.hashes(message_id, accept.patients),
            ),
        )
        if accept.control_id:
            self._absent.written(accept.control_id)
        if accept.body:
            self._put(_INSERT_MESSAGE_BODY, _MESSAGE_BODY, message_id, accept.body)
        for delivery in accept.deliveries:
            self._new_delivery(accept, delivery)

    def _origin(self, message_id: int, origin: Mapping[str, Any]) -> tuple[int, str | bytearray]:
        """The number of a key and an origin, sealed where it holds what a caller wrote."""
        if len(origin) == _BARE and "peer" in origin:
            return 0, _bare_origin(*origin.items())
        written = _ORIGIN(origin)
        if self._crypto.encrypt and tells_more(origin):
            return self._crypto.seal(written.encode(), row_place("message", message_id))
        return 0, written

    def _route(self, route: base.Route) -> None:
        self._execute(_ROUTE[route.state], (route.cause, route.at, route.message_id))
        self._must_change(f"message {route.message_id} may not become {route.state}")
        for delivery in route.deliveries:
            self._new_delivery(route, delivery)

    def _new_delivery(self, route: base.Accept | base.Route | base.AckOwed, delivery: base.NewDelivery) -> None:
        delivery_id, settled = delivery.delivery_id, delivery.settled
        row = (
            delivery_id,
            route.message_id,
            route.channel,
            delivery.destination,
            self._crypto.stored_lane(delivery.key),
            WORDS[delivery.state if settled is None else settled.state],
            delivery.cause if settled is None else settled.cause,
            text(delivery.control_id),
            delivery.content_type,
            WORDS[delivery.interrupted],
            route.at,
        )
        if delivery.sending is None and settled is None:
            self._execute(_INSERT_DELIVERY, row)
        else:
            self._execute(_INSERT_BEGUN, row + _begun(delivery.sending, settled))
        if delivery.body:
            self._put(_PUT_BODY, _DELIVERY_BODY, delivery_id, delivery.body, delivery.sealed)
        if settled is not None and settled.answer:
            self._put(_PUT_ANSWER, _DELIVERY_ANSWER, delivery_id, settled.answer)

    def _put(
        self, statement: str, places: tuple[bytes, ...], row_id: int, value: bytes | Pieces, sealed: bool = False
    ) -> None:
        """Write a body or an answer, sealed unless the site wants them plain."""
        if isinstance(value, Pieces):
            value = self._parts.refer(row_id, value)
            if not value:
                return
        if sealed or self._crypto.encrypt:
            self._execute(statement, (row_id, *self._crypto.seal_row(value, places, row_id)))
        else:
            self._execute(statement, (row_id, 0, value))

    def _sending(self, sending: base.Sending) -> None:
        self._execute(_SENDING, (sending.at, sending.attempt, sending.delivery_id))
        self._must_change(f"delivery {sending.delivery_id} may not become sending")

    def _settle(self, settle: base.Settle) -> None:
        delivery_id, evidence = settle.delivery_id, settle.evidence
        common = (
            settle.at,
            settle.cause,
            settle.attempts,
            settle.next_at,
            settle.may_be_duplicated,
            settle.sent_at,
        )
        if evidence is None:
            self._execute(_SETTLE[settle.state], (*common, delivery_id))
        else:
            self._execute(_SETTLE_WITH_EVIDENCE[settle.state], (*common, *_details(evidence), delivery_id))
        self._must_change(f"delivery {delivery_id} may not become {settle.state}")
        if settle.answer:
            self._put(_PUT_ANSWER, _DELIVERY_ANSWER, delivery_id, settle.answer)
        elif evidence is not None and settle.attempts > 1:
            self._execute(_DELETE_ANSWER, (delivery_id,))  # evidence and answer are of the same attempt
        if settle.body is not None:
            self._parts.forget(delivery_id)
            self._put(_PUT_BODY, _DELIVERY_BODY, delivery_id, settle.body)

    def _requeue(self, requeue: base.Requeue) -> None:
        self._execute(_REQUEUE, (requeue.cause, requeue.delivery_id))
        self._must_change(f"delivery {requeue.delivery_id} may not be sent again")
        if requeue.body is not None:
            names = (text(requeue.control_id), requeue.content_type, requeue.delivery_id)
            self._execute(_NAME_DELIVERY, names)
            self._parts.forget(requeue.delivery_id)
            self._put(_PUT_BODY, _DELIVERY_BODY, requeue.delivery_id, requeue.body, requeue.sealed)

    def _readdress(self, readdress: base.Readdress) -> None:
        self._execute(_READDRESS, (readdress.destination, readdress.delivery_id))
        self._must_change(f"delivery {readdress.delivery_id} is finished")

    def _pause(self, pause: base.Pause) -> None:
        self._execute(_PAUSE, (pause.channel, pause.destination, pause.at))

    def _resume(self, resume: base.Resume) -> None:
        self._execute(_RESUME, (resume.channel, resume.destination))

    def _reopen(self, reopen: base.Reopen) -> None:
        self._execute(_REOPEN, (reopen.message_id,))
        self._must_change(f"message {reopen.message_id} may not be routed again")
        for (delivery_id,) in self._execute(queries.PLACE_HOLDERS, (reopen.message_id,)).fetchall():
            self._execute("DELETE FROM delivery WHERE id = ?", (delivery_id,))

    def _ack_sent(self, ack_sent: base.AckSent) -> None:
        self._execute(_ACK_SENT, (ack_sent.ack, ack_sent.message_id))
        self._must_change(f"there is no message {ack_sent.message_id}")
        if ack_sent.body:
            self._put(_PUT_ACK, _MESSAGE_ACK, ack_sent.message_id, ack_sent.body)

    def _ack_owed(self, owed: base.AckOwed) -> None:
        self._execute(_ACK_OWED, (owed.ack, owed.message_id))
        if self._cursor.rowcount == 1:
            self._new_delivery(owed, owed.delivery)

    def _cache_put(self, put: CachePut) -> None:
        hashed = cache_hash(self._crypto, put.cache, put.key)
        sealed, value = self._crypto.seal(put.value, hash_place("cache", put.cache, hashed=hashed))
        self._execute(_CACHE_PUT, (put.cache, hashed, sealed, value, put.expires_at))

    def _cache_forget(self, forget: CacheForget) -> None:
        self._execute(_CACHE_FORGET, (forget.cache, cache_hash(self._crypto, forget.cache, forget.key)))

    def _open_key(self, open_key: base.OpenKey) -> None:
        crypto, channel, members = self._crypto, open_key.channel, open_key.members
        hashed = key_hash(crypto, open_key.scope, open_key.key)
        row = (
            open_key.scope,
            hashed,
            open_key.body_hash,
            channel,
            open_key.message_id,
            open_key.delivery_id,
            open_key.expires_at,
            written_members(members),
        )
        self._execute(_OPEN_KEY, row)
        if self._cursor.rowcount != 1:  # an older one is there
            self._forget_key(open_key.scope, hashed)
            self._execute(_OPEN_KEY, row)
        key_id = self._cursor.lastrowid
        for member, value in members.items():
            if value:
                self._execute(_INSERT_MEMBER, (member_hash(crypto, channel, member, value), key_id))

    def _close_key(self, close: base.CloseKey) -> None:
        hashed = key_hash(self._crypto, close.scope, close.key)
        sealed, answer = self._crypto.seal(close.answer, hash_place("exchange_key", close.scope, hashed=hashed))
        self._execute(_CLOSE_KEY, (close.status, close.code, sealed, answer, close.scope, hashed))

    def _drop_key(self, drop: base.DropKey) -> None:
        self._forget_key(drop.scope, key_hash(self._crypto, drop.scope, drop.key))

    def _forget_key(self, scope: str, hashed: bytes) -> None:
        found = self._execute(queries.EXCHANGE_KEY_ID, (scope, hashed)).fetchone()
        if found is not None:
            self._execute(queries.FORGET_MEMBERS, found)
            self._execute(queries.DELETE_KEY, found)


def _begun(sending: base.Sending | None, settled: base.Settle | None) -> tuple[object, ...]:
    """The columns of a delivery that is on its way, or at its end, behind those that every new one has."""
    sent_at = None if sending is None else sending.at
    if settled is None:
        return (sent_at, sending.attempt if sending is not None else 0, None, 0.0, False, None, None, None, None)
    evidence = (None, None, None, None) if settled.evidence is None else _details(settled.evidence)
    settled_at = None if settled.state is DeliveryState.QUEUED else settled.at
    sent_at = sent_at if settled.sent_at is None else settled.sent_at
    return (sent_at, settled.attempts, settled_at, settled.next_at, settled.may_be_duplicated, *evidence)


def _details(evidence: Evidence) -> tuple[str | bytes | None, ...]:
    condition, location, error = evidence.condition, evidence.location, evidence.application_error
    return (
        text(evidence.ack),
        condition and text(condition),
        location and text(location),
        error and text(error),
    )
