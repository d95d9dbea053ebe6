"""Which messages an engine removes by itself, by what its files say."""

from __future__ import annotations

import pytest

from engine.config.plan import Duplicates
from engine.config.settings import Retention
from engine.errors import Evidence, Rejected, StepFailed
from engine.runtime import pruning
from engine.store.audit import Act, FindAudit

from .conftest import WHO, Bench, Scripted, siu, steps, to

DAY = 86400.0


def drop(envelope, context):
    from engine.transforms.base import Verdict

    return Verdict.DROP


async def test_what_is_old_enough_goes_and_the_rest_stays(bench: Bench, monkeypatch, logged):
    monkeypatch.setattr(pruning, "LOT", 2)
    async with bench.running(to(Scripted()), retention={"delivered": 30 * DAY}) as supervisor:
        for number in range(5):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 5)
        bench.clock.at += 31 * DAY
        await bench.source.send(siu("M9"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
        assert (await supervisor.prune(WHO, dry_run=True)).messages == {("bench", "delivered"): 5}
        assert len(bench.messages()) == 6
        assert (await supervisor.prune(WHO, dry_run=False)).messages == {("bench", "delivered"): 5}
        assert [row.control_id for row in bench.messages()] == ["M9"]
        assert len(bench.store.audit_rows(FindAudit(act=Act.PRUNED))) == 1
    told = [line for line in logged if line["event"] == "messages.pruned"]
    assert [(line["channel"], line["kept_as"], line["number"]) for line in told] == [("bench", "delivered", 5)]


async def test_without_a_word_everything_is_kept(bench: Bench):
    async with bench.running(to(Scripted()), transform=steps(drop)) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: bench.messages()[0].state == "filtered")
        bench.clock.at += 10_000 * DAY
        assert (await supervisor.prune(WHO, dry_run=False)).messages == {}
        assert len(bench.messages()) == 1


async def test_what_the_channel_says_wins_over_the_site(bench: Bench):
    async with bench.running(to(Scripted()), transform=steps(drop), retention={"filtered": None}) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: bench.messages()[0].state == "filtered")
        bench.clock.at += 10 * DAY
        settings = supervisor.plan.settings
        retention = settings.retention.model_copy(update={"filtered": DAY})
        object.__setattr__(supervisor.plan, "settings", settings.model_copy(update={"retention": retention}))
        assert (await supervisor.prune(WHO, dry_run=True)).messages == {}
        object.__setattr__(supervisor.plan.channels["bench"], "retention", {})
        assert (await supervisor.prune(WHO, dry_run=True)).messages == {("bench", "filtered"): 1}


async def test_contents_go_by_channel_and_state_before_their_messages(bench: Bench, logged):
    def fail(envelope, context):
        raise StepFailed("lookup", "lookup_missing")

    bodies = {"delivered": 10 * DAY, "failed": None}
    async with bench.running(to(Scripted()), retention={"delivered": 30 * DAY}, bodies=bodies) as supervisor:
        site(supervisor, Retention.model_validate({"bodies": "5d"}))
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        bench.clock.at += 9 * DAY
        assert not (await supervisor.prune(WHO, dry_run=False)).bodies
        bench.clock.at += 2 * DAY
        counted = await supervisor.prune(WHO, dry_run=True)
        assert (counted.bodies, bench.store.message_body(1)) == ({("bench", "delivered"): 1}, siu("M0"))
        run = await supervisor.prune(WHO, dry_run=False)
        assert (run.messages, run.bodies, run.size) == ({}, {("bench", "delivered"): 1}, counted.size)
        assert run.size > len(siu("M0")), "what was sent is what was received"
        (row,) = bench.messages()
        assert (row.control_id, row.bodies_removed_at, bench.store.message_body(row.message_id)) == (
            *("M0", bench.clock.at),
            b"",
        )
        assert supervisor.pruning.last is run
        bench.clock.at += 20 * DAY
        assert (await supervisor.prune(WHO, dry_run=False)).messages == {("bench", "delivered"): 1}
    async with bench.running(to(Scripted()), transform=steps(fail), bodies=bodies) as supervisor:
        await bench.source.send(siu("M1"))
        await bench.until(lambda: bench.messages()[0].state == "failed")
        bench.clock.at += 100 * DAY
        assert not (await supervisor.prune(WHO, dry_run=False)).bodies, "the channel says never"
        object.__setattr__(supervisor.plan.channels["bench"], "bodies", {})
        site(supervisor, Retention.model_validate({"bodies": "5d"}))
        assert (await supervisor.prune(WHO, dry_run=False)).bodies == {("bench", "failed"): 1}
    told = [(line["kept_as"], line["number"]) for line in logged if line["event"] == "bodies.pruned"]
    assert told == [("delivered", 1), ("failed", 1)]


