"""A simulated EMR: takes SIU and ORU in one profile, answers as its profile does, keeps what it received.

What a profile takes is data (`profiles.py`); the checks of a message against it are in `conformance.py`, those of a
result in `results.py`. A message that was accepted changes the appointment with its SCH-2, or the result with its
OBR-3; what comes in the wrong order is accepted and recorded as a violation, so that a test sees it.
"""

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from engine.simulators.answers import Refused, Voice, in_mode
from engine.simulators.checks import refuse
from engine.simulators.conformance import check_conformance, writes_offset
from engine.simulators.faults import Fault
from engine.simulators.profiles import PROFILES, Profile
from engine.simulators.results import KIND, check_result, refused_status
from engine.simulators.server import MllpServer
from engine.simulators.wire import Message, Unreadable, encode, line, parse

log = structlog.get_logger("engine.simulators")

ENDED = ("S15", "S16", "S17")


@dataclass(slots=True)
class Received:
    """One message as it came. `answers` are the codes of all levels that were answered."""

    sequence: int
    at: str
    control_id: str
    kind: str
    appointment_id: str
    facility: str
    answers: list[str]
    condition: int | None
    location: str
    duplicate: bool
    body: bytes

    def describe(self, *, bodies: bool) -> dict[str, Any]:
        shown = {
            "sequence": self.sequence,
            "at": self.at,
            "controlId": self.control_id,
            "kind": self.kind,
            "appointmentId": self.appointment_id,
            "facility": self.facility,
            "answers": self.answers,
            "condition": self.condition,
            "location": self.location,
            "duplicate": self.duplicate,
        }
        return shown | {"body": self.body.decode("utf-8", "backslashreplace")} if bodies else shown


