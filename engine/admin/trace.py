"""What happened to one correlation id, hop by hop.

Pure: rows of the store in, JSON values out, in the order of time. A hop is one recorded moment (received, routed,
sent, delivered, parked, …). Nothing is made up: an attempt that was followed by another left no time of its own, so
``sent`` is the last one and counts them in ``attempts``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.admin.views import codes_view, moment
from engine.delivery import DeliveryState, MessageState
from engine.store.base import DeliveryRow, MessageRow


@dataclass(slots=True)
class Hop:
    """One recorded moment; ``time`` in seconds since the epoch."""

    time: float
    what: str
    channel: str
    message_id: int
    facts: dict[str, Any] = field(default_factory=dict)

    def view(self, start: float) -> dict[str, Any]:
        """As JSON; empty facts are left out."""
        known = {name: fact for name, fact in self.facts.items() if fact not in ("", None, {}, 0, False)}
        return {
            "time": moment(self.time),
            "ms": round((self.time - start) * 1000, 1) + 0.0,  # a clock read a little earlier is no -0.0
            "channel": self.channel,
            "what": self.what,
            "message_id": self.message_id,
            **known,
        }


def hops(
    messages: Sequence[MessageRow], deliveries: Sequence[DeliveryRow], acks: Mapping[str, str]
) -> list[dict[str, Any]]:
    """All hops in order of time. ``acks`` says for each channel what its ack waits for (``received``, …)."""
    of_message: dict[int, list[DeliveryRow]] = {}
    for delivery in deliveries:
        of_message.setdefault(delivery.message_id, []).append(delivery)
    found: list[tuple[float, Hop]] = []
    for message in messages:
        owed = of_message.get(message.message_id, [])
        found += in_order(message_hops(message))
        for delivery in owed:
            found += in_order(delivery_hops(delivery), after=message.routed_at or 0.0)
        found += in_order(acknowledged(message, owed, acks.get(message.channel, "reply")))
    found.sort(key=lambda placed: placed[0])
    return [hop.view(found[0][1].time) for _, hop in found]


def in_order(found: Iterable[Hop], after: float = 0.0) -> Iterator[tuple[float, Hop]]:
    """Hops with their places: of things that one commit holds, the clock read a little later may be the earlier one."""
    for hop in found:
        after = max(after, hop.time)
        yield after, hop


def message_hops(row: MessageRow) -> Iterator[Hop]:
    refused = row.state is MessageState.REFUSED
    yield Hop(
        row.received_at,
        "refused" if refused else "received",
        row.channel,
        row.message_id,
        {
            "source": row.origin.get("source", ""),
            "peer": row.origin.get("peer", ""),
            "control_id_in": row.control_id,
            "type": row.message_type,
            "cause": row.cause if refused else "",
        },
    )
    if row.state in (MessageState.ROUTED, MessageState.FILTERED, MessageState.FAILED):
        yield Hop(row.routed_at or row.received_at, str(row.state), row.channel, row.message_id, {"cause": row.cause})


def delivery_hops(row: DeliveryRow) -> Iterator[Hop]:
    common = {"delivery_id": row.delivery_id, "destination": row.destination, "control_id_out": row.control_id}
    if row.sent_at:
        sent = {**common, "attempts": row.attempts, "may_be_duplicated": row.may_be_duplicated}
        yield Hop(row.sent_at, "sent", row.channel, row.message_id, sent)
    if row.state is DeliveryState.SENDING and row.sent_at:
        return
    outcome = {
        **common,
        "cause": row.cause,
        "codes": codes_view(row.evidence),
        "attempts": row.attempts,
        "next_at": moment(row.next_at) if row.state is DeliveryState.QUEUED else None,
    }
    yield Hop(row.settled_at or row.created_at, str(row.state), row.channel, row.message_id, outcome)


def acknowledged(row: MessageRow, owed: Sequence[DeliveryRow], waits_for: str) -> Iterator[Hop]:
    """The answer to the sender, at the commit it waited for: it left right after."""
    if not row.ack:
        return
    times = [row.received_at]
    if waits_for != "received" and row.routed_at:
        times.append(row.routed_at)
    if waits_for in ("delivered", "reply"):
        times += [delivery.settled_at for delivery in owed if delivery.settled_at]
    yield Hop(max(times), "acknowledged", row.channel, row.message_id, {"codes": {"ack": row.ack}})
