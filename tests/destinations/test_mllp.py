"""The MLLP destination over real sockets: which answer counts, and how every failure is classified."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7.mllp import start_hl7_server
from hl7apy.mllp import AbstractHandler, MLLPServer
from pydantic import ValidationError
from structlog.testing import capture_logs

from engine.destinations.base import Building, Destination, Outgoing, Response
from engine.destinations.mllp import MllpDestination, MllpDestinationConfig
from engine.errors import DeliveryError, Rejected, SpecError, Unanswered, Unavailable, Unexpected
from engine.hl7.bulk import Bulk, Pieces, Slice
from engine.hl7.mllp import frame, frame_pieces
from engine.promise import Promise
from engine.tls import ensure_certificates, server_context


class AtOnce(MllpDestination):
    """Sends what it can as the engine does: without a task, on a connection that stands."""

    connected = False

    async def send(self, outgoing: Outgoing) -> Response:
        if not self.connected and outgoing.pieces is None and self.contexts is None:
            await self.probe()
            self.connected = True
        answer: Promise[Response] = Promise()

        def told(result: Response | DeliveryError) -> None:
            if isinstance(result, DeliveryError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        under_way = None
        if outgoing.pieces is None and not outgoing.members:
            under_way = self.begin(outgoing.body, outgoing.control_id, told)
        if under_way is None:
            return await super().send(outgoing)
        try:
            return await answer
        except asyncio.CancelledError:
            under_way.cancel()
            raise


@pytest.fixture(params=[MllpDestination, AtOnce], ids=["task", "at_once"])
async def make(
    request: pytest.FixtureRequest, building: Building, partner: Any
) -> AsyncIterator[Callable[..., MllpDestination]]:
    made: list[MllpDestination] = []

    def begin(**config: Any) -> MllpDestination:
        model = MllpDestinationConfig.model_validate({"host": "127.0.0.1", "port": partner.port, **config})
        made.append(request.param(model, building))
        return made[-1]

    yield begin
    for destination in made:
        await destination.stop()


async def outcome(destination: Destination, outgoing: Any) -> str:
    """How a send ended, in one word."""
    try:
        response = await destination.send(outgoing)
    except Unexpected as error:
        return f"Unexpected {error.evidence.ack}"
    except (Unavailable, Unanswered) as error:
        return f"{type(error).__name__} {error.reason}"
    except Rejected as error:
        return f"Rejected {error.evidence.ack}"
    return response.evidence.ack


# -- answers that count ----------------------------------------------------------------------------------------------


async def test_the_bytes_arrive_as_they_are_and_aa_is_a_response(make: Any, partner: Any, outgoing: Any) -> None:
    message = outgoing("OUT1")
    response = await make().send(message)
    assert partner.received == [message.body]
    assert response.evidence.ack == "AA"
    assert b"MSA|AA|OUT1" in response.body


@pytest.mark.parametrize("kind", ["ORR^O02", "DSR^Q01", "SQR^S25"])
async def test_other_answers_with_an_msa_count(make: Any, partner: Any, outgoing: Any, kind: str) -> None:
    message = outgoing()
    partner.script = [partner.ack("AA", message.body, kind=kind, more="DSP|1||x\r")]
    assert b"DSP|1||x" in (await make().send(message)).body


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR"])
async def test_a_refusal_carries_its_codes_and_keeps_the_connection(
    make: Any, partner: Any, outgoing: Any, code: str
) -> None:
    message = outgoing()
    more = "ERR||QRD^1^10|204^Unknown key identifier^HL70357|E|SLOT_TAKEN|||Patient PLANTED\r"
    partner.script = [partner.ack(code, message.body, more=more)]
    destination = make()
    with pytest.raises(Rejected) as rejected:
        await destination.send(message)
    evidence = rejected.value.evidence
    assert (evidence.ack, evidence.condition, evidence.location) == (code, "204", "QRD-10")
    assert evidence.application_error == "SLOT_TAKEN"
    assert b"PLANTED" in evidence.body
    assert "PLANTED" in evidence.text
    assert "PLANTED" not in str(rejected.value) + repr(rejected.value) + repr(evidence)
    assert await outcome(destination, outgoing("OUT2")) == "AA"
    assert partner.connections == 1


async def test_an_answer_may_come_in_pieces_and_without_its_last_cr(make: Any, partner: Any, outgoing: Any) -> None:
    async def slowly(writer: asyncio.StreamWriter, body: bytes) -> None:
        for byte in b"\r\n" + partner.ack("AA", body)[:-1]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    partner.script = [slowly]
    assert await outcome(make(), outgoing()) == "AA"


async def test_the_answer_to_a_message_without_a_number_names_none(make: Any, partner: Any, outgoing: Any) -> None:
    """Nothing else could ever name it: it would be sent again and again, and hold up what stands behind it."""
    body = b"MSH|^~\\&|A|B|C|D|20270101||SIU^S12||P|2.3\rPID|1\r"
    nameless = replace(outgoing("MADE"), body=body)
    partner.script = [partner.ack("AA", body, control_id=""), partner.ack("AE", body, control_id="")]
    destination = make()
    assert [await outcome(destination, nameless) for _ in range(2)] == ["AA", "Rejected AE"]
    partner.script = [partner.ack("AA", body, control_id="OTHER")]
    assert await outcome(destination, nameless) == "Unanswered mismatch"


# -- failures --------------------------------------------------------------------------------------------------------


def wrong_id(partner: Any, body: bytes) -> bytes:
    answer: bytes = partner.ack("AA", body, control_id="OTHER")
    return answer


BAD = {
    "wrong MSA-2": (wrong_id, "Unanswered mismatch"),
    "no MSA-2": (lambda partner, body: partner.ack("AA", body, control_id=""), "Unanswered mismatch"),
    "a foreign message first": (
        lambda partner, body: wrong_id(partner, body) + partner.ack("AA", body),
        "Unanswered mismatch",
    ),
    "no MSA": (lambda partner, body: frame(b"MSH|^~\\&|A|B|C|D|1||ACK|1|P|2.3\r"), "Unanswered malformed"),
    "an unknown code": (lambda partner, body: partner.ack("OK", body), "Unexpected OK"),
    "text for a code": (lambda partner, body: partner.ack("Patient Doe", body), "Unexpected other"),
    "an unknown code for another message": (
        lambda partner, body: partner.ack("YES", body, control_id="OTHER"),
        "Unanswered mismatch",
    ),
    "CA unasked": (lambda partner, body: partner.ack("CA", body), "Unexpected CA"),
    "no HL7": (lambda partner, body: frame(b"OK"), "Unanswered malformed"),
    "empty frame": (lambda partner, body: frame(b""), "Unanswered malformed"),
    "HTTP": (lambda partner, body: b"HTTP/1.1 400 Bad Request\r\n\r\n", "Unanswered malformed"),
    "too large": (lambda partner, body: frame(b"MSH|" + b"x" * 5000), "Unanswered malformed"),
    "silence": (lambda partner, body: b"", "Unanswered timeout"),
    "half an answer": (lambda partner, body: partner.ack("AA", body)[:20], "Unanswered timeout"),
    "junk": (lambda partner, body: b"\r\n\r\n", "Unanswered timeout"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_answer_is_unanswered_and_closes_the_connection(
    make: Any, partner: Any, outgoing: Any, name: str
) -> None:
    answer, expected = BAD[name]
    message = outgoing()
    partner.script = [answer(partner, message.body)]
    destination = make(timeout="200ms", max_size="4KiB")
    assert await outcome(destination, message) == expected
    assert destination.summary()["idle"] == 0
    assert await outcome(destination, outgoing("OUT2")) == "AA"
    assert partner.connections == 2


async def test_a_late_answer_is_never_credited_to_the_next_message(make: Any, partner: Any, outgoing: Any) -> None:
    late = asyncio.Event()

    async def answer_late(writer: asyncio.StreamWriter, body: bytes) -> None:
        await late.wait()
        writer.write(partner.ack("AA", body))

    partner.script = [answer_late, None]
    destination = make(timeout="200ms")
    assert await outcome(destination, outgoing("OUT1")) == "Unanswered timeout"
    late.set()
    assert await outcome(destination, outgoing("OUT2")) == "Unanswered timeout"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_lost_after_the_bytes_left_is_unanswered(
    make: Any, partner: Any, outgoing: Any, reset: bool
) -> None:
    async def hang_up(writer: asyncio.StreamWriter, _: bytes) -> None:
        if reset:
            handle = writer.get_extra_info("socket")
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    partner.script = [hang_up]
    assert await outcome(make(), outgoing()) == "Unanswered lost"


async def test_a_partner_that_does_not_read_is_unanswered_in_time(make: Any, outgoing: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        destination = make(port=deaf.getsockname()[1], timeout="200ms")
        body = b"MSH|^~\\&|A|B|C|D|1||ORU^R01|BIG|P|2.3\rOBX|1|ED|" + b"A" * 12_000_000 + b"\r"
        assert await outcome(destination, outgoing("BIG", body=body)) == "Unanswered timeout"


async def test_a_cancelled_send_closes_its_connection(make: Any, partner: Any, outgoing: Any, eventually: Any) -> None:
    partner.script = [None]
    destination = make()
    sending = asyncio.create_task(destination.send(outgoing()))
    await partner.wait_for(1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await eventually(lambda: destination.summary() == {"connections": 0, "idle": 0})


async def test_nobody_there_is_unavailable(make: Any, partner: Any, outgoing: Any) -> None:
    await partner.stop()
    assert await outcome(make(), outgoing()) == "Unavailable refused"
    assert await outcome(make(host="localhost"), outgoing()) == "Unavailable refused"
    with pytest.raises(Unavailable, match="refused"):
        await make().probe()


@pytest.mark.parametrize("host", ["no-such-partner.invalid", "a" * 70 + ".invalid"])
async def test_a_name_that_does_not_exist_is_unavailable(make: Any, outgoing: Any, host: str) -> None:
    assert await outcome(make(host=host, connect_timeout="20s"), outgoing()) == "Unavailable dns"


async def test_a_connect_that_takes_too_long_is_unavailable(make: Any, outgoing: Any) -> None:
    """A partner whose queue of connections is full answers nothing at all."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        assert (
            await outcome(make(port=full.getsockname()[1], connect_timeout="100ms"), outgoing())
            == "Unavailable timeout"
        )
        for one in waiting:
            one.close()


