"""`channel: NAME` as a destination: hands the message to another channel of the site.

It counts as delivered when that channel has committed it; what becomes of it there is that channel's own record. A
channel with a reply has committed it when its partner has answered, and its outcome is the delivery's. One feed is
split this way, because an MLLP port belongs to one channel only.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.destinations.base import Building, Destination, DestinationContext, HandOver, Outgoing, Response
from engine.envelope import Ack, Origin
from engine.errors import Evidence, Rejected, SpecError, Unanswered, Unavailable

#: Causes of a negative Ack that say nothing about the message: it may be handed over again. The last are those of a
#: channel with a reply, whose partner was not reached.
_UNABLE = {"store_unavailable": "store", "channel_stopped": "stopped", "destination_unavailable": "partner"}


class ChannelDestinationConfig(BaseModel):
    """`channel: NAME` or `channel: {name: NAME}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="The channel that takes the message in; its source must be `channel: {}`.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class ChannelDestination(Destination):
    """Hands over to another channel."""

    Config = ChannelDestinationConfig

    def __init__(self, config: ChannelDestinationConfig, building: Building) -> None:
        self.name = config.name
        self._from = building.channel
        self._hand_over: HandOver | None = None
        if config.name == building.channel:
            raise SpecError("a channel cannot hand messages to itself", at=("name",))
        if config.name not in building.channels:
            nearest = get_close_matches(config.name, sorted(building.channels), 1)
            raise SpecError(
                f"there is no channel {config.name!r}",
                at=("name",),
                expected="the name of a channel of this site",
                nearest=nearest[0] if nearest else "",
            )

    @property
    def address(self) -> str:
        """``channel:NAME``."""
        return f"channel:{self.name}"

    async def start(self, context: DestinationContext) -> None:
        """Keep the door to the other channels."""
        self._hand_over = context.hand_over

    async def send(self, outgoing: Outgoing) -> Response:
        """Hand over and wait for the other channel's commit 1."""
        if self._hand_over is None:
            raise Unavailable("stopped")
        origin = Origin("channel", self._from, correlation_id=outgoing.correlation_id)
        receipt = self._hand_over(self.name, outgoing.body, origin)
        ack = await receipt.committed
        if ack.positive:
            return Response(evidence=Evidence("AA"))
        raise self._refusal(ack)

    def _refusal(self, ack: Ack) -> Rejected | Unavailable | Unanswered:
        if ack.cause == "destination_timeout":
            return Unanswered("timeout")
        if ack.cause in _UNABLE:
            return Unavailable(_UNABLE[ack.cause])
        condition = str(ack.condition) if ack.condition is not None else None
        return Rejected(Evidence("AR" if ack.outcome == "reject" else "AE", condition))
