"""The two other ways of an application ack: the destination's own answer, and a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from engine.config.plan import ACKS, Duplicates, Retry
from engine.destinations.base import Response
from engine.errors import Evidence, Rejected, StepFailed, Unavailable
from engine.hl7.header import Header, header_of
from engine.hl7.message import Message
from engine.hl7.mllp import frame
from engine.runtime import acknowledge
from engine.store.base import AckOwed
from engine.store.sqlite import SqliteStore
from engine.transforms.base import Chain

from .conftest import WHO, Bench, Do, Scripted, refuse, to
from .test_ack_modes import asking, connected, on_mllp

YES = (
    b"MSH|^~\\&|EMR|X|ENGINE|SITE|2026||ACK^S12^ACK|E1|P|2.5.1\rMSA|AA|X1\r"
    b"ERR||SCH^1^6|0^Message accepted^HL70357|W||||Overbooked\r"
)
NO = (
    b"MSH|^~\\&|EMR|X|ENGINE|SITE|2026||ACK^S12^ACK|E2|P|2.5.1\rMSA|AE|X1\r"
    b"ERR||PID^1^3|204^Unknown key identifier^HL70357|E|NOPE|||No such patient\r"
)


def answers(raw: bytes, code: str) -> Response:
    return Response(raw, Evidence(code))


# -- the destination's own answer ----------------------------------------------------------------------------------


async def test_the_sender_gets_the_destinations_answer_in_its_own_form(bench: Bench, tmp_path: Path) -> None:
    source, emr = on_mllp(bench, tmp_path), Scripted([answers(YES, "AA")])
    async with bench.running(to(emr), ack="delivered", ack_from="emr"), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "", "", "P1")))
        ack = await sender.next()
        assert (ack.code, ack.control_id, ack.text) == ("AA", "M1", "Overbooked")
        assert ack.message is not None
        assert (ack.message.version, ack.message.value("MSH-5"), ack.message.value("MSH-10")) != (
            "2.5.1",
            "ENGINE",
            "E1",
        )
        assert (ack.message.version, ack.message.value("MSH-5")) == ("2.3.1", "RIS")


async def test_a_refusal_is_passed_on_with_code_place_and_text(bench: Bench, tmp_path: Path) -> None:
    source = on_mllp(bench, tmp_path)
    emr = Scripted([Rejected(Evidence("AE", "204", "PID-3", "NOPE", body=NO))])
    async with bench.running(to(emr), ack="delivered", ack_from="emr"), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "", "", "P1")))
        ack = await sender.next()
        assert (ack.code, ack.control_id, ack.condition, ack.location) == ("AE", "M1", "204", "PID-3")
        assert ack.text == "No such patient"
        assert bench.messages()[0].ack == "AE"


async def test_a_repeated_message_gets_the_very_same_answer_also_after_a_restart(bench: Bench, tmp_path: Path) -> None:
    source, emr, told = on_mllp(bench, tmp_path), Scripted([answers(YES, "AA")]), []
    for _ in range(2):
        running = bench.running(to(emr), ack="delivered", ack_from="emr", duplicates=Duplicates())
        async with running, connected(source) as sender:
            for _ in range(2):
                sender.writer.write(frame(asking("M1", "", "", "P1")))
                ack = await sender.next()
                assert ack.message is not None
                told.append([segment.text for segment in ack.message.segments()[1:]])
    assert told == [told[0]] * 4
    assert "Overbooked" in told[0][0]
    assert len(emr.sent) == 1


async def test_the_deadline_answers_ae_while_delivery_goes_on_and_stays_the_answer(
    bench: Bench, tmp_path: Path
) -> None:
    source, emr = on_mllp(bench, tmp_path), Scripted([answers(YES, "AA")])
    emr.gate.clear()
    running = bench.running(to(emr), ack="delivered", ack_from="emr", ack_deadline=0.05, duplicates=Duplicates())
    async with running, connected(source) as sender:
        sender.writer.write(frame(asking("M1", "", "", "P1")))
        ack = await sender.next()
        assert (ack.code, ack.condition) == ("AE", "207")
        emr.gate.set()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        sender.writer.write(frame(asking("M1", "", "", "P1")))
        ack = await sender.next()
        assert (ack.code, ack.condition) == ("AE", "207")
    assert len(emr.sent) == 1


async def test_only_the_named_destination_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    source, emr, archive = on_mllp(bench, tmp_path), Scripted([answers(YES, "AA")]), Scripted()
    archive.gate.clear()
    plans = [to(emr), to(archive, "archive")]
    async with bench.running(*plans, ack="delivered", ack_from="emr"), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "", "", "P1")))
        assert (await sender.next()).code == "AA"
        archive.gate.set()


async def test_a_message_that_does_not_go_there_is_answered_by_the_engine(bench: Bench, tmp_path: Path) -> None:
    class Nowhere:
        variables: ClassVar[dict[str, frozenset[str]]] = {}
        opens = True

        def __call__(self, *_: object) -> bool:
            return False

    source, emr = on_mllp(bench, tmp_path), Scripted()
    async with (
        bench.running(to(emr, where=Nowhere()), ack="delivered", ack_from="emr"),
        connected(source) as sender,
    ):
        sender.writer.write(frame(asking("M1", "", "", "P1")))
        assert (await sender.next()).code == "AA"


async def test_in_enhanced_mode_the_answer_follows_the_accept_ack(bench: Bench, tmp_path: Path) -> None:
    source, emr = on_mllp(bench, tmp_path), Scripted([answers(YES, "CA")])
    async with bench.running(to(emr), ack="delivered", ack_from="emr"), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "AL", "AL", "P1")))
        assert [(await sender.next()).code.value for _ in range(2)] == ["CA", "AA"]


# -- a connection of its own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ack", ["received", "routed", "delivered"])
async def test_the_application_ack_is_a_delivery_of_its_own(bench: Bench, tmp_path: Path, ack: str) -> None:
    source, emr, back = on_mllp(bench, tmp_path), Scripted(), Scripted()
    async with bench.running(to(emr), ack=ack, ack_to=to(back, ACKS)) as supervisor, connected(source) as sender:
        for number in range(3):
            sender.writer.write(frame(asking(f"M{number}", "AL", "AL", "P1")))
            assert (await sender.next()).code == "CA"
        await bench.until(lambda: len([row for row in bench.deliveries("delivered") if row.destination == ACKS]) == 3)
        sent = [Message.parse(outgoing.body) for outgoing in back.sent]
        assert [(one.value("MSA-1"), one.value("MSA-2")) for one in sent] == [("AA", f"M{n}") for n in range(3)]
        assert {(one.value("MSH-5"), one.value("MSH-15"), one.value("MSH-16")) for one in sent} == {("RIS", "AL", "NE")}
        assert [row.ack for row in bench.messages()] == ["AA"] * 3
        assert not sender.frames, "nothing more came on the connection of the message"
        await bench.until(
            lambda: [item.delivered_since_start for item in supervisor.channels()[0].destinations] == [3, 3]
        )
        # Original mode stays where it was.
        sender.writer.write(frame(asking("M9", "", "", "P1")))
        assert (await sender.next()).code == "AA"


async def test_a_negative_ack_goes_the_same_way_and_one_nobody_asked_for_does_not(bench: Bench, tmp_path: Path) -> None:
    source, back = on_mllp(bench, tmp_path), Scripted()
    emr = Scripted([Rejected(Evidence("AE"))] * 2)
    async with bench.running(to(emr), ack="delivered", ack_to=to(back, ACKS)), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "AL", "ER", "P1")) + frame(asking("M2", "AL", "SU", "P1")))
        assert [(await sender.next()).code.value for _ in range(2)] == ["CA", "CA"]
        await bench.until(lambda: [row.ack for row in bench.messages()] == ["AE", "CA"])
        await bench.until(lambda: len(back.sent) == 1)
        assert Message.parse(back.sent[0].body).value("MSA-1") == "AE"


async def test_an_ack_that_is_owed_survives_a_restart_with_its_own_number(bench: Bench, tmp_path: Path) -> None:
    source, emr = on_mllp(bench, tmp_path), Scripted()
    back = Scripted([Unavailable("refused")])
    plan = to(back, ACKS, retry=Retry(backoff=(3600.0,)))
    async with bench.running(to(emr), ack="routed", ack_to=plan), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "AL", "AL", "P1")))
        assert (await sender.next()).code == "CA"
        await bench.until(lambda: len(back.sent) == 1 and any(row.attempts == 1 for row in bench.deliveries("queued")))
    bench.clock.at += 3600
    async with bench.running(to(emr), ack="routed", ack_to=plan):
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
    assert len(back.sent) == 2
    assert back.sent[0].body == back.sent[1].body


async def test_an_ack_that_was_not_decided_before_a_restart_is_decided_after_it(bench: Bench, tmp_path: Path) -> None:
    source, back = on_mllp(bench, tmp_path), Scripted()
    emr = Scripted([Unavailable("refused")])
    plan = to(emr, retry=Retry(backoff=(3600.0,)))
    async with bench.running(plan, ack="delivered", ack_to=to(back, ACKS)), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "AL", "AL", "P1")))
        assert (await sender.next()).code == "CA"
        await bench.until(lambda: any(row.attempts == 1 for row in bench.deliveries("queued")))
        assert bench.messages()[0].ack == "owed"
    bench.clock.at += 3600
    async with bench.running(plan, ack="delivered", ack_to=to(back, ACKS)):
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert bench.messages()[0].ack == "AA"
    assert [Message.parse(one.body).value("MSA-2") for one in back.sent] == ["M1"]


async def test_a_repeated_message_owes_no_second_ack(bench: Bench, tmp_path: Path) -> None:
    source, emr, back = on_mllp(bench, tmp_path), Scripted(), Scripted()
    running = bench.running(to(emr), ack="routed", ack_to=to(back, ACKS), duplicates=Duplicates())
    async with running, connected(source) as sender:
        for _ in range(3):
            sender.writer.write(frame(asking("M1", "AL", "AL", "P1")))
            assert (await sender.next()).code == "CA"
        await bench.until(lambda: len(bench.messages()) == 3 and len(bench.deliveries("delivered")) == 2)
    assert (len(emr.sent), len(back.sent)) == (1, 1)


async def test_a_refusal_at_commit_1_stays_on_the_connection(bench: Bench, tmp_path: Path) -> None:
    source, emr, back = on_mllp(bench, tmp_path), Scripted(), Scripted()
    running = bench.running(to(emr), ack="routed", ack_to=to(back, ACKS), duplicates=Duplicates(changed="refuse"))
    async with running, connected(source) as sender:
        sender.writer.write(frame(asking("M1", "AL", "NE", "P1")))
        assert (await sender.next()).code == "CA"
        sender.writer.write(frame(asking("M1", "NE", "AL", "P2")))
        assert (await sender.next()).code == "AE"
    assert not back.sent


async def test_an_ack_that_is_committed_late_goes_out_all_the_same(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is lower than that of acks which are on their way already."""
    monkeypatch.setattr(acknowledge, "RETRY", 0.05)
    source, emr, back = on_mllp(bench, tmp_path), Scripted(), Scripted()
    refused: list[Any] = []

    def is_the_first(unit: Sequence[Any]) -> bool:
        first = not refused and any(isinstance(operation, AckOwed) for operation in unit)
        refused.extend(unit if first else ())
        return first

    refuse(monkeypatch, SqliteStore, is_the_first)
    async with bench.running(to(emr), ack="delivered", ack_to=to(back, ACKS)), connected(source) as sender:
        for number in range(3):
            sender.writer.write(frame(asking(f"M{number}", "NE", "AL", "P1")))
        await bench.until(lambda: len(back.sent) == 3)
    assert refused
    answered = [Message.parse(one.body).value("MSA-2") for one in back.sent]
    assert sorted(answered) == ["M0", "M1", "M2"]
    assert answered[0] == "M1"