async def test_a_message_that_would_arrive_as_two_is_never_sent(make: Any, partner: Any, outgoing: Any) -> None:
    body = outgoing().body + b"NTE|1||\x1c\rMSH|^~\\&|\r"
    with pytest.raises(Rejected) as rejected:
        await make().send(outgoing(body=body))
    assert rejected.value.evidence.ack == "AE"
    assert not partner.received


def document(size: int = 3_000_000) -> Pieces:
    """A large ORU as the store gives it."""
    head = b"MSH|^~\\&|LAB|A|E|S|20260101||ORU^R01|OUT1|P|2.5.1\rOBX|1|ED|PDF||^application^pdf^Base64^"
    return Pieces([head, Slice(Bulk(b"QUJD" * (size // 4)), 1, size - 3), b"\r"])


async def test_a_large_message_is_sent_piece_by_piece(make: Any, partner: Any, outgoing: Any) -> None:
    pieces = document()
    destination = make()
    for _ in range(2):
        await destination.send(outgoing(body=b"", pieces=pieces))
    assert partner.received == [bytes(pieces)] * 2
    assert partner.connections == 1


async def test_a_connection_that_ends_in_the_middle_of_a_large_message_leaves_its_outcome_open(
    make: Any, partner: Any, outgoing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.transport.abort()

    monkeypatch.setattr(partner, "serve", hang_up)
    await partner.stop()
    await partner.start()
    with pytest.raises(Unanswered, match="lost"):
        await make().send(outgoing(body=b"", pieces=document(30_000_000)))


async def test_a_large_message_that_would_arrive_as_two_is_never_sent(make: Any, partner: Any, outgoing: Any) -> None:
    with pytest.raises(Rejected):
        await make().send(outgoing(body=b"", pieces=Pieces([*document().pieces, b"\x1c", b"\rMSH"])))
    assert not partner.received


# -- kept connections ------------------------------------------------------------------------------------------------


async def test_a_connection_is_kept(make: Any, partner: Any, outgoing: Any) -> None:
    destination = make()
    for number in range(5):
        assert await outcome(destination, outgoing(f"OUT{number}")) == "AA"
    assert partner.connections == 1
    assert destination.summary() == {"connections": 1, "idle": 1}


async def test_as_many_connections_as_lanes_and_one_message_on_each(make: Any, partner: Any, outgoing: Any) -> None:
    gate = asyncio.Event()

    async def wait(writer: asyncio.StreamWriter, body: bytes) -> None:
        await gate.wait()
        writer.write(partner.ack("AA", body))

    partner.script = [wait, wait]
    destination = make()
    sends = [asyncio.create_task(outcome(destination, outgoing(f"OUT{number}"))) for number in range(2)]
    await partner.wait_for(2)
    assert partner.connections == 2
    gate.set()
    assert await asyncio.gather(*sends) == ["AA", "AA"]
    assert destination.summary() == {"connections": 2, "idle": 2}


@pytest.mark.parametrize("seen", [True, False])
async def test_a_kept_connection_that_the_partner_closed_is_replaced(
    make: Any, partner: Any, outgoing: Any, eventually: Any, seen: bool
) -> None:
    destination = make()
    assert await outcome(destination, outgoing("OUT1")) == "AA"
    partner.writers[0].close()
    if seen:
        await eventually(lambda: destination.summary()["connections"] == 0)
    else:
        # The end of the stream lies in the socket, and the loop has had no chance to see it.
        partner.writers[0].transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    assert await outcome(destination, outgoing("OUT2")) == "AA"
    assert partner.connections == 2


async def test_a_kept_connection_with_unread_bytes_is_replaced(make: Any, partner: Any, outgoing: Any) -> None:
    message = outgoing("OUT1")
    partner.script = [partner.ack("AA", message.body) + partner.ack("AA", b"", control_id="OUT2")]
    destination = make()
    assert await outcome(destination, message) == "AA"
    partner.script = ["AE"]
    assert await outcome(destination, outgoing("OUT2")) == "Rejected AE"
    assert partner.connections == 2


async def test_a_connection_nobody_uses_is_closed(make: Any, partner: Any, outgoing: Any, eventually: Any) -> None:
    destination = make(idle_timeout="100ms")
    assert await outcome(destination, outgoing("OUT1")) == "AA"
    await eventually(lambda: destination.summary() == {"connections": 0, "idle": 0})
    assert await outcome(destination, outgoing("OUT2")) == "AA"


async def test_a_probe_connects_and_sends_nothing(make: Any, partner: Any, outgoing: Any) -> None:
    destination = make()
    await destination.probe()
    assert await outcome(destination, outgoing()) == "AA"
    assert (partner.connections, len(partner.received)) == (1, 1)


async def test_stop_closes_the_kept_connections(make: Any, partner: Any, outgoing: Any, eventually: Any) -> None:
    destination = make()
    await destination.send(outgoing())
    await destination.stop()
    await eventually(lambda: partner.writers[0].is_closing())
    assert await outcome(destination, outgoing("OUT2")) == "AA"


# -- enhanced mode ---------------------------------------------------------------------------------------------------


async def test_ca_ends_it_when_no_application_ack_is_asked_for(make: Any, partner: Any, outgoing: Any) -> None:
    partner.script = ["CA"]
    assert await outcome(make(), outgoing(modes="|||AL|NE")) == "CA"
    assert len(partner.received) == 1


@pytest.mark.parametrize(("code", "expected"), [("AA", "AA"), ("AE", "Rejected AE"), ("AR", "Rejected AR")])
@pytest.mark.parametrize("accept_first", [True, False])
async def test_an_application_ack_that_was_asked_for_decides_and_is_answered_ca(
    make: Any, partner: Any, outgoing: Any, code: str, expected: str, accept_first: bool
) -> None:
    message = outgoing("OUT1", modes="|||AL|AL")
    first = partner.ack("CA", message.body) if accept_first else b""
    partner.script = [first + partner.ack(code, message.body), None]
    destination = make()
    assert await outcome(destination, message) == expected
    await partner.wait_for(2)
    assert b"MSA|CA|ACKOUT1" in partner.received[1]
    assert await outcome(destination, outgoing("OUT2")) == "AA"
    assert partner.connections == 1


async def test_an_application_ack_that_wants_no_answer_gets_none(make: Any, partner: Any, outgoing: Any) -> None:
    message = outgoing("OUT1", modes="|||AL|AL")
    own = b"MSH|^~\\&|EMR|THERE|ENGINE|HERE|1||ACK|X1|P|2.3|||NE|NE\rMSA|AA|OUT1\r"
    partner.script = [partner.ack("CA", message.body) + frame(own)]
    destination = make()
    assert await outcome(destination, message) == "AA"
    assert await outcome(destination, outgoing("OUT2")) == "AA"
    assert [body.split(b"|")[9] for body in partner.received] == [b"OUT1", b"OUT2"]


@pytest.mark.parametrize(
    ("modes", "answers", "expected"),
    [
        ("|||AL|AL", ["CE"], "Rejected CE"),
        ("|||AL|AL", ["CA"], "Unanswered timeout"),
        ("|||AL|AL", ["CA", "CA"], "Unanswered malformed"),
        ("|||NE|AL", ["AA"], "AA"),
        ("|||SU|NE", ["CA"], "CA"),
        ("|||AL|ER", ["CA"], "CA"),
        ("|||NE|NE", [], ""),
        ("|||ER|ER", [], ""),
    ],
)
async def test_what_is_waited_for_in_enhanced_mode(
    make: Any, partner: Any, outgoing: Any, modes: str, answers: list[str], expected: str
) -> None:
    message = outgoing(modes=modes)
    partner.script = [b"".join(partner.ack(code, message.body) for code in answers)]
    assert await outcome(make(timeout="200ms"), message) == expected
    await partner.wait_for(1)


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def secure(building: Building, partner: Any) -> Path:
    folder = building.data / "tls"
    ensure_certificates(folder)
    await partner.stop()
    partner.port = 0
    await partner.start(ssl=server_context(folder / "server.pem", folder / "server.key"))
    return folder


async def test_tls_with_a_private_authority(make: Any, partner: Any, outgoing: Any, secure: Path) -> None:
    destination = make(tls={"ca": "data/tls/ca.pem"})
    assert destination.address.startswith("mllps://")
    for number in range(3):
        assert await outcome(destination, outgoing(f"OUT{number}")) == "AA"
    assert partner.connections == 1
    assert await outcome(make(host="localhost", tls={"ca": str(secure / "ca.pem")}), outgoing()) == "AA"


@pytest.mark.parametrize("size", [300_000, 20_000_000])
async def test_a_large_message_goes_piece_by_piece_over_tls(
    make: Any, partner: Any, outgoing: Any, secure: Path, size: int
) -> None:
    partner.max_size = 2 * size
    destination, pieces = make(tls={"ca": "data/tls/ca.pem"}), document(size)
    for _ in range(2):
        await destination.send(outgoing(body=b"", pieces=pieces))
    assert partner.received == [bytes(pieces)] * 2
    assert partner.connections == 1


@pytest.mark.parametrize("reads", [True, False])
async def test_a_partner_that_reads_slowly_over_tls_is_waited_for_within_the_time(
    make: Any, partner: Any, outgoing: Any, secure: Path, eventually: Any, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has not read is not read from the store either, and nothing of it is left behind at the time-out."""
    goes_on, seen, ended = (asyncio.Event() for _ in range(3))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        partner.writers.append(writer)
        seen.set()
        await goes_on.wait()
        with contextlib.suppress(ConnectionError):
            while (data := await reader.read(1 << 20)) and not data.endswith(b"\x1c\r"):
                pass
        writer.write(partner.ack("AA", b"MSH|||||||||OUT1|"))
        ended.set()

    taken: list[int] = []

    def counted(pieces: Pieces, most: int) -> Iterator[bytes | memoryview]:
        for piece in frame_pieces(pieces, most):
            taken.append(len(piece))
            yield piece

    monkeypatch.setattr("engine.destinations.mllp.frame_pieces", counted)
    monkeypatch.setattr(partner, "serve", serve)
    await partner.stop()
    await partner.start(ssl=server_context(secure / "server.pem", secure / "server.key"))
    destination = make(port=partner.port, tls={"ca": "data/tls/ca.pem"}, timeout="20s" if reads else "500ms")
    sending = asyncio.create_task(outcome(destination, outgoing(body=b"", pieces=document(50_000_000))))
    await seen.wait()
    await asyncio.sleep(0.2)
    assert sum(taken) < 25_000_000, "it waits for the partner"
    if reads:
        goes_on.set()
    assert await sending == ("AA" if reads else "Unanswered timeout")
    assert (sum(taken) > 50_000_000) is reads
    await eventually(lambda: destination.pool.open == int(reads))
    goes_on.set()
    await ended.wait()


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        (True, "Unavailable tls"),
        ({"ca": "data/tls/ca.pem", "server_name": "other.example.org"}, "Unavailable tls"),
        ({"ca": "data/tls/ca.pem", "server_name": "localhost"}, "AA"),
        ({"ca": "data/elsewhere.pem"}, "Unavailable tls"),
        ({"verify": False}, "AA"),
        (False, "Unanswered lost"),
    ],
)
async def test_who_is_not_trusted_gets_nothing(
    make: Any, partner: Any, outgoing: Any, secure: Path, tls: Any, expected: str
) -> None:
    with capture_logs() as logs:
        assert await outcome(make(tls=tls), outgoing()) == expected
    if expected == "Unavailable tls":
        assert [entry["event"] for entry in logs] == ["mllp.tls_failed"]
        assert logs[0]["reason"]
        assert not partner.received


async def test_a_partner_that_speaks_no_tls_is_unavailable(make: Any, partner: Any, outgoing: Any) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x0bMSH|^~\\&|\x1c\r")
        writer.close()

    plain = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    assert await outcome(make(port=port, tls=True), outgoing()) == "Unavailable tls"
    plain.close()


async def test_a_partner_that_turns_our_certificate_down_is_unavailable(
    make: Any, partner: Any, outgoing: Any, secure: Path
) -> None:
    """In TLS 1.3 the refusal comes when the handshake seems done and the message has been written."""
    context = server_context(secure / "server.pem", secure / "server.key", secure / "ca.pem")

    def refuse(listening: socket.socket) -> None:
        connected, _ = listening.accept()
        with context.wrap_socket(connected, server_side=True, do_handshake_on_connect=False) as secured:
            with pytest.raises(ssl.SSLError):
                secured.do_handshake()
            # Closing with bytes unread would reset the connection, and the refusal could be lost on its way.
            while socket.socket.recv(secured, 65536):
                continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listening))
        destination = make(port=listening.getsockname()[1], tls={"ca": "data/tls/ca.pem"})
        assert await outcome(destination, outgoing()) == "Unavailable tls"
        await refusing


async def test_a_certificate_that_comes_later_is_used(make: Any, partner: Any, outgoing: Any, secure: Path) -> None:
    authority = secure / "ca.pem"
    hidden = authority.rename(secure / "hidden.pem")
    destination = make(tls={"ca": "data/tls/ca.pem"})
    assert await outcome(destination, outgoing()) == "Unavailable tls"
    hidden.rename(authority)
    assert await outcome(destination, outgoing()) == "AA"


# -- peers of other authors ------------------------------------------------------------------------------------------


def accepted(message: hl7.Message) -> str:
    """python-hl7's own ``create_ack`` warns from Python 3.12 on."""
    control_id = message.extract_field("MSH", 1, 10)
    return f"MSH|^~\\&|EMR|THERE|ENGINE|HERE|20261120||ACK|A{control_id}|P|2.3\rMSA|AA|{control_id}\r"


async def test_python_hl7s_server_is_understood(make: Any, outgoing: Any) -> None:
    async def handle(reader: Any, writer: Any) -> None:
        try:
            while True:
                message = await reader.readmessage()
                writer.writemessage(hl7.parse(accepted(message)))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = await start_hl7_server(handle, "127.0.0.1", 0, encoding="utf-8")
    destination = make(port=server.sockets[0].getsockname()[1])
    for number in range(3):
        assert await outcome(destination, outgoing(f"OUT{number}")) == "AA"
    await destination.stop()
    server.close()


@pytest.fixture
async def hl7apy_port() -> AsyncIterator[int]:
    """hl7apy's server closes each connection after one answer."""

    class Handler(AbstractHandler):  # type: ignore[misc]
        def reply(self) -> str:
            return f"\x0b{accepted(hl7.parse(self.incoming_message))}\x1c\r"

    server = MLLPServer("127.0.0.1", 0, {"SIU^S12": (Handler,)})
    serving = asyncio.create_task(asyncio.to_thread(server.serve_forever, 0.05))
    yield server.server_address[1]
    await asyncio.to_thread(server.shutdown)
    await serving
    server.server_close()


async def test_hl7apys_server_is_understood(make: Any, outgoing: Any, hl7apy_port: int) -> None:
    destination = make(port=hl7apy_port, keep=False)
    for number in range(5):
        assert await outcome(destination, outgoing(f"OUT{number}")) == "AA"
    await destination.stop()


async def test_a_partner_that_closes_after_its_answers_is_learnt(make: Any, outgoing: Any, hl7apy_port: int) -> None:
    """The first message after an answer may still meet the closing connection, as long as nobody knew."""
    destination = make(port=hl7apy_port)
    outcomes = [await outcome(destination, outgoing(f"OUT{number}")) for number in range(8)]
    assert outcomes.count("AA") >= 7
    assert set(outcomes) <= {"AA", "Unanswered lost"}
    await destination.stop()


# -- the file --------------------------------------------------------------------------------------------------------


def test_the_address_is_shown_and_it_can_answer(building: Building) -> None:
    destination = MllpDestination(MllpDestinationConfig(host="ris.example.org", port=2576), building)
    assert destination.address == "mllp://ris.example.org:2576"
    assert destination.answers


@pytest.mark.parametrize(
    "config",
    [{}, {"host": "a"}, {"host": "", "port": 1}, {"host": "a", "port": 0}, {"host": "a", "port": 1, "timeout": 0}],
)
def test_a_wrong_key_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MllpDestinationConfig.model_validate(config)


def test_a_missing_certificate_is_named(building: Building) -> None:
    config = MllpDestinationConfig.model_validate({"host": "a", "port": 1, "tls": {"ca": "own/ca.pem"}})
    with pytest.raises(SpecError) as error:
        MllpDestination(config, building)
    assert error.value.at == ("tls", "ca")


def test_ports_from_the_environment_are_text() -> None:
    assert MllpDestinationConfig.model_validate({"host": "a", "port": "2602"}).port == 2602
    assert ssl.HAS_TLSv1_2
