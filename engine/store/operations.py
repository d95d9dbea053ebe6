"""What can be written to a store: values, each one change of what is durable.

``Store.submit`` (``base.py``) takes those of one unit and commits them together. What each is for the embedded store is
``writer.py``'s. Members that may hold content are left out of ``repr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from engine.cache import CacheForget, CachePut
from engine.delivery import BY_HAND, DeliveryState, MessageState
from engine.errors import Evidence
from engine.hl7.bulk import Pieces
from engine.store.audit import Audit, PurgeAudit
from engine.store.pruning import PassBodies, Prune, RemoveBodies, Shrink, SweepParts, SweepPatients
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class Accept:
    """Commit 1: a message as it was received."""

    message_id: int
    channel: str
    correlation_id: str
    received_at: float
    #: A large one as ``Store.keep`` gave it.
    body: bytes | Pieces = field(repr=False)
    #: MSH-10 as received; empty when there is none.
    control_id: str = ""
    #: ``SIU^S12``, ``GET /api/x``; empty when unknown.
    message_type: str = ""
    #: Ordering key read from the received bytes, as ``Store.lane_key`` gives it; empty keys share one lane.
    key: str = field(default="", repr=False)
    state: MessageState = MessageState.RECEIVED
    #: Why it is refused (``malformed``, ``missing_parameter``); stable words.
    cause: str = ""
    #: The ack that follows from this commit alone (``AA``, ``CA``, ``AR``); empty when it waits for more, ``owed`` when
    #: that will go out on a connection of its own.
    ack: str = ""
    #: ``source``, ``peer``, ``api_key``, ``query``, ``headers`` of the Origin (JSON values).
    origin: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: Patient ids that the message is found by; stored as keyed hashes.
    patients: tuple[str, ...] = field(default=(), repr=False)
    #: When it was routed, where that is done by then: commit 1 is commit 2 too, and this says what a Route says.
    at: float = 0.0
    deliveries: tuple[NewDelivery, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One envelope owed to one destination."""

    delivery_id: int
    destination: str
    key: str = field(repr=False)
    #: A large one as ``Store.keep`` gave it.
    body: bytes | Pieces = field(repr=False)
    control_id: str = ""
    content_type: str = "application/hl7-v2"
    state: DeliveryState = DeliveryState.QUEUED
    cause: str = ""
    #: State a delivery found in ``sending`` at start gets: ``queued``, ``held`` or ``unknown``.
    interrupted: DeliveryState = DeliveryState.QUEUED
    #: Encrypt the stored body, even where bodies are not.
    sealed: bool = False
    #: Its first attempt, which begins with this very commit; ``state`` is ``sending`` then.
    sending: Sending | None = None
    #: How it ended, where that is known by then; ``state`` and ``cause`` are its.
    settled: Settle | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """Commit 2: what became of a message, and the deliveries it causes."""

    message_id: int
    channel: str
    correlation_id: str
    state: MessageState
    at: float
    cause: str = ""
    deliveries: tuple[NewDelivery, ...] = ()


@dataclass(frozen=True, slots=True)
class Sending:
    """The first byte of this attempt is about to leave."""

    delivery_id: int
    at: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Commit 3, or the record of an attempt that failed."""

    delivery_id: int
    state: DeliveryState
    at: float
    #: Attempts made so far.
    attempts: int
    #: ``unanswered timeout``, ``unavailable refused``, ``rejected AE 204 PID-3``, ``expired``, ``by hand``; codes only.
    cause: str = ""
    #: When the next attempt is due (state queued); seconds since the epoch.
    next_at: float = 0.0
    evidence: Evidence | None = None
    #: The partner's answer; kept with the delivery.
    answer: bytes = field(default=b"", repr=False)
    #: An earlier attempt may have been taken: this one may be a duplicate.
    may_be_duplicated: bool = False
    #: Replaces the stored body (secret members replaced by hashes).
    body: bytes | None = field(default=None, repr=False)
    #: When the attempt began; None keeps what ``Sending`` recorded (and says of others that nothing was sent).
    sent_at: float | None = None


@dataclass(frozen=True, slots=True)
class Requeue:
    """A delivery is sent again out of its turn (same bytes, same MSH-10), at the place its id gives it in its lane.

    ``body``, with its control id and content type, is given when the delivery has none yet: its transform had failed.
    """

    delivery_id: int
    at: float
    body: bytes | Pieces | None = field(default=None, repr=False)
    control_id: str = ""
    content_type: str = ""
    #: Encrypt ``body``, even where bodies are not.
    sealed: bool = False
    #: Why: one of ``OUT_OF_TURN``.
    cause: str = BY_HAND


@dataclass(frozen=True, slots=True)
class Readdress:
    """A person gives an open delivery to another destination of its channel; it keeps its place by its id."""

    delivery_id: int
    destination: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent to a destination until a person resumes it. One that is paused stays so."""

    channel: str
    destination: str
    at: float


@dataclass(frozen=True, slots=True)
class Resume:
    """A destination is sent to again. Nothing for one that is not paused."""

    channel: str
    destination: str


@dataclass(frozen=True, slots=True)
class Reopen:
    """A person routes a failed message again: state ``received``; its place-holders are removed."""

    message_id: int


@dataclass(frozen=True, slots=True)
class AckSent:
    """Which ack the sender gets (``AA``, ``AE``, ``CA``, ``200``), when it waited for more than commit 1.

    The first one stays, with what it brought: nothing is acknowledged twice differently.
    """

    message_id: int
    ack: str
    #: The acknowledgement itself where the code does not say everything: a partner's own answer.
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class AckOwed:
    """As AckSent, for an ack that goes out on a connection of its own: it is a delivery, owed until it was taken.

    Nothing happens to a message whose ack was decided before.
    """

    message_id: int
    channel: str
    at: float
    ack: str
    delivery: NewDelivery


@dataclass(frozen=True, slots=True)
class OpenKey:
    """An idempotency key is in use: written with the intent, before the first byte leaves. Replaces an older row."""

    #: ``channel|api key name``
    scope: str
    key: str = field(repr=False)
    body_hash: bytes = field(repr=False)
    channel: str
    message_id: int
    delivery_id: int
    expires_at: float
    #: Members of the request (``body.orderId`` → text, empty when it has none) by which ``find_keys`` finds it; stored
    #: as keyed hashes.
    members: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class CloseKey:
    """The outcome under a key is known and will be replayed."""

    scope: str
    key: str = field(repr=False)
    status: int
    code: str | None
    answer: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropKey:
    """Nothing is remembered under this key any more: the next request with it starts anew."""

    scope: str
    key: str = field(repr=False)


Operation = (
    Accept
    | Route
    | Sending
    | Settle
    | Requeue
    | Readdress
    | Pause
    | Resume
    | Reopen
    | AckSent
    | AckOwed
    | CachePut
    | CacheForget
    | OpenKey
    | CloseKey
    | DropKey
    | Audit
    | PurgeAudit
    | Prune
    | RemoveBodies
    | PassBodies
    | SweepParts
    | SweepPatients
    | Shrink
)
