from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine.destinations.base import Building, DestinationContext
from engine.destinations.channel import ChannelDestination, ChannelDestinationConfig
from engine.envelope import ACCEPT, Ack, Origin, Receipt
from engine.errors import Rejected, SpecError, Unanswered, Unavailable


class Hub:
    """The door to the other channels."""

    def __init__(self, ack: Ack | None = ACCEPT) -> None:
        self.ack = ack
        self.handed: list[tuple[str, bytes, Origin]] = []
        self.receipt: Receipt | None = None
        self.arrived = asyncio.Event()

    def __call__(self, channel: str, body: bytes, origin: Origin) -> Receipt:
        self.handed.append((channel, body, origin))
        self.receipt = Receipt("corr-1", 1)
        if self.ack is not None:
            self.receipt.accept(self.ack)
        self.arrived.set()
        return self.receipt


@pytest.fixture
def make(building: Building) -> Callable[[Any], ChannelDestination]:
    return lambda written: ChannelDestination(ChannelDestinationConfig.model_validate(written), building)


@pytest.mark.parametrize("written", ["other", {"name": "other"}])
async def test_a_message_is_handed_over_and_counts_when_it_is_committed(make: Any, outgoing: Any, written: Any) -> None:
    hub, destination, message = Hub(), make(written), outgoing()
    await destination.start(DestinationContext(hub))
    assert (await destination.send(message)).evidence.ack == "AA"
    ((channel, body, origin),) = hub.handed
    assert (channel, body) == ("other", message.body)
    assert (origin.source, origin.peer, origin.correlation_id) == ("channel", "test-channel", "corr-1")
    assert destination.address == "channel:other"


@pytest.mark.parametrize(
    ("ack", "expected"),
    [
        (Ack("reject", 207, cause="store_unavailable"), "unavailable: store"),
        (Ack("reject", 207, cause="channel_stopped"), "unavailable: stopped"),
        (Ack("error", cause="destination_unavailable"), "unavailable: partner"),
        (Ack("error", cause="destination_timeout"), "unanswered: timeout"),
        (Ack("error", cause="destination_rejected"), "rejected: AE"),
        (Ack("reject", 100, cause="malformed"), "rejected: AR 100"),
        (Ack("error", cause="step_failed"), "rejected: AE"),
    ],
)
async def test_a_negative_commit_is_classified(make: Any, outgoing: Any, ack: Ack, expected: str) -> None:
    destination = make("other")
    await destination.start(DestinationContext(Hub(ack)))
    with pytest.raises((Unavailable, Unanswered, Rejected)) as error:
        await destination.send(outgoing())
    assert str(error.value) == expected


async def test_before_its_start_it_is_unavailable(make: Any, outgoing: Any) -> None:
    with pytest.raises(Unavailable, match="stopped"):
        await make("other").send(outgoing())


async def test_who_gives_up_waiting_does_not_cancel_the_commit(make: Any, outgoing: Any) -> None:
    hub, destination = Hub(None), make("other")
    await destination.start(DestinationContext(hub))
    sending = asyncio.create_task(destination.send(outgoing()))
    await hub.arrived.wait()
    sending.cancel()
    await asyncio.wait({sending})
    assert hub.receipt is not None
    assert not hub.receipt.committed.done()


@pytest.mark.parametrize(("name", "nearest"), [("othr", "other"), ("zzzz", ""), ("test-channel", "")])
def test_a_channel_that_does_not_exist_is_named(make: Any, name: str, nearest: str) -> None:
    with pytest.raises(SpecError) as error:
        make(name)
    assert error.value.nearest == nearest
