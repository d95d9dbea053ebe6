"""Turns operations into statements, inside a transaction that ``group_commit.py`` begins and commits.

Each operation has one method; the statements are ``statements.py``'s. What most messages write is gathered, and
executed for many of them at once (``gathered.py``).
What does not fit (an unknown id, a move the tables do not have) raises StoreError, and nothing of the unit is kept.
Closing or dropping a key, forgetting a cache entry: what is gone already is no fault.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from engine.cache import CacheForget, CachePut
from engine.delivery import WORDS, DeliveryState
from engine.errors import DoesNotOpen, Evidence, StoreError
from engine.hl7.bulk import Pieces
from engine.json_text import writer
from engine.store import base, queries, statements
from engine.store.audit_writer import AuditWriter
from engine.store.bodies import APART, Stretch, together
from engine.store.crypto import Crypto, hash_place, row_place, row_places
from engine.store.gathered import Gathered
from engine.store.key_writer import KeyWriter
from engine.store.late import LateWriter
from engine.store.parts import PartWriter
from engine.store.pruning import PruneWriter
from engine.store.stored import cache_hash, tells_more, text
from engine.store.upkeep import Upkeep

_ORIGIN = writer()


#: Members of the origin of most messages: the connector and the peer.
_BARE = 2


@lru_cache(maxsize=1024)
def _bare_origin(*members: tuple[str, Any]) -> str:
    """The origin of whatever comes over one connection."""
    return _ORIGIN(dict(members))


_DELIVERED = DeliveryState.DELIVERED  # before 3.12 a member of an enumeration is a call away

#: No answer.
_NONE: tuple[int, None] = (0, None)

#: Where sealed values stand: see ``Crypto.seal_row``.
_MESSAGE_BODY, _MESSAGE_ACK = row_places("message_body"), row_places("message_ack")
_DELIVERY, _DELIVERY_BODY = row_places("delivery"), row_places("delivery_body")
_DELIVERY_ANSWER = row_places("delivery_answer")

#: An answer up to this length stands in its delivery's row: changing the row rewrites a page at most.
_IN_ROW = 2000
#: What a row grows by when it is settled, beside the answer: two times, a code and a longer state.
_SETTLED = 21
#: Bytes that are left free for an answer at most: where the next is shorter, they stay free.
_ROOM = 256


class Writer:
    """Executes operations on the one connection that writes."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        crypto: Crypto,
        now: Callable[[], float],
        named: Callable[[str, int], object],
        opened: Callable[[bytes], object],
    ) -> None:
        """``named`` is told which control ids are written, and of which messages; ``opened`` the hashes of keys."""
        self._crypto, self._named = crypto, named
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        #: Written before any operation that may depend on it, and before the commit.
        self.gathered = gathered = Gathered(self._cursor)
        self._parts = PartWriter(self._cursor, crypto)
        self._late = LateWriter(self._cursor, crypto)
        #: What a delivery that is written leaves free in its page: what the last that was settled took.
        self._room = 0
        others: dict[type[Any], Callable[[Any], None]] = {
            base.Route: self._route,
            base.Sending: self._sending,
            base.Requeue: self._requeue,
            base.Readdress: self._readdress,
            base.Pause: self._pause,
            base.Resume: self._resume,
            base.Reopen: self._reopen,
            base.AckOwed: self._ack_owed,
            CachePut: self._cache_put,
            CacheForget: self._cache_forget,
            base.Audit: AuditWriter(self._cursor, crypto).append,
            base.PurgeAudit: AuditWriter(self._cursor, crypto).purge,
            **PruneWriter(self._cursor, crypto).handlers,
            **Upkeep(self._cursor, crypto, now).handlers,
            **self._parts.handlers,
            **self._late.handlers,
        }

        def behind(handler: Callable[[Any], None]) -> Callable[[Any], None]:
            def handle(operation: Any) -> None:
                gathered.write()
                handler(operation)

            return handle

        #: What executes each type of operation. It raises StoreError when that does not fit what is stored,
        #: sqlite3.Error otherwise; so does the writing of what is gathered.
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            base.Accept: self._accept,
            base.Settle: self._settle,
            base.AckSent: self._ack_sent,
            # Keys stand in tables of their own.
            **KeyWriter(self._cursor, crypto, opened).handlers,
            **{kind: behind(handler) for kind, handler in others.items()},
        }

    def begin_anew(self) -> None:
        """What is known of the disk may not be so: somebody else has committed, or what was done was rolled back."""
        self._late.begin_anew()

    def _must_change(self, what: str) -> None:
        if self._cursor.rowcount != 1:
            raise StoreError(what)

    def _accept(self, accept: base.Accept) -> None:
        message_id, control_id, kind = accept.message_id, accept.control_id, accept.message_type
        sealed, origin = self._origin(message_id, accept.origin)
        named = control_id if control_id.isascii() else text(control_id)
        late = named if named and message_id > self._late.up_to else None
        self.gathered.messages.append(
            (
                message_id,
                accept.channel,
                accept.correlation_id,
                named if late is None else "",
                kind if kind.isascii() else text(kind),
                self._crypto.stored_lane(accept.key),
                WORDS[accept.state],
                accept.cause,
                accept.received_at,
                accept.at or None,
                accept.ack,
                origin,
                sealed,
                self._late.hashes(message_id, accept.patients),
                late,
            )
        )
        if control_id:
            self._named(control_id, message_id)
        body, length = accept.body, len(accept.body)
        stretches: Sequence[Stretch] = ()
        if accept.deliveries:
            body, stretches = together(body, accept.deliveries)
        if body:
            more = length if len(body) > length else None
            if isinstance(body, bytes) and self._crypto.encrypt:
                number, value = self._crypto.seal_row(body, _MESSAGE_BODY, message_id)
                self.gathered.bodies.append((message_id, number, value, more))
            else:
                self._put(statements.INSERT_MESSAGE_BODY, _MESSAGE_BODY, message_id, body, False, more)
        for delivery, stretch in zip(accept.deliveries, stretches, strict=True):
            self._new_delivery(accept, delivery, stretch, control_id)

    def _origin(self, message_id: int, origin: Mapping[str, Any]) -> tuple[int, str | bytearray]:
        """The number of a key and an origin, sealed where it holds what a caller wrote."""
        if len(origin) == _BARE and "peer" in origin:
            return 0, _bare_origin(*origin.items())
        written = _ORIGIN(origin)
        if self._crypto.encrypt and tells_more(origin):
            return self._crypto.seal(written.encode(), row_place("message", message_id))
        return 0, written

    def _route(self, route: base.Route) -> None:
        self._execute(statements.ROUTE[route.state], (route.cause, route.at, route.message_id))
        self._must_change(f"message {route.message_id} may not become {route.state}")
        for delivery in route.deliveries:
            self._new_delivery(route, delivery)

    def _new_delivery(
        self,
        route: base.Accept | base.Route | base.AckOwed,
        delivery: base.NewDelivery,
        stretch: Stretch = APART,
        received: str = "",
    ) -> None:
        """``received``: the control id of the message, which then stands in its row alone."""
        delivery_id, settled, control_id = delivery.delivery_id, delivery.settled, delivery.control_id
        as_received = 1 if received and control_id == received else 0
        row = (
            delivery_id,
            route.message_id,
            route.channel,
            delivery.destination,
            self._crypto.stored_lane(delivery.key),
            WORDS[delivery.state if settled is None else settled.state],
            delivery.cause if settled is None else settled.cause,
            "" if as_received else text(control_id),
            delivery.content_type,
            WORDS[delivery.interrupted],
            route.at,
            as_received,
            *stretch,
            self._room if settled is None else 0,
        )
        if delivery.sending is None and settled is None:
            self.gathered.deliveries.append(row)
        else:
            answer = _NONE if settled is None else self._answer(delivery_id, settled.answer)
            self.gathered.begun.append((*row, *_begun(delivery.sending, settled), *answer))
        if delivery.body and stretch is APART:
            self._put(statements.PUT_BODY, _DELIVERY_BODY, delivery_id, delivery.body, delivery.sealed)

    def _answer(self, delivery_id: int, answer: bytes) -> tuple[int, bytes | bytearray | None]:
        """What a delivery's row holds of an answer: the number of a key, and the answer. A long one is put apart."""
        if not answer:
            return _NONE
        if len(answer) > _IN_ROW:
            self._put(statements.PUT_ANSWER, _DELIVERY_ANSWER, delivery_id, answer)
            return _NONE
        return self._crypto.seal_row(answer, _DELIVERY, delivery_id) if self._crypto.encrypt else (0, answer)

    def _put(
        self,
        statement: str,
        places: tuple[bytes, ...],
        row_id: int,
        value: bytes | Pieces,
        sealed: bool = False,
        *more: int | None,
    ) -> None:
        """Write a body or an answer, sealed unless the site wants them plain."""
        if isinstance(value, Pieces):
            value = self._parts.refer(row_id, value)
            if not value:
                return
        if sealed or self._crypto.encrypt:
            self._execute(statement, (row_id, *self._crypto.seal_row(value, places, row_id), *more))
        else:
            self._execute(statement, (row_id, 0, value, *more))

    def _sending(self, sending: base.Sending) -> None:
        self._execute(statements.SENDING, (sending.at, sending.attempt, sending.delivery_id))
        self._must_change(f"delivery {sending.delivery_id} may not become sending")

    def _settle(self, settle: base.Settle) -> None:
        delivery_id, evidence = settle.delivery_id, settle.evidence
        if (
            settle.state is _DELIVERED
            and settle.attempts == 1
            and evidence is not None
            and evidence.condition is evidence.location is evidence.application_error is None
            and settle.body is None
            and settle.sent_at is not None
            and not (settle.cause or settle.next_at or settle.may_be_duplicated)
        ):
            number, value = self._answer(delivery_id, settle.answer)
            self._room = _SETTLED + (min(len(value), _ROOM) if value else 0)
            ack = evidence.ack
            row = (
                settle.at,
                settle.sent_at,
                ack if ack.isascii() else text(ack),
                number,
                value,
                delivery_id,
            )
            self.gathered.delivered.append(row)
            return
        self.gathered.write()
        common = (
            settle.at,
            settle.cause,
            settle.attempts,
            settle.next_at,
            settle.may_be_duplicated,
            settle.sent_at,
        )
        if evidence is not None:
            answer = self._answer(delivery_id, settle.answer)
            parameters = (*common, *_details(evidence), *answer, delivery_id)
            self._execute(statements.SETTLE_WITH_EVIDENCE[settle.state], parameters)
        elif settle.answer:
            answer = self._answer(delivery_id, settle.answer)
            self._execute(statements.SETTLE_WITH_ANSWER[settle.state], (*common, *answer, delivery_id))
        else:
            self._execute(statements.SETTLE[settle.state], (*common, delivery_id))
        self._must_change(f"delivery {delivery_id} may not become {settle.state}")
        if settle.attempts > 1 and len(settle.answer) <= _IN_ROW and (settle.answer or evidence is not None):
            self._execute(statements.DELETE_ANSWER, (delivery_id,))  # evidence and answer are of the same attempt
        if settle.body is not None:
            self._blank(delivery_id)
            self._own_body(delivery_id, settle.body)

    def _blank(self, delivery_id: int) -> None:
        """A body with secrets is replaced that lies in its message's row, as its destination had none when it came:
        it does not stay there, unless somebody else holds the same.
        """
        found = self._execute(queries.OWN_STRETCH, (delivery_id,)).fetchone()
        if found is None:
            return
        message_id, start, length, number, stored = found
        with suppress(DoesNotOpen):  # whoever reads it is told
            row = bytearray(self._crypto.open(number, stored, row_place("message_body", message_id)))
            row[start : start + length] = bytes(length)
            sealed = self._crypto.seal_row(bytes(row), _MESSAGE_BODY, message_id) if number else (0, row)
            self._execute(statements.CHANGE_MESSAGE_BODY, (*sealed, message_id))

    def _own_body(self, delivery_id: int, body: bytes | Pieces, sealed: bool = False) -> None:
        """A body that is written anew, or for the first time."""
        self._parts.forget(delivery_id)
        self._execute(statements.OWN_BODY, (delivery_id,))
        self._put(statements.PUT_BODY, _DELIVERY_BODY, delivery_id, body, sealed)

    def _requeue(self, requeue: base.Requeue) -> None:
        self._execute(statements.REQUEUE, (requeue.cause, requeue.delivery_id))
        self._must_change(f"delivery {requeue.delivery_id} may not be sent again")
        if requeue.body is not None:
            names = (text(requeue.control_id), requeue.content_type, requeue.delivery_id)
            self._execute(statements.NAME_DELIVERY, names)
            self._own_body(requeue.delivery_id, requeue.body, requeue.sealed)

    def _readdress(self, readdress: base.Readdress) -> None:
        self._execute(statements.READDRESS, (readdress.destination, readdress.delivery_id))
        self._must_change(f"delivery {readdress.delivery_id} is finished")

    def _pause(self, pause: base.Pause) -> None:
        self._execute(statements.PAUSE, (pause.channel, pause.destination, pause.at))

    def _resume(self, resume: base.Resume) -> None:
        self._execute(statements.RESUME, (resume.channel, resume.destination))

    def _reopen(self, reopen: base.Reopen) -> None:
        self._execute(statements.REOPEN, (reopen.message_id,))
        self._must_change(f"message {reopen.message_id} may not be routed again")
        for (delivery_id,) in self._execute(queries.PLACE_HOLDERS, (reopen.message_id,)).fetchall():
            self._execute("DELETE FROM delivery WHERE id = ?", (delivery_id,))

    def _ack_sent(self, ack_sent: base.AckSent) -> None:
        if ack_sent.body and self._decides(ack_sent):
            self._put(statements.PUT_ACK, _MESSAGE_ACK, ack_sent.message_id, ack_sent.body)
        else:
            self.gathered.acks.append((ack_sent.ack, ack_sent.message_id))

    def _decides(self, decided: base.AckSent | base.AckOwed) -> bool:
        """Write the ack of a message; False where it has another one, which stays."""
        self.gathered.write()
        self._execute(statements.DECIDE_ACK, (decided.ack, decided.message_id))
        return self._cursor.rowcount == 1

    def _ack_owed(self, owed: base.AckOwed) -> None:
        if self._decides(owed):
            self._new_delivery(owed, owed.delivery)

    def _cache_put(self, put: CachePut) -> None:
        hashed = cache_hash(self._crypto, put.cache, put.key)
        sealed, value = self._crypto.seal(put.value, hash_place("cache", put.cache, hashed=hashed))
        self._execute(statements.CACHE_PUT, (put.cache, hashed, sealed, value, put.expires_at))

    def _cache_forget(self, forget: CacheForget) -> None:
        self._execute(statements.CACHE_FORGET, (forget.cache, cache_hash(self._crypto, forget.cache, forget.key)))


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