class Emr:
    """One EMR on one MLLP port, with TLS when `context` is given.

    `profile` is the name of a shipped one, or one of your own; `versions` and `receiving_facility` replace what it
    says. `now` gives aware times and is asked for every message. `received` holds every message in the order of
    arrival, refused ones and duplicates included.
    """

    def __init__(
        self,
        profile: str | Profile,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        context: ssl.SSLContext | None = None,
        now: Callable[[], datetime] | None = None,
        versions: Collection[str] | None = None,
        receiving_facility: str | None = None,
    ) -> None:
        self.profile = PROFILES[profile] if isinstance(profile, str) else profile
        self.versions = tuple(versions or self.profile.versions)
        self.receiving_facility = receiving_facility or self.profile.receiving_facility
        self.now = now or (lambda: datetime.now(ZoneInfo("America/Chicago")))
        self.last_control_id = 0
        self.voice = Voice(self.now, self.next_control_id, self.write_time)
        self.server = MllpServer(self.profile.name, self, host, port, context)
        self.changed = asyncio.Event()
        self.forget()

    @property
    def name(self) -> str:
        return self.profile.name

    @property
    def port(self) -> int:
        return self.server.port

    async def start(self) -> None:
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    async def down(self) -> None:
        await self.server.down()

    async def up(self) -> None:
        await self.server.up()

    async def add_fault(self, spec: Mapping[str, Any]) -> Fault:
        return await self.server.add_fault(spec)

    async def clear_faults(self) -> None:
        await self.server.clear_faults()

    async def reset(self) -> None:
        """Back to the start: nothing received, no faults, up."""
        await self.server.clear_faults()
        await self.server.up()
        self.forget()

    def forget(self) -> None:
        self.received: list[Received] = []
        self.appointments: dict[str, str] = {}
        #: OBR-3.1 → OBR-25.
        self.results: dict[str, str] = {}
        self.violations: list[dict[str, Any]] = []
        self.accept_acks: list[str] = []
        self.accepted: dict[str, tuple[str, list[bytes]]] = {}

    async def wait_for(self, count: int) -> None:
        """Return as soon as `count` messages have come, duplicates and refused ones included."""
        while len(self.received) < count:
            self.changed.clear()
            await self.changed.wait()

    def next_control_id(self) -> str:
        self.last_control_id += 1
        return f"{self.profile.prefix}{self.last_control_id:010d}"

    def write_time(self, when: datetime, version: str) -> str:
        text = when.strftime("%Y%m%d%H%M%S")[: self.profile.digits]
        return text + when.strftime("%z") if writes_offset(self.profile, version) else text

    def handle(self, data: bytes) -> list[bytes]:
        """Check, apply, keep and answer one message; an accepted one that comes again gets the same answer."""
        try:
            message = parse(data)
        except Unreadable as error:
            log.info("emr.unreadable", emr=self.name, reason=str(error))
            return [self.unreadable()]
        if message.text("MSH-9.1") == "ACK":
            # The acknowledgement of an application answer of ours (MSH-16 AL); it is never answered.
            self.accept_acks.append(message.text("MSA-2"))
            return []
        content = message.content()
        known = self.accepted.get(message.control_id)
        if known is not None and known[0] == content:
            self.keep(message, data, known[1], None, duplicate=True)
            return known[1]
        refused = self.judge(message, is_reused=known is not None)
        answers = self.answers(message, refused)
        if refused is None:
            self.accepted[message.control_id] = (content, answers)
        sequence = self.keep(message, data, answers, refused, duplicate=False)
        if refused is None:
            self.apply(message, sequence)
        return answers

    def refuse(self, data: bytes, refused: Refused) -> list[bytes]:
        """Refuse without looking, for faults."""
        try:
            message = parse(data)
        except Unreadable:
            return [self.unreadable()]
        refused.text = refused.text or f"Appointment of {told(message)} cannot be processed"
        answers = self.answers(message, refused)
        self.keep(message, data, answers, refused, duplicate=False)
        return answers

    def judge(self, message: Message, *, is_reused: bool) -> Refused | None:
        try:
            check = check_result if message.text("MSH-9.1") == "ORU" else check_conformance
            check(message, self.profile, self.versions, self.receiving_facility)
        except Refused as refused:
            if refused.ack == "AE":
                refused.text = f"{refused.text}, {told(message)}"
            return refused
        return refuse(205, "MSH-10", "This control id was used by another message") if is_reused else None

    def answers(self, message: Message, refused: Refused | None) -> list[bytes]:
        answer = self.voice.ack(message, "AA") if refused is None else self.voice.refusal(message, refused)
        # A partner that knows original mode only answers so, whatever MSH-15 and MSH-16 ask.
        return in_mode(message, self.voice, answer, refused) if self.profile.enhanced else [answer]

    def unreadable(self) -> bytes:
        profile = self.profile
        header = {3: profile.receiving_app, 4: self.receiving_facility, 9: "ACK", 10: self.next_control_id(), 11: "P"}
        header |= {7: self.write_time(self.now(), self.versions[0]), 12: self.versions[0]}
        return encode([line("MSH", header), line("MSA", {1: "AR", 2: "UNKNOWN"})])

    def keep(
        self, message: Message, data: bytes, answers: list[bytes], refused: Refused | None, *, duplicate: bool
    ) -> int:
        sequence = len(self.received) + 1
        entry = Received(
            sequence=sequence,
            at=self.now().isoformat(),
            control_id=message.control_id,
            kind=message.kind,
            appointment_id=message.text("SCH-2"),
            facility=message.text("MSH-4"),
            answers=[parse(answer).text("MSA-1") for answer in answers],
            condition=refused.condition if refused else None,
            location=refused.location if refused else "",
            duplicate=duplicate,
            body=data,
        )
        self.received.append(entry)
        self.changed.set()
        log.info("emr.received", emr=self.name, control_id=entry.control_id, kind=entry.kind, ack=entry.answers,
                 condition=entry.condition, location=entry.location, duplicate=duplicate)  # fmt: skip
        return sequence

    def apply(self, message: Message, sequence: int) -> None:
        """Change the appointment or the results; what comes in the wrong order is applied too, and recorded."""
        if message.kind == KIND:
            self.apply_result(message, sequence)
            return
        event, appointment_id = message.text("MSH-9.2"), message.text("SCH-2")
        state = self.appointments.get(appointment_id)
        wrong = out_of_order(event, state)
        if wrong:
            entry = {"sequence": sequence, "controlId": message.control_id, "appointmentId": appointment_id}
            self.violations.append(entry | {"what": wrong})
        self.appointments[appointment_id] = "ended" if event in ENDED else "noshow" if event == "S26" else "booked"

    def apply_result(self, message: Message, sequence: int) -> None:
        for order in message.all("OBR"):
            filler, status = order.text(3), order.raw(25)
            wrong = refused_status(self.results.get(filler, ""), status)
            if wrong:
                entry = {"sequence": sequence, "controlId": message.control_id, "result": filler}
                self.violations.append(entry | {"what": wrong})
            self.results[filler] = status

    def describe(self, *, bodies: bool = False) -> dict[str, Any]:
        """What arrived and what became of it; message bodies only when asked for."""
        return {
            "up": self.server.is_up,
            "profile": self.name,
            "versions": list(self.versions),
            "faults": self.server.faults.describe(),
            "count": len(self.received),
            "duplicates": sum(1 for entry in self.received if entry.duplicate),
            "refused": sum(1 for entry in self.received if not any(code[1] == "A" for code in entry.answers)),
            "violations": self.violations,
            "appointments": self.appointments,
            "results": self.results,
            "acceptAcks": self.accept_acks,
            "received": [entry.describe(bodies=bodies) for entry in self.received],
        }


def out_of_order(event: str, state: str | None) -> str:
    """What is wrong with this event for an appointment in this state; empty when nothing is."""
    if event == "S12":
        return {None: "", "ended": "S12 after the end"}.get(state, "S12 twice")
    if state is None:
        return f"{event} before S12"
    return f"{event} after the end" if state == "ended" else ""


def told(message: Message) -> str:
    """How this EMR's texts name a patient; whoever passes them on has leaked."""
    return f"patient {message.text('PID-5.1')} {message.text('PID-5.2')} {message.text('PID-3')}"
