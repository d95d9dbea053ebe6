"""What the process that writes is given is what it would have been given here: every member of every operation."""

from __future__ import annotations

from dataclasses import fields

from engine.delivery import DeliveryState, MessageState
from engine.errors import Evidence
from engine.store.base import Accept, AckOwed, NewDelivery, Route, Sending, Settle
from engine.store.process.carried import brought, carried

SETTLE = Settle(
    3, DeliveryState.PARKED, 1.5, 2, "a", 9.0, Evidence("AE", "204", "PID-3", "TAKEN"), b"MSH|A", True, b"hashed", 1.0
)
DELIVERY = NewDelivery(
    3,
    "sink",
    "k",
    b"MSH|",
    "M1",
    "text/csv",
    DeliveryState.PARKED,
    "rejected AE",
    DeliveryState.HELD,
    True,
    Sending(3, 1.0, 1),
    SETTLE,
)
ACCEPT = Accept(
    1,
    "c",
    "x",
    1.0,
    b"MSH|",
    "M1",
    "SIU^S12",
    "k",
    MessageState.ROUTED,
    "malformed",
    "AA",
    {"source": "mllp"},
    ("1", "2"),
    2.0,
    (DELIVERY, NewDelivery(4, "sink", "", b"")),
)
ROUTE = Route(1, "c", "x", MessageState.FAILED, 2.0, "step lookup: missing", (DELIVERY,))
OPERATIONS = [ACCEPT, ROUTE, SETTLE, Settle(3, DeliveryState.DELIVERED, 1.5, 1), AckOwed(1, "c", 2.0, "AA", DELIVERY)]


def test_every_member_of_an_operation_is_carried() -> None:
    for value in (ACCEPT, ROUTE, SETTLE, DELIVERY):
        for field in fields(value):
            assert getattr(value, field.name) != field.default, "one that was left out would come out as it is without"
    written = carried([OPERATIONS[:2], OPERATIONS[2:]])
    assert written is not None
    assert brought(written) == OPERATIONS
