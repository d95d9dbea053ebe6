"""States and outcomes of messages and deliveries, in one place.

``MESSAGE_MOVES`` and ``DELIVERY_MOVES`` are the whole state machine; the README's picture and the store's checks follow
them. No I/O and no clock here.
"""

from __future__ import annotations

from enum import StrEnum


class MessageState(StrEnum):
    """What became of a message."""

    RECEIVED = "received"  # committed, its transforms have not run
    ROUTED = "routed"  # every delivery it causes is committed
    FILTERED = "filtered"  # a keep, a drop or every `where` said no, answered positively; or a person gave it up
    FAILED = "failed"  # a shared step failed, or a looked-up value has no destination
    REFUSED = "refused"  # answered negatively, never accepted


class DeliveryState(StrEnum):
    """What became of one envelope owed to one destination."""

    QUEUED = "queued"  # its turn or its next attempt is to come
    SENDING = "sending"  # committed before the first byte where a repeat could duplicate
    DELIVERED = "delivered"  # the partner's positive answer is committed
    UNKNOWN = "unknown"  # sent, no valid answer, not to be repeated by itself
    HELD = "held"  # nothing of its key passes until a person acts
    PARKED = "parked"  # set aside, later ones pass
    DISCARDED = "discarded"  # given up by a person or a rule


#: Each state as plain text: what a database takes fastest.
WORDS: dict[MessageState | DeliveryState, str] = {state: state.value for state in (*MessageState, *DeliveryState)}

#: Cause of a delivery that a person gave up, or sends again, while nothing further has come of it.
BY_HAND = "by hand"
#: Cause of an ack that goes out again because its sender repeated the message, while nothing further has come of it.
ASKED_AGAIN = "asked again"
#: Causes of what is queued out of its turn: later ones of its key may have gone before.
OUT_OF_TURN = frozenset({BY_HAND, ASKED_AGAIN})

MESSAGE_MOVES: dict[MessageState, frozenset[MessageState]] = {
    MessageState.RECEIVED: frozenset({MessageState.ROUTED, MessageState.FILTERED, MessageState.FAILED}),
    MessageState.ROUTED: frozenset(),
    MessageState.FILTERED: frozenset(),
    MessageState.FAILED: frozenset(
        {MessageState.RECEIVED, MessageState.FILTERED}
    ),  # a person resends it, or gives it up
    MessageState.REFUSED: frozenset(),
}

_OPEN = frozenset(DeliveryState)
_BY_A_PERSON = frozenset({DeliveryState.QUEUED, DeliveryState.DELIVERED, DeliveryState.DISCARDED})

DELIVERY_MOVES: dict[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.QUEUED: _OPEN,
    DeliveryState.SENDING: _OPEN - {DeliveryState.SENDING},
    DeliveryState.UNKNOWN: _BY_A_PERSON | {DeliveryState.SENDING},
    DeliveryState.HELD: _BY_A_PERSON,
    DeliveryState.PARKED: _BY_A_PERSON,
    DeliveryState.DELIVERED: frozenset({DeliveryState.QUEUED}),  # a person resends it
    DeliveryState.DISCARDED: frozenset({DeliveryState.QUEUED}),
}