async def test_a_sender_that_asks_again_gets_an_ack_again_that_it_cannot_have(bench: Bench, tmp_path: Path) -> None:
    """The only ack that it asks for was refused by its listener, then was taken, and never seen by it."""
    source, emr, back = on_mllp(bench, tmp_path), Scripted(), Scripted([Rejected(Evidence("AE"))])
    running = bench.running(to(emr), ack="routed", ack_to=to(back, ACKS), duplicates=Duplicates())
    async with running, connected(source) as sender:
        for times, state in ((1, "parked"), (2, "delivered"), (3, "delivered")):
            sender.writer.write(frame(asking("M1", "NE", "AL", "P1")))
            await bench.until(
                lambda times=times, state=state: (
                    len(back.sent) == times
                    and [row.attempts for row in bench.deliveries(state) if row.destination == ACKS]
                )
            )
    assert len(emr.sent) == 1
    assert {one.body for one in back.sent} == {back.sent[0].body}


async def test_an_ack_that_is_owed_is_given_although_its_message_is_sent_again(bench: Bench, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise StepFailed("test", "told_to")

    source, back = on_mllp(bench, tmp_path), Scripted([Unavailable("refused")])
    plan = to(back, ACKS, retry=Retry(backoff=(0.3,)))
    running = bench.running(to(Scripted()), ack="received", ack_to=plan, transform=Chain([Do(fail)]))
    async with running as supervisor, connected(source) as sender:
        sender.writer.write(frame(asking("M1", "AL", "AL", "P1")))
        await bench.until(lambda: len(back.sent) == 1 and bench.messages()[0].state == "failed")
        await supervisor.resend_message(bench.messages()[0].message_id, WHO)
        await bench.until(lambda: bench.deliveries("delivered"))
    assert len(back.sent) == 2


async def test_a_channel_that_stopped_decides_no_ack_any_more(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record was refused; when the disk takes it again, whoever runs the channel then takes the message up."""
    monkeypatch.setattr(acknowledge, "RETRY", 0.05)
    source, back = on_mllp(bench, tmp_path), Scripted()
    broken = [True]

    def is_refused(unit: Sequence[Any]) -> bool:
        refused = bool(broken) and any(isinstance(operation, AckOwed) for operation in unit)
        broken.extend([True] if refused else [])
        return refused

    refuse(monkeypatch, SqliteStore, is_refused)
    emr = Scripted([Rejected(Evidence("AE"))])
    async with bench.running(to(emr), ack="delivered", ack_to=to(back, ACKS)) as supervisor:
        async with connected(source) as sender:
            sender.writer.write(frame(asking("M1", "NE", "AL", "P1")))
            await bench.until(lambda: len(broken) > 2)
        await supervisor.stop_channel("bench", WHO)
        broken.clear()
        await asyncio.sleep(4 * acknowledge.RETRY)  # it would have been offered again by now
        assert bench.messages()[0].ack == "owed"
        await supervisor.start_channel("bench", WHO)
        await bench.until(lambda: bool(back.sent) and not bench.deliveries("queued"))
    assert [Message.parse(one.body).value("MSA-1") for one in back.sent] == ["AE"]


async def test_an_ack_that_another_one_came_before_is_not_sent(bench: Bench, tmp_path: Path) -> None:
    source, emr, back = on_mllp(bench, tmp_path), Scripted(), Scripted()
    async with (
        bench.running(to(emr), ack="delivered", ack_to=to(back, ACKS)) as supervisor,
        connected(source) as sender,
    ):
        sender.writer.write(frame(asking("M1", "NE", "AL", "P1")))
        await bench.until(lambda: len(back.sent) == 1)
        acks = supervisor._channels["bench"].running.router.acks  # type: ignore[union-attr]
        (row,) = bench.messages()
        header = header_of(asking("M1", "NE", "AL", "P1")) or Header.empty()
        acks._record(row.message_id, row.correlation_id, header.wanted, acknowledge.NOT_DELIVERED)
        await bench.until(lambda: not acks._watched)
        assert [Message.parse(one.body).value("MSA-1") for one in back.sent] == ["AA"]
        assert acks.lanes[ACKS].counts.outcomes_refused == 0
