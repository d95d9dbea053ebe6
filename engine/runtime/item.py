"""A delivery as it waits in memory: ids, keys and what is known of its attempts. Its bytes are in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.config.plan import Order
from engine.delivery import OUT_OF_TURN, DeliveryState
from engine.hl7.bulk import Pieces
from engine.runtime.lane_keys import BETWEEN, keys_of
from engine.store.base import DeliveryRow


@dataclass(eq=False)
class Item:
    """A delivery that waits for its turn.

    Without slots: what stands behind ``field(init=False)`` is the class's until it happens to one of them.
    """

    delivery_id: int
    message_id: int
    #: The keys whose lanes it stands in; it goes when it is the first in each of them.
    keys: tuple[str, ...] = field(repr=False)
    correlation_id: str
    control_id: str
    content_type: str
    created_at: float
    held: bool = False
    #: Kept while few wait, so that the common case reads nothing back.
    body: bytes | Pieces | None = field(default=None, repr=False)
    attempts: int = field(init=False, default=0)
    next_at: float = field(init=False, default=0.0)
    may_be_duplicated: bool = field(init=False, default=False)
    #: It is sent again out of its turn, and nothing has come of it yet.
    out_of_turn: bool = field(init=False, default=False)
    #: The first of its lanes: it has been handed to whoever sends.
    offered: bool = field(init=False, default=False)
    #: Being sent, or its outcome is being committed.
    sending: bool = field(init=False, default=False)
    #: Its outcome was refused by the store: a person has to act.
    stuck: bool = field(init=False, default=False)

    @classmethod
    def from_row(cls, row: DeliveryRow, lanes_of: LanesOf) -> Item:
        """The item of a stored delivery."""
        item = cls(
            row.delivery_id,
            row.message_id,
            lanes_of(row.key, row.delivery_id),
            row.correlation_id,
            row.control_id,
            row.content_type,
            row.created_at,
            row.state is DeliveryState.HELD,
        )
        item.attempts, item.next_at, item.may_be_duplicated = row.attempts, row.next_at, row.may_be_duplicated
        item.out_of_turn = row.state is DeliveryState.QUEUED and row.cause in OUT_OF_TURN
        return item


#: Stored key and id of a delivery → the lanes in which it stands.
LanesOf = Callable[[str, int], tuple[str, ...]]


def lanes_by(order: Order) -> LanesOf:
    """The lanes in which deliveries stand, by the order that their destination has today."""
    if order.kind == "received":
        one = ("",)
        return lambda _key, _number: one
    if order.kind == "none":
        return lambda _key, number: (own_lane(number),)
    return lambda key, _number: keys_of(key) if BETWEEN in key else (key,)


def own_lane(delivery_id: int) -> str:
    """The key of a lane that no other delivery ever stands in."""
    return f"\0{delivery_id}"
