from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.sources.base import Building
from engine.sources.channel import ChannelSource, ChannelSourceConfig


@pytest.mark.parametrize("written", [None, {}])
async def test_it_listens_on_nothing_and_can_reply(
    building: Building, receive: Any, make_context: Any, written: Any
) -> None:
    source = ChannelSource(ChannelSourceConfig.model_validate(written), building)
    await source.start(make_context(receive))
    assert source.can_reply
    assert source.claims() == ()
    assert source.address == "channel:test-channel"
    await source.stop()
    assert not receive.taken


def test_it_takes_no_keys() -> None:
    with pytest.raises(ValidationError):
        ChannelSourceConfig.model_validate({"name": "x"})
