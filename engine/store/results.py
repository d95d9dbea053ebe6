"""What reads of a store give, and what they are asked by: values of the contract (``base.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from engine.delivery import DeliveryState, MessageState
from engine.errors import Evidence
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message without its body."""

    message_id: int
    channel: str
    correlation_id: str
    control_id: str
    message_type: str
    key: str = field(repr=False)
    state: MessageState
    cause: str
    received_at: float
    routed_at: float | None
    ack: str
    origin: Mapping[str, Any] = field(repr=False)
    #: Since when its contents are gone, and those of its deliveries; None while they are there.
    bodies_removed_at: float | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery without its bodies."""

    delivery_id: int
    message_id: int
    channel: str
    destination: str
    correlation_id: str
    key: str = field(repr=False)
    state: DeliveryState
    cause: str
    attempts: int
    next_at: float
    control_id: str
    content_type: str
    created_at: float
    sent_at: float | None
    settled_at: float | None
    evidence: Evidence | None
    may_be_duplicated: bool
    received_at: float


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An idempotency key."""

    scope: str
    key: str = field(repr=False)
    body_hash: bytes = field(repr=False)
    channel: str
    message_id: int
    delivery_id: int
    expires_at: float
    #: None until the outcome is known.
    status: int | None
    code: str | None
    answer: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Find:
    """A search over messages, newest first."""

    channel: str | None = None
    state: str | None = None
    correlation_id: str | None = None
    #: Matches MSH-10 in and out.
    control_id: str | None = None
    since: float | None = None
    until: float | None = None
    #: Only messages that have a delivery in this state.
    delivery_state: str | None = None
    #: A patient id, as ``Accept.patients`` had it.
    patient: str | None = field(default=None, repr=False)
    before_id: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class StoreKey:
    """A key of the ring that values have been sealed with. The highest number is the one in use."""

    number: int
    added_at: float
    #: Since when no row needs it; None while one may.
    retired_at: float | None
    #: As in the manifest of a backup; empty once it is retired.
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was unfinished at start."""

    #: Messages to route again.
    received: int
    #: Deliveries whose turn is to come.
    queued: int
    #: Deliveries found in ``sending`` and what became of them.
    interrupted: Mapping[str, int]
    #: The run before this one did not end in order.
    crashed: bool
    #: What a commit waits for, as the connection that writes says of itself: ``journal_mode=wal synchronous=FULL``.
    durability: str
