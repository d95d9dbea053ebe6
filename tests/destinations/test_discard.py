from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.destinations.base import Building
from engine.destinations.discard import DiscardConfig, DiscardDestination


@pytest.mark.parametrize("written", [None, {}])
async def test_everything_counts_as_delivered(building: Building, outgoing: Any, written: Any) -> None:
    destination = DiscardDestination(DiscardConfig.model_validate(written), building)
    assert (await destination.send(outgoing())).evidence.ack == "AA"
    await destination.probe()
    assert destination.address == "discard"


def test_it_takes_no_keys() -> None:
    with pytest.raises(ValidationError):
        DiscardConfig.model_validate({"path": "x"})
