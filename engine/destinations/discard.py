"""`discard:` as a destination: the message counts as delivered and goes nowhere.

For channels whose effect lies in their steps (`remember`, `resolve`), and for switching a destination off on purpose.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from engine.destinations.base import Building, Destination, Outgoing, Response
from engine.errors import Evidence


class DiscardConfig(BaseModel):
    """`discard: {}` takes no keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return {} if value is None else value


class DiscardDestination(Destination):
    """Takes everything and keeps nothing."""

    Config = DiscardConfig

    def __init__(self, config: DiscardConfig, building: Building) -> None:
        del config, building

    @property
    def address(self) -> str:
        """``discard``."""
        return "discard"

    async def send(self, outgoing: Outgoing) -> Response:
        """Always delivered."""
        del outgoing
        return Response(evidence=Evidence("AA"))
