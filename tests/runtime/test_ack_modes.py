"""Which acks come and which do not, over real sockets: every pair of MSH-15 and MSH-16, every `ack:`, every outcome.

HL7 v2.5.1 §2.9.2 and §2.9.3. The expected acks are written down here from the standard, not taken from the engine.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.config.plan import Duplicates, Order
from engine.destinations.base import Outgoing, Response
from engine.envelope import Envelope
from engine.errors import Evidence, Rejected, StepFailed
from engine.hl7.answer import AckRead, read_ack
from engine.hl7.message import Message
from engine.hl7.mllp import Framer, frame
from engine.sources.base import Building
from engine.sources.mllp import MllpSource, MllpSourceConfig
from engine.store.base import Accept
from engine.transforms.base import Context

from .conftest import Bench, Scripted, refuse, steps, to

#: Table 0155, nothing, and words that are in no table: they count as nothing.
WORDS = ("", "AL", "NE", "ER", "SU", "al", "XX")

#: What became of the message → code of the application ack, for each `ack:`; a refused one was never taken.
OUTCOMES = {
    "taken": {"received": "AA", "routed": "AA", "delivered": "AA"},
    "refused": {"received": "AR", "routed": "AR", "delivered": "AR"},
    "step_failed": {"received": "AA", "routed": "AE", "delivered": "AE"},
    "partner_says_no": {"received": "AA", "routed": "AA", "delivered": "AE"},
    "deadline": {"received": "AA", "routed": "AA", "delivered": "AE"},
}

#: MSH-15 → whether a message that was taken gets CA, and one that was refused CR.
ACCEPT = {"": (False, False), "AL": (True, True), "NE": (False, False), "ER": (False, True), "SU": (True, False)}
#: MSH-16 → whether AA comes, and AE or AR.
APPLICATION = {"": (False, False), "AL": (True, True), "NE": (False, False), "ER": (False, True), "SU": (True, False)}


def acks_of(accept: str, application: str, code: str, refused: bool) -> list[str]:
    """The acks that must come, in order, and no others."""
    accept, application = ({"al": "AL", "XX": ""}.get(word, word) for word in (accept, application))
    if not accept and not application:
        return [code]  # original mode: one application ack, whatever it says
    taken_ca, refused_cr = ACCEPT[accept]
    if refused and refused_cr:
        return ["CR"]  # a message that was not accepted is not processed: nothing follows
    positive, negative = APPLICATION[application]
    later = [code] if (positive if code == "AA" else negative) else []
    return (["CA"] if taken_ca and not refused else []) + later


def asking(control_id: str, accept: str, application: str, patient: str) -> bytes:
    modes = f"|||{accept}|{application}" if accept or application else ""
    header = f"MSH|^~\\&|RIS|DTI|ENGINE|SITE|20260101120000||SIU^S12|{control_id}|P|2.3.1{modes}"
    return f"{header}\rSCH|1|2\rPID|1||{patient}\r".encode()


class Partner(Scripted):
    """Says no to some, keeps others waiting."""

    async def send(self, outgoing: Outgoing) -> Response:
        patient = Message.parse(outgoing.body).value("PID-3")
        if patient == "partner_says_no":
            raise Rejected(Evidence("AE", "204"))
        if patient == "deadline":
            await self.gate.wait()
        return await super().send(outgoing)


def fail(envelope: Envelope, context: Context) -> None:
    if envelope.body.value("PID-3") == "step_failed":
        raise StepFailed("lookup", "lookup_missing", "facility_emr")


class Sender:
    """A raw MLLP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.framer, self.frames = reader, writer, Framer(), list[bytes]()

    async def next(self) -> AckRead:
        async with asyncio.timeout(10):
            while not self.frames:
                data = await self.reader.read(65536)
                assert data, "the engine has closed the connection"
                self.frames += self.framer.feed(data)
        return read_ack(self.frames.pop(0))


@asynccontextmanager
async def connected(source: MllpSource) -> AsyncIterator[Sender]:
    sender = Sender(*await asyncio.open_connection("127.0.0.1", source.port))
    try:
        yield sender
    finally:
        sender.writer.close()
        await sender.writer.wait_closed()


def on_mllp(bench: Bench, folder: Path) -> MllpSource:
    source = MllpSource(MllpSourceConfig(port=0), Building("bench", folder, folder / "data"))
    bench.source = source  # type: ignore[assignment]
    return source


