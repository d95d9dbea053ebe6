"""What is counted and told of the outcomes of one destination's sends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from engine.delivery import BY_HAND, DeliveryState
from engine.errors import DeliveryError, Rejected, Unanswered, Unavailable
from engine.runtime.item import Item
from engine.runtime.pace import Pace
from engine.spread import Spread
from engine.store.base import DeliveryRow, Settle

DELIVERED = DeliveryState.DELIVERED  # before 3.12 a member of an enumeration is a call away


@dataclass(slots=True)
class Counts:
    """What happened to the sends of one destination since its channel was started."""

    delivered: int = 0
    #: Sends that reached the partner, or may have, and had no valid answer.
    unanswered: int = 0
    #: Sends of a delivery that the partner may have had before.
    repeated: int = 0
    #: Deliveries that were marked as possible duplicates.
    may_be_duplicated: int = 0
    #: Outcomes that the store refused for good: what is stored is not what was sent.
    outcomes_refused: int = 0
    #: Sends that the partner's answer said no to.
    rejected: int = 0
    #: The last send did not reach the partner.
    away: bool = False
    #: Outcomes other than delivered, by the state that they left their delivery in; queued: it goes again.
    others: Counter[DeliveryState] = field(default_factory=Counter)
    #: Seconds from the routing of each that was delivered to the partner's answer.
    took: Spread = field(default_factory=Spread)


def tell(log: FilteringBoundLogger, counts: Counts, item: Item, settle: Settle) -> None:
    """Count an outcome that is committed, and log it: one line with the ids, and codes only."""
    if settle.may_be_duplicated and not item.may_be_duplicated:
        item.may_be_duplicated = True
        counts.may_be_duplicated += 1
    ack = settle.evidence.ack if settle.evidence is not None else ""
    if settle.state is DELIVERED:
        counts.delivered += 1
        counts.took.add(settle.at - item.created_at)
    if settle.state is DELIVERED and not item.may_be_duplicated:
        log.info(
            "delivery.delivered",
            ack=ack,
            message_id=item.message_id,
            delivery_id=item.delivery_id,
            correlation_id=item.correlation_id,
            control_id=item.control_id,
            attempt=settle.attempts,
        )
        return
    facts: dict[str, Any] = {
        "message_id": item.message_id,
        "delivery_id": item.delivery_id,
        "correlation_id": item.correlation_id,
        "control_id": item.control_id,
        "attempt": settle.attempts,
    }
    if item.may_be_duplicated:
        facts["may_be_duplicated"] = True
    if settle.state is DELIVERED:
        log.info("delivery.delivered", ack=ack, **facts)
    else:
        counts.others[settle.state] += 1
        log.warning(f"delivery.{settle.state}", cause=settle.cause, **facts)


def attempted(pace: Pace, counts: Counts, settle: Settle, error: DeliveryError | None, now: float) -> None:
    """What the end of a send says about the partner."""
    if error is None and settle.sent_at is None:
        return  # nothing was sent: its bytes could not be read
    pace.ended(now)
    counts.away = isinstance(error, Unavailable)
    if counts.away:
        pace.away(now)
    elif error is not None and settle.state is DeliveryState.QUEUED:
        pace.silent(now)
    else:
        pace.answered()
    if isinstance(error, Unanswered):
        counts.unanswered += 1
    elif isinstance(error, Rejected):
        counts.rejected += 1


def discarded(row: DeliveryRow, at: float) -> Settle:
    """The operation by which a person gives a delivery up."""
    return Settle(row.delivery_id, DeliveryState.DISCARDED, at, row.attempts, BY_HAND)
