"""What the store will never take is not offered to it for ever: it is seen, and a person can act."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine.delivery import DeliveryState
from engine.errors import DoesNotFit, StoreError
from engine.runtime.status import DestinationStatus
from engine.store.base import Accept, Requeue, Route, Settle

from .conftest import WHO, Bench, Scripted, by, siu, to

BY_PATIENT = by("PID-3.1")


def status(bench: Bench) -> DestinationStatus:
    return bench.supervisor.channels()[0].destinations[0]


def refuse(bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: type[Any], times: int = 1) -> None:
    """Let the store refuse the next operations of a kind for good."""
    commit = bench.store.commit
    left = times

    def refusing(operations: Sequence[Any], told: Callable[[StoreError | None], object]) -> None:
        nonlocal left
        routed = any(isinstance(operation, Accept) and operation.at for operation in operations)
        if left and (any(isinstance(operation, kind) for operation in operations) or (routed and kind is Route)):
            left -= 1
            asyncio.get_running_loop().call_soon(told, DoesNotFit("not committed: may not become"))
        else:
            commit(operations, told)

    monkeypatch.setattr(bench.store, "commit", refusing)


@pytest.mark.parametrize("act", ["resend_delivery", "discard_delivery"])
async def test_an_open_delivery_whose_outcome_is_refused_keeps_its_key_back_until_a_person_acts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, act: str, logged: list[dict[str, Any]]
) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr, connections=2, order=BY_PATIENT), order=BY_PATIENT) as supervisor:
        for number, patient in enumerate("AAB"):
            await bench.source.send(siu(f"M{number}", patient))
        await bench.until(lambda: emr.under_way == 2)
        refuse(bench, monkeypatch, Settle)
        emr.gate.set()
        await bench.until(
            lambda: len(bench.deliveries("delivered")) == 1 and status(bench).outcomes_refused_since_start == 1
        )
        (stuck,) = [row for row in bench.deliveries("queued") if row.control_id in ("M0", "M2") and row.attempts == 0]
        assert [line["outcome"] for line in logged if line["event"] == "delivery.outcome_refused"] == ["delivered"]
        await getattr(supervisor, act)(stuck.delivery_id, WHO)
        await bench.until(lambda: len(bench.deliveries("queued")) == 0)
        assert len(bench.deliveries("delivered")) == (3 if act == "resend_delivery" else 2)


async def test_a_delivery_that_ended_meanwhile_leaves_its_lane(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr)):
        for number in range(2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: emr.under_way == 1)
        first = bench.deliveries()[0].delivery_id
        await bench.store.submit(Settle(first, DeliveryState.DISCARDED, bench.clock.at, 0, "by hand"))
        emr.gate.set()
        await bench.until(lambda: [str(row.state) for row in bench.deliveries()] == ["discarded", "delivered"])
        assert status(bench).outcomes_refused_since_start == 1


async def test_a_route_that_does_not_fit_fails_alone_and_can_be_routed_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr = Scripted()
    async with bench.running(to(emr), ack="routed") as supervisor:
        refuse(bench, monkeypatch, Route)
        assert not (await bench.source.send(siu("M0"))).positive  # type: ignore[union-attr]
        assert (await bench.source.send(siu("M1"))).positive  # type: ignore[union-attr]
        failed = bench.messages()[0]
        assert (str(failed.state), failed.cause) == ("failed", "internal not_stored")
        await supervisor.resend_message(failed.message_id, WHO)
        await bench.until(lambda: emr.ids == ["M1", "M0"])


async def test_the_store_tells_what_will_never_fit_from_what_may_be_offered_again(bench: Bench) -> None:
    async with bench.running(to(Scripted())):
        with pytest.raises(DoesNotFit):
            await bench.store.submit(Requeue(999_999, 0.0))
