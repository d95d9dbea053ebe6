"""`channel: {}` as a source: the channel is fed by other channels of the site (`to: {channel: NAME}`) and by `ask`.

There is nothing to listen on: the runtime's hub leads both to the channel's own `receive`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from engine.sources.base import Building, Source, SourceContext


class ChannelSourceConfig(BaseModel):
    """`channel: {}` takes no keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return {} if value is None else value


class ChannelSource(Source):
    """Takes in what other channels hand over and what `ask` asks."""

    Config = ChannelSourceConfig
    can_reply: ClassVar[bool] = True

    def __init__(self, config: ChannelSourceConfig, building: Building) -> None:
        del config
        self._name = building.channel

    @property
    def address(self) -> str:
        """``channel:NAME``."""
        return f"channel:{self._name}"

    async def start(self, context: SourceContext) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""
