"""Rows of ``queries.py`` as the values of ``base.py``: one function per list of columns there, in the same order."""

from __future__ import annotations

import json
from typing import Any

from engine.delivery import DeliveryState, MessageState
from engine.errors import Evidence
from engine.store.audit import AuditRow
from engine.store.base import DeliveryRow, KeyRow, MessageRow
from engine.store.crypto import Crypto, hash_place, row_place
from engine.store.stored import HASHED, read_text

Row = tuple[Any, ...]


def message_row(row: Row, crypto: Crypto) -> MessageRow:
    """From the columns of a message. Raises StoreError when its origin does not open."""
    (
        message_id,
        channel,
        correlation_id,
        control_id,
        message_type,
        key,
        state,
        cause,
        received_at,
        routed_at,
        ack,
        origin,
        sealed,
        bodies_removed_at,
    ) = row
    if sealed:
        origin = crypto.open(sealed, origin, row_place("message", message_id))
    return MessageRow(
        message_id=message_id,
        channel=channel,
        correlation_id=correlation_id,
        control_id=read_text(control_id),
        message_type=read_text(message_type),
        key=crypto.stored_lane(read_text(key)),
        state=MessageState(state),
        cause=cause,
        received_at=received_at,
        routed_at=routed_at,
        ack=ack,
        origin=json.loads(origin),
        bodies_removed_at=bodies_removed_at,
    )


def delivery_row(row: Row, crypto: Crypto) -> DeliveryRow:
    """From the columns of a delivery and its message."""
    (
        delivery_id,
        message_id,
        channel,
        destination,
        correlation_id,
        key,
        state,
        cause,
        attempts,
        next_at,
        control_id,
        content_type,
        created_at,
        sent_at,
        settled_at,
        *codes,
        may_be_duplicated,
        received_at,
    ) = row
    return DeliveryRow(
        delivery_id=delivery_id,
        message_id=message_id,
        channel=channel,
        destination=destination,
        correlation_id=correlation_id,
        key=crypto.stored_lane(read_text(key)),
        state=DeliveryState(state),
        cause=cause,
        attempts=attempts,
        next_at=next_at,
        control_id=read_text(control_id),
        content_type=content_type,
        created_at=created_at,
        sent_at=sent_at,
        settled_at=settled_at,
        evidence=_evidence(*codes),
        may_be_duplicated=bool(may_be_duplicated),
        received_at=received_at,
    )


def audit_row(row: Row) -> AuditRow:
    """From the columns of an audit entry."""
    entry_id, at, act, who, channel, message_id, delivery_id, facts, digest = row
    return AuditRow(entry_id, at / 1000, act, who, channel, message_id, delivery_id, json.loads(facts), digest.hex())


def key_row(row: Row, crypto: Crypto, key: str = "") -> KeyRow:
    """From the columns of an idempotency key; ``key`` where its caller has said it. Raises StoreError."""
    scope, hashed, body_hash, channel, message_id, delivery_id, expires_at, status, code, answer, sealed = row
    if answer:
        answer = crypto.open(sealed, answer, hash_place("exchange_key", scope, hashed=hashed))
    key = key or HASHED + hashed.hex()
    return KeyRow(scope, key, body_hash, channel, message_id, delivery_id, expires_at, status, code, answer)


def _evidence(ack: Any, condition: Any, location: Any, application_error: Any) -> Evidence | None:
    if ack is None:
        return None
    return Evidence(read_text(ack), _optional(condition), _optional(location), _optional(application_error))


def _optional(stored: Any) -> str | None:
    return None if stored is None else read_text(stored)