def site(supervisor, retention: Retention) -> None:
    """What site.yaml says."""
    settings = supervisor.plan.settings.model_copy(update={"retention": retention})
    object.__setattr__(supervisor.plan, "settings", settings)


async def test_what_was_passed_by_comes_once_it_is_finished(bench: Bench, monkeypatch):
    monkeypatch.setattr(pruning, "LOT", 2)
    emr = Scripted([Rejected(Evidence("AE")), Rejected(Evidence("AE")), Rejected(Evidence("AE"))])
    async with bench.running(to(emr), bodies={"delivered": DAY}) as supervisor:
        for number in range(5):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        bench.clock.at += 2 * DAY
        assert (await supervisor.prune(WHO, dry_run=False)).bodies == {("bench", "delivered"): 2}
        for row in bench.deliveries("parked"):
            assert (await supervisor.resend_message(row.message_id, WHO)) == "1 delivery queued again"
        await bench.until(lambda: len(bench.deliveries("delivered")) == 5)
        assert not (await supervisor.prune(WHO, dry_run=False)).bodies, "their time begins anew"
        bench.clock.at += 2 * DAY
        assert (await supervisor.prune(WHO, dry_run=True)).bodies == {("bench", "delivered"): 3}
        assert (await supervisor.prune(WHO, dry_run=False)).bodies == {("bench", "delivered"): 3}
        assert not (await supervisor.prune(WHO, dry_run=False)).bodies


async def test_a_message_without_its_content_is_not_sent_again_and_says_why(bench: Bench):
    def fail(envelope, context):
        raise StepFailed("lookup", "lookup_missing")

    async with bench.running(to(Scripted()), bodies={"delivered": DAY}) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        bench.clock.at += 2 * DAY
        await supervisor.prune(WHO, dry_run=False)
        with pytest.raises(ValueError, match=r"its content was removed on 20.*retention: bodies"):
            await supervisor.resend_delivery(bench.deliveries()[0].delivery_id, WHO)
        assert not bench.store.audit_rows(FindAudit(act=Act.DELIVERY_RESENT))
    async with bench.running(to(Scripted()), transform=steps(fail), bodies={"failed": DAY}) as supervisor:
        await bench.source.send(siu("M1"))
        await bench.until(lambda: bench.messages()[-1].state == "failed")
        bench.clock.at += 2 * DAY
        await supervisor.prune(WHO, dry_run=False)
        with pytest.raises(ValueError, match="its content was removed on"):
            await supervisor.resend_message(bench.messages()[-1].message_id, WHO)
        assert bench.messages()[-1].state == "failed"


async def test_a_repeated_message_is_new_when_the_content_of_the_first_is_gone(bench: Bench):
    plan = {"duplicates": Duplicates(window=30 * DAY, changed="deliver"), "bodies": {"delivered": DAY}}
    emr = Scripted()
    async with bench.running(to(emr), **plan) as supervisor:
        for _ in range(2):
            await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        assert len(emr.sent) == 1
        bench.clock.at += 2 * DAY
        await supervisor.prune(WHO, dry_run=False)
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(emr.sent) == 2)


async def test_the_engine_does_it_every_hour(bench: Bench):
    async with bench.running(to(Scripted()), transform=steps(drop), retention={"filtered": DAY}) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: bench.messages()[0].state == "filtered")
        bench.clock.at += 2 * DAY
        await supervisor.housekeeping.hourly()
        assert bench.messages() == []


async def test_it_leaves_others_more_of_the_time_while_they_commit(bench: Bench, monkeypatch):
    monkeypatch.setattr(pruning, "LOT", 2)
    shares, busy = [], False

    async def give_way(began, share):
        shares.append(share)
        if busy:
            await bench.store.submit()

    monkeypatch.setattr(pruning, "give_way", give_way)
    async with bench.running(to(Scripted()), retention={"delivered": DAY}) as supervisor:
        await bench.until(lambda: (last := supervisor.housekeeping.pruning.last) is not None and last.ended is not None)
        for busy in (False, True):
            for number in range(9):
                await bench.source.send(siu(f"{busy}{number}"))
            await bench.until(lambda: len(bench.deliveries("delivered")) == 9)
            bench.clock.at += 2 * DAY
            shares.clear()
            await supervisor.prune(WHO, dry_run=False)
            assert bench.messages() == []
            assert set(shares[2:]) == {pruning.SHARE if busy else pruning.ALONE}
            assert len(shares) >= 5
