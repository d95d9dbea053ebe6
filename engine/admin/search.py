"""The search for messages that the admin API offers: what may be asked, and the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.admin.views import message_view
from engine.delivery import DeliveryState, MessageState
from engine.store.base import Find, Store

LARGEST_ID = 2**63 - 1


class Wanted(BaseModel):
    """A search for messages."""

    model_config = ConfigDict(extra="forbid")

    channel: str | None = None
    state: MessageState | None = None
    delivery_state: DeliveryState | None = None
    correlation_id: str | None = None
    control_id: str | None = None
    patient: str | None = Field(default=None, min_length=1, max_length=1000, repr=False)
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = Field(default=None, ge=1, le=LARGEST_ID)
    limit: int = Field(default=50, ge=1, le=500)


def found(store: Store, wanted: Wanted) -> dict[str, Any]:
    """Messages that are wanted, and the ``before`` of the next page."""
    rows = store.find(
        Find(
            channel=wanted.channel,
            state=None if wanted.state is None else str(wanted.state),
            correlation_id=wanted.correlation_id,
            control_id=wanted.control_id,
            since=None if wanted.since is None else wanted.since.timestamp(),
            until=None if wanted.until is None else wanted.until.timestamp(),
            delivery_state=None if wanted.delivery_state is None else str(wanted.delivery_state),
            patient=wanted.patient,
            before_id=wanted.before,
            limit=wanted.limit,
        )
    )
    return {
        "messages": [message_view(row, store.deliveries_of(row.message_id)) for row in rows],
        "next": rows[-1].message_id if len(rows) == wanted.limit else None,
    }
