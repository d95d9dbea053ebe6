"""A RIS of another kind than the simulated one: plain and odd answers, each given word for word by the test."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

Site = Any
Booking = Callable[..., dict[str, Any]]
Local = Callable[..., datetime]

CHANNELS = ("radscheduler-locations", "radscheduler-available-slots", "radscheduler-book-appointment")
EDITS = [
    *((f"channels/{name}.yaml", "${RIS_PORT:-2576}", "${STRANGE_PORT}") for name in CHANNELS),
    # One caller waits as long as that; all others are answered long before, on a busy machine too.
    ("channels/radscheduler-book-appointment.yaml", "timeout: 25s", "timeout: 4s"),
    (
        "transforms/ris/booking_errors.yaml",
        "- {when: {ack: [AR",
        '- {when: {text: "(?i)double"}, code: slot_taken}\n- {when: {ack: [AR',
    ),
]
HEADER = r"MSH|^~\&|SYNAPSE|DTI|RADSCHED|RADORDERPAD|20270115083001||{kind}|SY1|P|2.3"
PERSON = "Doe^John (MRN123456)"


class StrangeRis(socketserver.ThreadingTCPServer):
    """Answers each message with the next of ``answers``; ``{id}`` in it is the MSH-10 that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.answers: list[bytes] = []
        self.received: list[str] = []
        self.go_on = threading.Event()


class Conversation(socketserver.StreamRequestHandler):
    server: StrangeRis

    def handle(self) -> None:
        while message := self.message():
            self.server.received.append(message)
            control_id = message.split("|")[9].encode()
            answer = self.server.answers.pop(0).replace(b"{id}", control_id)
            if answer == b"wait":
                self.server.go_on.wait(60)
                return
            self.wfile.write(answer)
            if answer == b"":
                return

    def message(self) -> str:
        data = b""
        while not data.endswith(b"\x1c\r"):
            byte = self.rfile.read(1)
            if not byte:
                return ""
            data += byte
        return data[1:-2].decode("latin-1")


@pytest.fixture(scope="module")
def ris() -> Iterator[StrangeRis]:
    with StrangeRis() as server:
        ENV["STRANGE_PORT"] = str(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


ENV: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _fresh(ris: StrangeRis, site: Site) -> None:
    ris.answers.clear()
    ris.received.clear()


@pytest.fixture(scope="module")
def running_site(ris: StrangeRis, running_site: Site) -> Site:
    """The file's site, started when the strange RIS has its port."""
    return running_site


def framed(*segments: str, kind: str = "ACK", end: str = "\x1c\r") -> bytes:
    text = "\r".join([HEADER.format(kind=kind), *segments]) + "\r"
    return f"\x0b{text}{end}".encode()


def orr(control: str, filler: str = "ACC778899^SYNAPSE") -> bytes:
    return framed("MSA|AA|{id}", f"ORC|{control}|ORDER123^RADSCHED|{filler}", kind="ORR^O02")


# -- bookings ------------------------------------------------------------------------------------------------------


def test_an_orr_that_says_unable(site: Site, ris: StrangeRis, booking: Booking) -> None:
    ris.answers += [orr("UA"), framed("MSA|AA|{id}", "QAK|Q|NF", "DSP|1||NO DATA FOUND", kind="DSR^Q01")]
    answer = site.book(booking(), "unable")
    assert (answer.status, answer.error["code"], answer.error["alternatives"]) == (409, "slot_taken", [])


def test_a_plain_acknowledgement_confirms_with_the_order_itself(site: Site, ris: StrangeRis, booking: Booking) -> None:
    ris.answers += [framed("MSA|AA|{id}|ACC778899")]
    answer = site.book(booking(), "plain")
    assert answer.status == 201
    # MSA-3 is free text: without a pattern in the channel it is no confirmation number.
    assert (answer.json["confirmationNumber"], answer.json["confirmationSource"]) == ("ORDER123", "placer")


def test_a_refusal_by_text_alone_needs_a_rule_of_the_site(site: Site, ris: StrangeRis, booking: Booking) -> None:
    ris.answers += [framed(f"MSA|AE|{{id}}|Not possible for {PERSON}")]
    answer = site.book(booking(), "text-only")
    assert (answer.status, answer.error["code"], answer.error["hl7"]) == (502, "ris_error", {"ack": "AE"})
    ris.answers += [
        framed(f"MSA|AE|{{id}}|Double booking of {PERSON}"),
        framed("MSA|AA|{id}", "QAK|Q|NF", "DSP|1||NO DATA FOUND", kind="DSR^Q01"),
    ]
    taken = site.book(booking(), "text-rule")
    assert (taken.status, taken.error["code"]) == (409, "slot_taken")
    assert "Doe" not in answer.text + taken.text


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\x0bMSH|^~\\&|\x1c\r", id="a broken header"),
        pytest.param(b"\x0bhello\x1c\r", id="no HL7"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP"),
        pytest.param(framed("MSA|AA|SOMETHING"), id="another message's"),
        pytest.param(framed("PID|1"), id="no MSA"),
        pytest.param(framed("MSA|ZZ|{id}"), id="no code"),
    ],
)
def test_an_answer_to_a_booking_that_cannot_be_used(
    site: Site, ris: StrangeRis, booking: Booking, answer: bytes, request: pytest.FixtureRequest
) -> None:
    key = f"unusable-{request.node.callspec.id}".replace(" ", "-")
    ris.answers += [answer, orr("OK")]
    said = site.book(booking(), key)
    assert (said.status, said.error["code"], said.error["outcome"]) == (502, "ris_bad_response", "unknown")
    assert site.book(booking(), key).json["confirmationNumber"] == "ACC778899"
    first, second = ris.received
    assert first == second


