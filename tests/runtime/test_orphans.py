"""Destinations and channels that are gone from the files while something waits for them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config.plan import IdempotencyPlan, ReplyPlan, Retry
from engine.delivery import DeliveryState
from engine.errors import ERROR_TABLE, Evidence, Rejected, StepFailed, StoreError, Unanswered, Unavailable
from engine.runtime import clearing
from engine.runtime.orphans import lost_channels
from engine.store.sqlite import SqliteStore

from .conftest import WHO, Bench, Scripted, in_turn, siu, steps, to


class KeyOf:
    """An idempotency key that every request has."""

    def __call__(self, envelope: Any, context: Any) -> str:
        return "key"


def dead() -> Scripted:
    """A partner that is never reached."""
    return Scripted([Unavailable("refused")] * 100)


async def leave(bench: Bench, *ids: str, destination: Scripted | None = None, **options: Any) -> None:
    """Receive messages and stop before they are delivered to ``emr``."""
    async with bench.running(to(destination or dead(), "emr", **options)):
        for name in ids:
            await bench.source.send(siu(name))
        await bench.until(lambda: len(bench.deliveries()) == len(ids) and bench.deliveries()[0].attempts == 1)


async def test_a_destination_that_is_gone_with_messages_in_its_lane_keeps_its_channel_from_starting(
    bench: Bench, logged: list[dict[str, Any]]
) -> None:
    await leave(bench, "M0", "M1")
    async with bench.running(to(Scripted(), "emr2"), line=9) as supervisor:
        (status,) = supervisor.channels()
        assert (status.state, bench.source.context) == ("refused", None)
        assert status.problems == (
            "channels/bench.yaml:9: destinations: `emr` is not among them, and 2 wait (2 queued) for it; expected `emr`"
            " put back until it has drained, or `hl7engine rename-destination bench emr emr2`, or `hl7engine"
            " discard --channel bench --destination emr`",
        )
        assert [(item.name, item.queued) for item in status.destinations] == [("emr2", 0), ("emr", 2)]
    assert [line["channel"] for line in logged if line["event"] == "channel.refused"] == ["bench"]


async def test_it_goes_on_in_order_when_its_destination_is_back(bench: Bench) -> None:
    await leave(bench, "M0", "M1")
    async with bench.running(to(Scripted(), "other")):
        pass
    bench.clock.at += 60
    emr = Scripted()
    async with bench.running(to(emr)) as supervisor:
        await bench.until(lambda: len(emr.sent) == 2)
        assert supervisor.channels()[0].state == "running"
    assert [outgoing.body for outgoing in emr.sent] == [siu("M0"), siu("M1")]


async def test_a_destination_is_renamed_on_purpose_and_its_lane_keeps_its_order(bench: Bench) -> None:
    await leave(bench, "M0", "M1", "M2")
    bench.clock.at += 60
    north = Scripted()
    async with bench.running(to(north, "emr2")) as supervisor:
        assert await supervisor.rename_destination("bench", "emr", "emr2", WHO) == 3
        assert supervisor.channels()[0].state == "running"
        await bench.source.send(siu("M3"))
        await bench.until(lambda: len(north.sent) == 4)
    assert [outgoing.body for outgoing in north.sent] == [siu(f"M{number}") for number in range(4)]


async def test_a_renaming_that_was_broken_off_has_taken_the_pause_along(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave(bench, "M0", "M1")
    bench.clock.at += 60
    emr, north = Scripted(), Scripted()
    async with bench.running(to(emr)) as supervisor:
        await supervisor.pause_destination("bench", "emr", WHO)
        await bench.source.send(siu("M2"))
    with monkeypatch.context() as patched:
        patched.setattr(clearing, "Pause", broken_off)
        async with bench.running(to(north, "emr2")) as supervisor:
            with pytest.raises(InterruptedError):
                await supervisor.rename_destination("bench", "emr", "emr2", WHO)
    async with bench.running(to(north, "emr2")) as supervisor:
        assert await supervisor.rename_destination("bench", "emr", "emr2", WHO) > 0
        assert supervisor.channels()[0].destinations[0].paused_since is not None
        await supervisor.resume_destination("bench", "emr2", WHO)
        await bench.until(lambda: "M2" in north.ids)


def broken_off(*_: object) -> None:
    raise InterruptedError


async def test_what_is_discarded_on_purpose_lets_the_channel_start(bench: Bench) -> None:
    await leave(bench, "M0", "M1")
    async with bench.running(to(Scripted(), "other")) as supervisor:
        assert await supervisor.discard_waiting("bench", "emr", ["held"], WHO) == 0
        assert supervisor.channels()[0].state == "refused"
        assert await supervisor.discard_waiting("bench", "emr", (), WHO) == 2
        assert supervisor.channels()[0].state == "running"
        assert [(row.state, row.cause) for row in bench.deliveries()] == [("discarded", "by hand")] * 2
        with pytest.raises(ValueError, match="nothing waits for emr"):
            await supervisor.discard_waiting("bench", "emr", (), WHO)


@pytest.mark.parametrize(
    ("error", "options", "state"),
    [
        (Rejected(Evidence("AE")), {}, DeliveryState.PARKED),
        (Unanswered("timeout"), {"on_unanswered": "hold"}, DeliveryState.HELD),
    ],
)
async def test_what_waits_for_a_person_counts_as_well(
    bench: Bench, error: Any, options: dict[str, Any], state: DeliveryState
) -> None:
    await leave(bench, "M0", destination=Scripted([error]), **options)
    async with bench.running(to(Scripted(), "other")) as supervisor:
        assert f"1 waits (1 {state})" in supervisor.channels()[0].problems[0]


#: ``reply:`` of a channel that asks ``emr``.
REPLY: dict[str, Any] = {"reply": ReplyPlan("emr", 200, steps(), (), ERROR_TABLE), "reply_line": 14}


async def test_a_channel_with_messages_in_its_lanes_is_not_started_with_a_reply(bench: Bench) -> None:
    await leave(bench, "M0", "M1")
    async with bench.running(to(Scripted()), **REPLY) as supervisor:
        (status,) = supervisor.channels()
        assert (status.state, bench.source.context) == ("refused", None)
        assert status.problems == (
            "channels/bench.yaml:14: reply: the channel was without it, and 2 wait (2 queued) for `emr`, which would"
            " have no lane any more; expected the file without `reply:` until `emr` has drained, or `hl7engine discard"
            " --channel bench --destination emr`",
        )
    emr = Scripted()
    bench.clock.at += 60
    async with bench.running(to(emr)):
        await bench.until(lambda: len(emr.sent) == 2)
    async with bench.running(to(Scripted()), **REPLY) as supervisor:
        assert supervisor.channels()[0].state == "running", "it has drained"


@pytest.mark.parametrize(
    ("error", "options"), [(Rejected(Evidence("AE")), {}), (Unanswered("timeout"), {"on_unanswered": "hold"})]
)
async def test_what_waits_for_a_person_keeps_a_reply_out_until_it_is_given_up(
    bench: Bench, error: Any, options: dict[str, Any]
) -> None:
    await leave(bench, "M0", destination=Scripted([error]), **options)
    async with bench.running(to(Scripted()), **REPLY) as supervisor:
        assert supervisor.channels()[0].state == "refused"
        assert await supervisor.discard_waiting("bench", "emr", (), WHO) == 1
        assert supervisor.channels()[0].state == "running"


async def test_unrouted_messages_keep_a_reply_out(bench: Bench) -> None:
    async with bench.running(to(Scripted()), transform=in_turn()) as supervisor:
        supervisor._channels["bench"].running.router.push = lambda arrival: None  # type: ignore[union-attr,method-assign]
        await bench.source.send(siu("M0"))
    async with bench.running(to(Scripted()), **REPLY) as supervisor:
        assert "1 waits (1 received) to be routed" in supervisor.channels()[0].problems[0]


async def test_an_unknown_request_keeps_its_channel_from_losing_its_reply(bench: Bench) -> None:
    keyed = {"idempotency": IdempotencyPlan(KeyOf(), 86400.0, None)}
    asked = to(Scripted([Unanswered("timeout")]), on_unanswered="unknown", retry=Retry(attempts=1))
    async with bench.running(asked, **REPLY, **keyed):
        await bench.source.send(b'{"orderId": 1}')
        assert [row.state for row in bench.deliveries()] == ["unknown"]
    async with bench.running(to(Scripted()), line=9) as supervisor:
        assert supervisor.channels()[0].problems == (
            "channels/bench.yaml:9: destinations: the channel had a `reply:` from `emr`, and 1 waits (1 unknown) to be"
            " settled by a caller; expected `reply:` put back until each is repeated by its caller or resolved, or each"
            " given up with `hl7engine discard`",
        )
        assert await supervisor.discard_waiting("bench", "emr", (), WHO) == 1
        assert supervisor.channels()[0].state == "running"
    async with bench.running(asked, **REPLY, **keyed) as supervisor:
        assert supervisor.channels()[0].state == "running"


async def test_a_stop_ends_a_refused_channel_and_a_start_looks_again(bench: Bench) -> None:
    await leave(bench, "M0")
    async with bench.running(to(Scripted(), "other")) as supervisor:
        await supervisor.stop_channel("bench", WHO)
        assert (supervisor.channels()[0].state, supervisor.channels()[0].problems) == ("stopped", ())
        await supervisor.discard_waiting("bench", "emr", (), WHO)
        assert supervisor.channels()[0].state == "stopped"
        await supervisor.start_channel("bench", WHO)
        assert supervisor.channels()[0].state == "running"


async def test_a_channel_without_a_file_stays_visible_until_it_is_discarded(
    bench: Bench, logged: list[dict[str, Any]]
) -> None:
    await leave(bench, "M0", "M1")

    def fail(*_: Any) -> None:
        raise StepFailed("lookup", "lookup_missing")

    async with bench.running(to(Scripted()), name="failing", transform=steps(fail)):
        await bench.source.send(siu("F0"))
        await bench.until(lambda: bench.messages()[-1].state == "failed")
    async with bench.running(to(Scripted()), name="other") as supervisor:
        gone, failing, other = supervisor.channels()
        assert (gone.name, gone.state, gone.destinations[0].queued) == ("bench", "removed", 2)
        assert gone.problems == (
            "channels/bench.yaml: the file is gone, and 2 wait (2 queued) in its channel; expected the file put back"
            " until the channel has drained, or `hl7engine discard --channel bench`",
        )
        assert (failing.name, failing.state, failing.failed, other.state) == ("failing", "removed", 1, "running")
        assert {line["channel"] for line in logged if line["event"] == "channel.removed"} == {"bench", "failing"}
        assert await supervisor.discard_waiting("bench", None, (), WHO) == 2
        assert await supervisor.discard_waiting("failing", None, ["failed"], WHO) == 1
        assert [status.name for status in supervisor.channels()] == ["other"]
        assert (bench.messages()[-1].state, bench.messages()[-1].cause) == ("filtered", "discarded by hand")
        with pytest.raises(ValueError, match="name one of its destinations"):
            await supervisor.discard_waiting("other", None, (), WHO)


async def test_unrouted_messages_of_a_channel_without_a_file_are_given_up_too(bench: Bench) -> None:
    async with bench.running(to(Scripted()), transform=in_turn()) as supervisor:
        supervisor._channels["bench"].running.router.push = lambda arrival: None  # type: ignore[union-attr,method-assign]
        await bench.source.send(siu("M0"))
    async with bench.running(to(Scripted()), name="other") as supervisor:
        assert supervisor.channels()[0].received == 1
        assert await supervisor.discard_waiting("bench", None, (), WHO) == 1
        assert bench.messages()[0].state == "filtered"


async def test_of_a_lane_that_is_discarded_nothing_goes_when_its_head_is_removed(bench: Bench) -> None:
    emr = Scripted([Unanswered("timeout")])
    async with bench.running(to(emr, "emr", retry=Retry(backoff=(0.2,)))) as supervisor:
        for name in ("M1", "M2", "M3"):
            await bench.source.send(siu(name))
        await bench.until(lambda: len(bench.deliveries()) == 3 and bench.deliveries()[0].attempts == 1)
        assert await supervisor.discard_waiting("bench", "emr", (), WHO) == 3
        await bench.source.send(siu("M4"))
        await bench.until(lambda: bench.deliveries("delivered"))
        assert [row.control_id for row in bench.deliveries("discarded")] == ["M1", "M2", "M3"]
    assert emr.ids == ["M1", "M4"]


async def test_many_are_discarded_in_a_running_channel_without_touching_what_is_being_sent(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr)) as supervisor:
        for number in range(450):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("queued")) >= 449)
        assert await supervisor.discard_waiting("bench", "emr", (), WHO) == 449
        emr.gate.set()
        await bench.until(lambda: bench.store.open_counts() == {})
        await bench.source.send(siu("LAST"))
        await bench.until(lambda: len(emr.sent) == 2)
    assert [outgoing.body for outgoing in emr.sent] == [siu("M0"), siu("LAST")]


async def test_renaming_wants_a_file_that_says_so_and_a_channel_that_does_not_run(bench: Bench) -> None:
    await leave(bench, "M0")
    async with bench.running(to(dead()), to(Scripted(), "other")) as supervisor:
        for old, new, why in (
            ("emr", "other", "must name other, and emr no more"),
            ("emr", "nobody", "must name nobody"),
            ("x", "y", "nothing waits for x"),
        ):
            with pytest.raises(ValueError, match=why):
                await supervisor.rename_destination("bench", old, new, WHO)


async def test_what_was_delivered_under_a_name_that_is_gone_is_not_sent_again(bench: Bench) -> None:
    async with bench.running(to(Scripted())):
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
    async with bench.running(to(Scripted(), "other")) as supervisor:
        assert supervisor.channels()[0].state == "running"
        with pytest.raises(ValueError, match="channel bench has no destination emr any more"):
            await supervisor.resend_delivery(bench.deliveries()[0].delivery_id, WHO)


async def test_a_store_that_cannot_be_read_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr("engine.runtime.supervised.RESTART", (0.01,))
    failing = iter([False, True])  # the store itself asks once while it opens
    honest = SqliteStore.open_counts

    def fail_once(store: SqliteStore) -> Any:
        if next(failing, False):
            raise StoreError("cannot read: SQLITE_IOERR")
        return honest(store)

    monkeypatch.setattr(SqliteStore, "open_counts", fail_once)
    async with bench.running(to(Scripted())) as supervisor:
        await bench.until(lambda: bench.source.context is not None)
        assert supervisor.channels()[0].state == "running"
    assert [line["error"] for line in logged if line["event"] == "channel.failed"] == [
        "cannot start: the store cannot be read"
    ]


def test_a_channel_whose_file_is_broken_is_not_gone() -> None:
    counts = {("bad", "emr", "queued"): 1, ("gone", "", "received"): 2}
    assert list(lost_channels({"bad"}, counts)) == ["gone"]
