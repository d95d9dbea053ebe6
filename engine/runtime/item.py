"""A delivery as it waits in memory: ids, keys and what is known of its attempts. Its bytes are in the store."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.config.plan import Order
from engine.delivery import OUT_OF_TURN, DeliveryState
from engine.runtime.lane_keys import keys_of
from engine.store.base import DeliveryRow, NewDelivery, Route


@dataclass(slots=True, eq=False)
class Item:
    """A delivery that waits for its turn."""

    delivery_id: int
    message_id: int
    #: The keys whose lanes it stands in; it goes when it is the first in each of them.
    keys: tuple[str, ...] = field(repr=False)
    correlation_id: str
    control_id: str
    content_type: str
    created_at: float
    attempts: int = 0
    next_at: float = 0.0
    held: bool = False
    may_be_duplicated: bool = False
    #: It is sent again out of its turn, and nothing has come of it yet.
    out_of_turn: bool = False
    #: Kept while few wait, so that the common case reads nothing back.
    body: bytes | None = field(default=None, repr=False)
    #: The first of its lanes: it has been handed to whoever sends.
    offered: bool = False
    #: Being sent, or its outcome is being committed.
    sending: bool = False
    #: Its outcome was refused by the store: a person has to act.
    stuck: bool = False

    @classmethod
    def of(cls, new: NewDelivery, route: Route, order: Order) -> Item:
        """The item of a delivery that was just committed."""
        return cls(
            new.delivery_id,
            route.message_id,
            lanes_of(order, new.key, new.delivery_id),
            route.correlation_id,
            new.control_id,
            new.content_type,
            route.at,
            held=new.state is DeliveryState.HELD,
            body=new.body if isinstance(new.body, bytes) and new.body else None,
        )

    @classmethod
    def from_row(cls, row: DeliveryRow, order: Order) -> Item:
        """The item of a stored delivery."""
        return cls(
            row.delivery_id,
            row.message_id,
            lanes_of(order, row.key, row.delivery_id),
            row.correlation_id,
            row.control_id,
            row.content_type,
            row.created_at,
            row.attempts,
            row.next_at,
            row.state is DeliveryState.HELD,
            row.may_be_duplicated,
            row.state is DeliveryState.QUEUED and row.cause in OUT_OF_TURN,
        )


def lanes_of(order: Order, key: str, delivery_id: int) -> tuple[str, ...]:
    """The lanes in which a delivery with this stored key stands, by the order that its destination has today."""
    if order.kind == "received":
        return ("",)
    if order.kind == "none":
        return (own_lane(delivery_id),)
    return keys_of(key)


def own_lane(delivery_id: int) -> str:
    """The key of a lane that no other delivery ever stands in."""
    return f"\0{delivery_id}"