def test_an_end_without_the_last_return_is_an_answer(site: Site, ris: StrangeRis, booking: Booking) -> None:
    ris.answers += [framed("MSA|AA|{id}", "ORC|OK|ORDER123|ACC1", kind="ORR^O02", end="\x1c")]
    assert site.book(booking(), "no-return").json["confirmationNumber"] == "ACC1"


def test_a_caller_is_answered_in_time_whatever_the_ris_does(site: Site, ris: StrangeRis, booking: Booking) -> None:
    ris.go_on.clear()
    ris.answers += [b"wait"]
    answer = site.book(booking(), "in-time", headers={"X-Correlation-ID": "in-time"})
    assert answer.status == 504
    assert answer.error == {
        "code": "ris_timeout",
        "message": "The RIS did not answer in time; the booking may exist.",
        "retryable": True,
        "outcome": "unknown",
        "correlationId": "in-time",
    }
    assert answer.seconds < 15, "before the RIS is given up"
    assert site.book(booking(), "in-time").error["code"] == "in_progress"
    ris.go_on.set()


# -- queries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        pytest.param(framed("MSA|AA|{id}"), 502, "ris_bad_response", id="an ACK without the answer"),
        pytest.param(framed("MSA|AA|{id}", "QAK|Q|OK", kind="ORR^O02"), 502, "ris_bad_response", id="another type"),
        pytest.param(
            framed("MSA|AA|{id}", "QAK|Q|OK", f"DSP|1||{PERSON}", kind="DSR^Q01"), 502, "ris_bad_response", id="prose"
        ),
        pytest.param(
            framed("MSA|AA|{id}", "QAK|Q|OK", "DSP|1||ID=A;START=soon;LOC=DTI", kind="DSR^Q01"),
            502,
            "ris_bad_response",
            id="no time",
        ),
        pytest.param(framed("MSA|AA|{id}", "QAK|Q|AE", kind="DSR^Q01"), 502, "ris_error", id="QAK says AE"),
        pytest.param(framed("MSA|AA|{id}", "QAK|Q|AR", kind="DSR^Q01"), 502, "ris_error", id="QAK says AR"),
    ],
)
def test_an_answer_to_a_query_that_cannot_be_used(
    site: Site, ris: StrangeRis, answer: bytes, status: int, code: str
) -> None:
    ris.answers += [answer]
    said = site.slots()
    assert (said.status, said.error["code"]) == (status, code)
    assert "Doe" not in said.text


def test_slots_that_have_begun_are_not_offered(site: Site, ris: StrangeRis, local: Local) -> None:
    rows = [
        "DSP|1||ID=PAST;START=20200101090000;END=20200101093000;DUR=30;LOC=DTI;RES=XR1;MOD=CR||PAST",
        f"DSP|2||ID=OPEN;START={local(9):%Y%m%d%H%M%S};END={local(9, 30):%Y%m%d%H%M%S};LOC=DTI;RES=A%3BB;MOD=CR||OPEN",
    ]
    ris.answers += [framed("MSA|AA|{id}", "QAK|Q|OK", *rows, kind="DSR^Q01")]
    [slot] = site.slots().json["slots"]
    assert (slot["id"], slot["durationMinutes"], slot["resource"]) == ("OPEN", 30, "A;B")


def test_a_connection_that_the_ris_closed_while_idle_costs_no_caller_anything(site: Site, ris: StrangeRis) -> None:
    nothing = framed("MSA|AA|{id}", "QAK|Q|NF", "DSP|1||NO DATA FOUND", kind="DSR^Q01")
    ris.answers += [nothing, b"", nothing]
    assert [site.slots().status for _ in range(2)] == [200, 200]
    assert len(ris.received) == 3