def refuse_the_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store takes no message of the refused."""
    refuse(
        monkeypatch,
        bench.store,
        lambda unit: any(isinstance(one, Accept) and b"|refused\r" in one.body for one in unit),
    )


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("ack", ["received", "routed", "delivered"])
async def test_every_pair_of_modes_gets_its_acks_and_no_others(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ack: str, outcome: str
) -> None:
    source, partner = on_mllp(bench, tmp_path), Partner()
    if outcome == "deadline":
        partner.gate.clear()
    code = OUTCOMES[outcome][ack]
    deadline = 0.05 if outcome == "deadline" else 20.0
    # Lanes of their own: a message that waits keeps none of the others waiting.
    emr = to(partner, connections=128, order=Order("none"))
    async with bench.running(emr, ack=ack, ack_deadline=deadline, transform=steps(fail)):
        refuse_the_refused(bench, monkeypatch)

        async def ask(number: int, accept: str, application: str) -> tuple[tuple[str, str], list[str]]:
            async with connected(source) as sender:
                sender.writer.write(frame(asking(f"M{number}", accept, application, outcome)))
                # Acks leave in the order of their messages: what still came for the first would come before this one.
                sender.writer.write(frame(asking(f"END{number}", "", "", "taken")))
                told: list[str] = []
                while (read := await sender.next()).control_id != f"END{number}":
                    assert read.control_id == f"M{number}"
                    told.append(read.code.value)
            return (accept, application), told

        pairs = list(itertools.product(WORDS, WORDS))
        heard = dict(await asyncio.gather(*(ask(number, *pair) for number, pair in enumerate(pairs))))
        assert heard == {pair: acks_of(*pair, code, outcome == "refused") for pair in pairs}
        recorded = {row.control_id: row.ack for row in bench.messages()}
        for number, pair in enumerate(pairs if outcome != "refused" else []):
            assert recorded[f"M{number}"] == (heard[pair][-1] if heard[pair] else "none"), "what was told is recorded"
        partner.gate.set()


async def test_the_accept_ack_is_commit_1_and_waits_for_nothing_else(bench: Bench, tmp_path: Path) -> None:
    source, partner = on_mllp(bench, tmp_path), Scripted()
    partner.gate.clear()
    async with bench.running(to(partner), ack="delivered"), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "AL", "AL", "P1")))
        assert (await sender.next()).code == "CA"
        await bench.until(lambda: partner.under_way == 1)
        assert not sender.frames
        partner.gate.set()
        assert (await sender.next()).code == "AA"


async def test_what_is_no_message_gets_one_answer_in_original_mode(bench: Bench, tmp_path: Path) -> None:
    source = on_mllp(bench, tmp_path)
    async with bench.running(to(Scripted())), connected(source) as sender:
        sender.writer.write(frame(b"this is no HL7\r"))
        assert ((await sender.next()).code, sender.frames) == ("AR", [])


@pytest.mark.parametrize("kind", ["AA", "CA"])
async def test_an_ack_is_never_acknowledged(bench: Bench, tmp_path: Path, kind: str) -> None:
    source = on_mllp(bench, tmp_path)
    async with bench.running(to(Scripted())), connected(source) as sender:
        header = "MSH|^~\\&|RIS|DTI|ENGINE|SITE|2026||ACK^S12^ACK|A1|P|2.5.1|||AL|AL"
        sender.writer.write(frame(f"{header}\rMSA|{kind}|X1\r".encode()))
        sender.writer.write(frame(asking("M1", "", "", "P1")))
        assert (await sender.next()).control_id == "M1"
        await bench.until(lambda: [row.cause for row in bench.messages()] == ["unexpected_ack", ""])


@pytest.mark.parametrize(
    ("accept", "application", "told"),
    [("", "", ["AE"]), ("AL", "AL", ["CE"]), ("SU", "AL", ["AE"]), ("NE", "ER", ["AE"]), ("SU", "SU", [])],
)
async def test_a_refused_number_is_ce_or_ae_and_nothing_follows(
    bench: Bench, tmp_path: Path, accept: str, application: str, told: list[str]
) -> None:
    source = on_mllp(bench, tmp_path)
    async with bench.running(to(Scripted()), duplicates=Duplicates(changed="refuse")), connected(source) as sender:
        sender.writer.write(frame(asking("M1", "", "", "P1")))
        assert (await sender.next()).code == "AA"
        sender.writer.write(frame(asking("M1", accept, application, "P2")))
        sender.writer.write(frame(asking("END", "", "", "P1")))
        heard: list[Any] = []
        while (read := await sender.next()).control_id != "END":
            heard.append(read)
        assert [read.code.value for read in heard] == told
        assert [(read.condition, read.location) for read in heard] == [("205", "MSH-10")] * len(told)
        assert [row.ack for row in bench.messages() if row.state == "refused"] == [told[0] if told else ""]


@pytest.mark.parametrize(
    ("codec", "cutting"), [("utf-16-le", "\u0d1c"), ("utf-16-be", "\u1c0d"), ("utf-16-be", "\u201c\u0d05")]
)
async def test_utf_16_that_mllp_cuts_is_refused_and_what_it_does_not_cut_passes(
    bench: Bench, tmp_path: Path, codec: str, cutting: str
) -> None:
    """Bytes of a character may be the end of a frame: what comes before it must not be taken for the message."""
    source, emr = on_mllp(bench, tmp_path), Scripted()
    async with bench.running(to(emr)), connected(source) as sender:
        text = asking("M1", "", "", f"P{cutting}1").decode("utf-8", "replace")
        sender.writer.write(b"\x0b" + text.encode(codec) + b"\x1c\r")
        assert (await sender.next()).code == "AR"
        whole = asking("M2", "", "", "\u03a9").decode().encode(codec)
        sender.writer.write(frame(whole))
        assert (await sender.next()).code == "AA"
        await bench.until(lambda: len(emr.sent) == 1)
    assert emr.sent[0].body == whole
