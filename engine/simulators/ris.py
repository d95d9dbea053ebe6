"""The simulated RIS (Fuji Synapse): answers queries and bookings, announces appointments and orders by itself.

One listener, three outboxes (SIU, orders and results to ports of the engine), one state that `reset` puts back to the
start of systems.md D.8. The parts: `calendar.py`, `orders.py`, `queries.py`, `booking.py`, `notices.py`.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from engine.simulators.answers import Refused, Voice, in_mode
from engine.simulators.booking import Bookings
from engine.simulators.calendar import Calendar, Slot, read_locations
from engine.simulators.checks import check_envelope, check_header, refuse, require_one_of
from engine.simulators.dialect import EXCHANGES, Dialect
from engine.simulators.faults import Fault
from engine.simulators.notices import EVENTS, Appointment, invented, notice, result
from engine.simulators.orders import PROCEDURES, Order, made_up_orders, order_message, starting_orders
from engine.simulators.outbox import Emission, Outbox
from engine.simulators.queries import Queries, refusal_of_sqm
from engine.simulators.server import MllpServer
from engine.simulators.wire import Message, Unreadable, at_least, encode, line, parse

log = structlog.get_logger("engine.simulators")

Address = tuple[str, int]

#: MSH-10 of the orders sent at start: the same ids after every restart (D.8).
ORDER_CONTROL_ID = "SY0000000{number}"
REMEMBERED = 100_000


class Unknown(LookupError):
    """The RIS has no such order, appointment, slot or event. The text names what was asked for."""


class Ris:
    """A RIS on one MLLP port.

    `siu`, `orders` and `results` are the engine's ports; None keeps what is to be sent waiting (an outbox's `address`
    can be set later). `now` gives aware times, asked for every message. `plain_ack` answers orders by ACK; `dialect` is
    what the RIS takes and writes by itself. `orders_sent` is set when every order was acknowledged.
    """

    def __init__(
        self,
        locations: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        siu: Address | None = None,
        orders: Address | None = None,
        results: Address | None = None,
        now: Callable[[], datetime] | None = None,
        plain_ack: bool = False,
        dialect: Dialect | None = None,
        first_control_id: int | None = None,
        sends_orders: bool = True,
        answer_seconds: float = 10.0,
        retry_seconds: float = 1.0,
    ) -> None:
        self.now = now or (lambda: datetime.now(ZoneInfo("America/Chicago")))
        # Ids continue across restarts of the process, or a receiver that remembers MSH-10 would take new
        # messages for old ones.
        self.last_control_id = (first_control_id or int(self.now().timestamp() * 1000)) - 1
        self.dialect, self.sends_orders = dialect or Dialect(), sends_orders
        self.calendar = Calendar(read_locations(locations))
        voice = Voice(self.now, self.next_control_id)
        self.voice = voice
        self.bookings = Bookings(
            self.calendar, starting_orders(), voice, self.announce, self.dialect, plain_ack=plain_ack
        )
        self.queries = Queries(self.calendar, voice, self.bookings.booking_of, self.dialect)
        self.server = MllpServer("ris", self, host, port)
        self.siu = Outbox("siu", siu, answer_seconds=answer_seconds, retry_seconds=retry_seconds)
        self.orders = Outbox("orders", orders, answer_seconds=answer_seconds, retry_seconds=retry_seconds)
        self.results = Outbox("results", results, answer_seconds=answer_seconds, retry_seconds=retry_seconds)
        self.outboxes = {"siu": self.siu, "orders": self.orders, "results": self.results}
        self.orders_sent = asyncio.Event()
        self.forget()

    @property
    def port(self) -> int:
        return self.server.port

    async def start(self) -> None:
        await self.server.start()
        for outbox in self.outboxes.values():
            outbox.start()
        if self.sends_orders:
            self.send_orders()

    async def stop(self) -> None:
        await self.server.stop()
        for outbox in self.outboxes.values():
            await outbox.stop()

    async def add_fault(self, spec: Mapping[str, Any]) -> Fault:
        return await self.server.add_fault(spec)

    async def clear_faults(self) -> None:
        await self.server.clear_faults()

    async def reset(self, *, orders: bool = False) -> None:
        """Back to the start: no bookings, no faults, nothing waiting. With `orders` the orders are sent again."""
        await self.server.clear_faults()
        await self.server.up()
        for outbox in self.outboxes.values():
            outbox.clear()
            outbox.release()
        self.bookings.reset()
        self.forget()
        if orders:
            self.send_orders()

    def forget(self) -> None:
        self.answered: OrderedDict[str, tuple[str, list[bytes]]] = OrderedDict()
        self.received: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self.invented: dict[str, Appointment] = {}
        self.next_invented = 1

    def next_control_id(self) -> str:
        self.last_control_id += 1
        return f"SY{self.last_control_id:010d}"

    def handle(self, data: bytes) -> list[bytes]:
        """Answer one message; the same message again gets the same answer and changes nothing."""
        try:
            request = parse(data)
        except Unreadable as error:
            log.info("ris.unreadable", reason=str(error))
            return [self.unreadable()]
        if request.text("MSH-9.1") == "ACK":
            return []
        content, known = request.content(), self.answered.get(request.control_id)
        if known is None:
            answers, refused = self.answer(request)
            self.remember(request.control_id, content, answers)
        elif known[0] == content:
            answers, refused = known[1], None
        else:
            refused = refuse(205, "MSH-10", "This control id was used by another message")
            answers = in_mode(request, self.voice, self.voice.refusal(request, refused), refused)
        self.note_received(request, data, answers, is_duplicate=known is not None)
        return answers

    def refuse(self, data: bytes, refused: Refused) -> list[bytes]:
        """Refuse without acting; a refusal without words names the patient, as real systems do."""
        try:
            request = parse(data)
        except Unreadable:
            return [self.unreadable()]
        if not refused.text:
            person = self.bookings.orders["ORDER123"].patient
            family, given = request.text("PID-5.1") or person.family, request.text("PID-5.2") or person.given
            mrn = request.text("PID-3") or person.mrn
            refused.text = f"Request for {given} {family} ({mrn}) cannot be processed"
        answers = [self.refusal(request, refused)]
        self.note_received(request, data, answers, is_duplicate=False)
        return in_mode(request, self.voice, answers[0], refused)

    def answer(self, request: Message) -> tuple[list[bytes], Refused | None]:
        refused = None
        try:
            answer = self.serve(request)
        except Refused as error:
            refused, answer = error, self.refusal(request, error)
            log.info("ris.refused", control_id=request.control_id, kind=request.kind, ack=error.ack,
                     condition=error.condition, location=error.location)  # fmt: skip
        return in_mode(request, self.voice, answer, refused), refused

    def serve(self, request: Message) -> bytes:
        """The application answer. Raises Refused."""
        check_envelope(request, self.dialect.version, filter(self.dialect.takes, EXCHANGES))
        check_header(request, EXCHANGES[request.kind][0] if at_least(request.version, "2.3.1") else None)
        require_one_of(request, "MSH-5", ("SYNAPSE",))
        require_one_of(request, "MSH-6", self.calendar.facilities)
        serve = {
            "QRY": self.queries.qry,
            "MFQ": self.queries.mfq,
            "SQM": self.queries.sqm,
            "ORM": self.bookings.orm,
            "SRM": self.bookings.srm,
            "SIU": self.bookings.siu,
        }[request.text("MSH-9.1")]
        return serve(request)

    def refusal(self, request: Message, refused: Refused) -> bytes:
        """A refusal of content as the exchange's own answer, of the message as a whole as ACK."""
        _, kind, structure = EXCHANGES.get(request.kind, ("", "", ""))
        if refused.ack == "AR" or refused.location.startswith("MSH") or not kind:
            return self.voice.refusal(request, refused)
        if kind == "ORR^O02" and self.bookings.plain_ack:
            return self.voice.refusal(request, refused)
        if kind == "SQR^S25":
            return refusal_of_sqm(self.voice, request, refused)
        return self.voice.refusal(request, refused, kind, structure)

    def unreadable(self) -> bytes:
        header = {3: "SYNAPSE", 7: self.now().strftime("%Y%m%d%H%M%S"), 9: "ACK", 10: self.next_control_id()}
        msa = {1: "AR", 2: "UNKNOWN", 3: "Message cannot be read", 6: "100^Segment sequence error^HL70357"}
        return encode([line("MSH", header | {11: "P", 12: "2.3"}), line("MSA", msa)])

    def remember(self, control_id: str, content: str, answers: list[bytes]) -> None:
        if control_id:
            self.answered[control_id] = (content, answers)
        if len(self.answered) > REMEMBERED:
            self.answered.popitem(last=False)

    def note_received(self, request: Message, data: bytes, answers: list[bytes], *, is_duplicate: bool) -> None:
        codes = [parse(answer).text("MSA-1") for answer in answers]
        entry = {"controlId": request.control_id, "kind": request.kind, "answers": codes, "duplicate": is_duplicate}
        self.received.append(entry | {"at": self.now().isoformat(), "body": data.decode("latin-1")})
        log.info("ris.received", control_id=request.control_id, kind=request.kind, ack=codes, duplicate=is_duplicate)

    def announce(self, appointment: Appointment, event: str) -> str:
        """Queue the SIU of this event; returns its MSH-10."""
        control_id = self.next_control_id()
        data = notice(appointment, event, control_id, self.now())
        self.siu.put(Emission(control_id, f"SIU^{event}", data))
        return control_id

    def send_orders(self) -> None:
        """Queue ORM^O01 for every order of the start; `orders_sent` is set when the last one is acknowledged."""
        self.orders_sent.clear()
        last = list(self.bookings.orders.values())[-1]
        for order in self.bookings.orders.values():
            control_id = ORDER_CONTROL_ID.format(number=order.id.removeprefix("ORDER"))
            self.send_order(order, control_id, "NW", self.orders_sent.set if order is last else None)

    def send_order(self, order: Order, control_id: str, control: str, then: Callable[[], None] | None = None) -> None:
        data = order_message(order, control_id, self.now(), control, self.dialect.own_version)
        self.orders.put(Emission(control_id, "ORM^O01", data, then=then))

    def make_orders(self, count: int, prefix: str) -> list[str]:
        """Know and announce `count` made-up orders, `prefix` with a number, of all locations and modalities in turn.

        Returns their ids. Raises Refused when one of them is known.
        """
        places = self.calendar.locations.values()
        kinds = [(place.facility, kind) for place in places for kind in place.modalities if kind in PROCEDURES]
        made = made_up_orders(count, prefix, kinds)
        self.bookings.add(made)
        for order in made:
            self.send_order(order, self.next_control_id(), "NW")
        return [order.id for order in made]

    def take(self, slot_id: str) -> None:
        """Somebody at the desk books this slot: it is gone, and nothing is announced. Raises Unknown, Refused."""
        slot = self.calendar.find(slot_id)
        if slot is None:
            raise Unknown(f"slot {slot_id}")
        self.bookings.take(slot)

    def emit(self, event: str, *, order_id: str, slot_id: str | None = None, version: str | None = None) -> str:
        """Let something happen to an order's appointment, and announce it. Returns the MSH-10.

        S13 moves it (to `slot_id`, else to the next open slot of its room), S15, S16 and S17 end it, S26 marks it;
        ORU sends a result; NW, XO and CA send the order itself. Raises Unknown, and Refused when a slot is taken.
        """
        order = self.bookings.orders.get(order_id)
        if order is None:
            raise Unknown(f"order {order_id}")
        if event in ("NW", "XO", "CA", "OC"):
            control_id = self.next_control_id()
            self.send_order(order, control_id, event)
            return control_id
        appointment = self.bookings.active.get(order_id)
        if event == "ORU":
            control_id = self.next_control_id()
            self.results.put(Emission(control_id, "ORU^R01", result(order, appointment, control_id, self.now())))
            return control_id
        if event not in EVENTS:
            raise Unknown(f"event {event}; known are {', '.join([*sorted(EVENTS), 'ORU', 'NW', 'XO', 'CA', 'OC'])}")
        if appointment is None:
            raise Unknown(f"appointment of order {order_id}")
        appointment.version = version or appointment.version
        self.happen(appointment, event, slot_id)
        return f"SY{self.last_control_id:010d}"

    def happen(self, appointment: Appointment, event: str, slot_id: str | None) -> None:
        if event == "S13":
            slot = self.calendar.find(slot_id) if slot_id else self.next_open_slot(appointment)
            if slot is None:
                raise Unknown(f"slot {slot_id}" if slot_id else "open slot on that day")
            self.bookings.move(appointment, slot)
        elif event in ("S15", "S16", "S17"):
            self.bookings.end(appointment, EVENTS[event][2], event)
        else:
            appointment.status = EVENTS[event][2]
            self.bookings.record(appointment, event)

    def next_open_slot(self, appointment: Appointment) -> Slot | None:
        location = self.calendar.locations[appointment.location]
        slots = self.calendar.slots(location, appointment.start.date(), appointment.order.modality)
        later = [slot for slot in slots if slot.start > appointment.start and slot.room == appointment.room]
        return next((slot for slot in later if self.calendar.state(slot) == "open"), None)

    def emit_invented(
        self, event: str, *, facility: str, location: str, count: int = 1, version: str | None = None
    ) -> list[str]:
        """Announce `count` made-up appointments, each with its own SCH-2; returns these. Raises Unknown."""
        if event not in EVENTS:
            raise Unknown(f"event {event}; known are {', '.join(sorted(EVENTS))}")
        place = self.calendar.locations.get(location)
        made = []
        for _ in range(count):
            appointment = invented(
                self.next_invented, facility, place, location, self.now(), version or self.dialect.own_version
            )
            self.next_invented += 1
            self.invented[appointment.id] = appointment
            self.announce(appointment, event)
            made.append(appointment.id)
        return made

    def emit_again(self, event: str, *, appointment_id: str) -> str:
        """Announce this event about a made-up appointment or a booking, changing nothing else. Raises Unknown."""
        appointment = self.invented.get(appointment_id) or self.bookings.appointments.get(appointment_id)
        if appointment is None:
            raise Unknown(f"appointment {appointment_id}")
        if event not in EVENTS:
            raise Unknown(f"event {event}; known are {', '.join(sorted(EVENTS))}")
        self.announce(appointment, event)
        return f"SY{self.last_control_id:010d}"

    def emit_raw(self, text: str, outbox: str = "siu") -> str:
        """Send this text as it is (LF and CRLF become CR); any answer settles it. Raises Unreadable.

        The bytes are in the charset of MSH-18, and in UTF-8 where it names none.
        """
        lines = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n").split("\n")
        message = parse("".join(f"{line}\r" for line in lines).encode())
        data = encode(lines, message.raw("MSH-18") or "UNICODE UTF-8")
        self.outboxes[outbox].put(Emission(message.raw("MSH-10"), message.kind, data, until_accepted=False))
        return message.raw("MSH-10")

    def slots(self, location: str, modality: str | None, day: date) -> list[dict[str, Any]]:
        """The calendar's own view of one day. Raises Unknown."""
        place = self.calendar.locations.get(location)
        if place is None:
            raise Unknown(f"location {location}")
        return [self.calendar.describe(slot) for slot in self.calendar.slots(place, day, modality)]

    def describe(self, *, bodies: bool = False) -> dict[str, Any]:
        """State without a patient's name or number; message bodies only when asked for."""
        hidden = () if bodies else ("body",)
        received = [{key: entry[key] for key in entry if key not in hidden} for entry in self.received]
        return {
            "up": self.server.is_up,
            "faults": self.server.faults.describe(),
            "ordersSent": self.orders_sent.is_set(),
            "orders": [self.describe_order(order) for order in self.bookings.orders.values()],
            "bookings": [describe_appointment(item) for item in self.bookings.active.values()],
            "history": list(self.bookings.history),
            "calendar": {name: self.booked_at(name) for name in self.calendar.locations},
            "received": received,
            "seenControlIds": list(self.answered),
            "outboxes": {name: outbox.describe() for name, outbox in self.outboxes.items()},
        }

    def describe_order(self, order: Order) -> dict[str, Any]:
        held = self.bookings.active.get(order.id)
        fields = {"orderId": order.id, "accession": order.accession_id, "facility": order.facility}
        return fields | {"modality": order.modality, "appointmentId": held.id if held else None}

    def booked_at(self, location: str) -> dict[str, int]:
        return {"booked": sum(1 for slot in self.calendar.booked if slot.startswith(f"{location}-"))}


def describe_appointment(appointment: Appointment) -> dict[str, Any]:
    return {
        "appointmentId": appointment.id,
        "orderId": appointment.order.id,
        "accession": appointment.order.accession_id,
        "slotId": appointment.slot_id,
        "location": appointment.location,
        "facility": appointment.facility,
        "start": appointment.start.isoformat(),
        "status": appointment.status,
        "version": appointment.version,
    }
