"""What becomes of a message is the same, whether its steps run in one go or are awaited one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.config.plan import Order
from engine.envelope import Envelope, Origin
from engine.errors import Refused, StepFailed
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.runtime.item import own_lane
from engine.runtime.routing import Outcome, Routing
from engine.store.base import NewDelivery
from engine.transforms.base import Verdict

from .conftest import Bench, Scripted, siu, steps, to

BY_PATIENT = Order("key", (Path.parse("PID-3.1"),), (), (Path.parse("MRG-1.1"),))
BY_TYPE = Order("key", (Path.parse("MSH-9.1"),))


def write(envelope: Envelope, context: Any) -> None:
    del context
    envelope.body.set("PID-3", "changed")
    envelope.variables["seen"] = True


def drop(envelope: Envelope, context: Any) -> Verdict:
    del envelope, context
    return Verdict.DROP


def fail(envelope: Envelope, context: Any) -> None:
    raise StepFailed("write", "missing", "PID-3")


def hold(envelope: Envelope, context: Any) -> None:
    raise StepFailed("write", "missing", outcome="hold")


def refuse(envelope: Envelope, context: Any) -> None:
    raise Refused("unknown_location")


def break_down(envelope: Envelope, context: Any) -> None:
    raise ZeroDivisionError


def spoil(envelope: Envelope, context: Any) -> None:
    del context
    envelope.body.set("PID-5", "Müller")  # which ASCII lacks


DOES: list[Callable[..., Any]] = [write, drop, fail, hold, refuse, break_down, spoil]


def shown(outcome: Outcome) -> tuple[Any, ...]:
    """Without the ids, which differ each time."""

    def told(delivery: NewDelivery) -> tuple[Any, ...]:
        lane = "its own" if delivery.key == own_lane(delivery.delivery_id) else delivery.key
        return (delivery.destination, lane, delivery.body, delivery.state, delivery.cause, delivery.interrupted)

    return (outcome.state, outcome.cause, list(map(told, outcome.deliveries)), list(outcome.effects))


@pytest.mark.parametrize("on_error", ["park", "hold"])
@pytest.mark.parametrize(
    ("shared", "own"), [*((None, does) for does in (None, *DOES)), *((does, write) for does in DOES)]
)
async def test_in_one_go_and_awaited(
    bench: Bench, shared: Callable[..., Any] | None, own: Callable[..., Any] | None, on_error: Any
) -> None:
    chains = [steps(*([] if does is None else [does])) for does in (shared, own)]
    destinations = [
        to(Scripted(), "as_it_is", order=BY_PATIENT),
        to(Scripted(), "own", transform=chains[1], order=Order("none")),
        to(Scripted(), "reordered", order=BY_TYPE, on_unanswered="hold"),
        to(Scripted(), "never", where=lambda envelope, context: False),
        to(Scripted(), "last", transform=chains[1], order=BY_PATIENT),
    ]
    for destination in destinations[3:4]:
        destination.where.variables, destination.where.opens = {}, True  # type: ignore[union-attr,misc]
    async with bench.running(*destinations, transform=chains[0], order=BY_PATIENT, on_error=on_error) as supervisor:
        routing: Routing = supervisor._channels["bench"].running.router.routing  # type: ignore[union-attr]

        def envelope() -> Envelope:
            return Envelope(Message.parse(siu("M1")), Origin("mllp"), "c", "bench", 1, 0.0)

        assert shown(routing.outcome(envelope(), "P1")) == shown(await routing.awaited(envelope(), "P1"))
        many = "\x1e".join(map(str, range(200)))
        assert shown(routing.outcome(envelope(), many)) == shown(await routing.awaited(envelope(), many))
