"""The MLLP source over real sockets: acknowledgements, order, back-pressure, TLS, stop."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import weakref
from pathlib import Path
from typing import Any

import hl7
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hl7.client import MLLPClient
from hl7.mllp import open_hl7_connection
from pydantic import ValidationError
from structlog.testing import capture_logs

from engine.envelope import ACCEPT, Ack
from engine.errors import SpecError
from engine.hl7.mllp import frame
from engine.sources.base import Building
from engine.sources.mllp import MllpSource, MllpSourceConfig
from engine.sources.serving.mllp_connection import Connection
from engine.tls import builder, client_context, ensure_certificates, load_authority, write_pair

# -- acknowledgements ------------------------------------------------------------------------------------------------


async def test_a_message_is_handed_over_as_it_came_and_answered_aa(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    sender = await connect(await start())
    sender.send(frame(message("MSG1")))
    ack = await sender.ack()
    assert (ack.code, ack.control_id) == ("AA", "MSG1")
    assert receive.bodies == [message("MSG1")]
    assert receive.taken[0].origin.source == "mllp"
    assert receive.taken[0].origin.peer.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("ack", "code", "condition"),
    [
        (Ack("error", 101, "PID^1^3"), "AE", "101"),
        (Ack("reject", 207), "AR", "207"),
        (Ack("reject"), "AR", None),
    ],
)
async def test_negative_outcomes_become_ae_and_ar(
    start: Any, connect: Any, receive: Any, ack: Ack, code: str, condition: str | None, message: Any
) -> None:
    receive.answer = ack
    sender = await connect(await start())
    sender.send(frame(message()))
    answer = await sender.ack()
    assert (answer.code, answer.condition) == (code, condition)


async def test_no_ack_leaves_before_the_answer_is_there(start: Any, connect: Any, receive: Any, message: Any) -> None:
    receive.hold = True
    sender = await connect(await start())
    sender.send(frame(message()))
    await receive.wait_for(1)
    receive.taken[0].receipt.accept(ACCEPT)
    waiting = asyncio.create_task(sender.ack())
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    receive.taken[0].receipt.finish(ACCEPT)
    assert (await waiting).code == "AA"


async def test_acks_leave_in_the_order_of_arrival(start: Any, connect: Any, receive: Any, message: Any) -> None:
    receive.hold = True
    sender = await connect(await start())
    sender.send(b"".join(frame(message(f"M{number}")) for number in range(3)))
    await receive.wait_for(3)
    for taken in reversed(receive.taken):
        taken.receipt.accept(ACCEPT)
        taken.receipt.finish(ACCEPT)
    assert [(await sender.ack()).control_id for _ in range(3)] == ["M0", "M1", "M2"]


async def test_what_is_no_message_is_handed_over_and_answered_ar(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    receive.answer = Ack("reject", 100, "MSH^1", cause="malformed")
    sender = await connect(await start())
    sender.send(frame(b"hello") + frame(message("AFTER")))
    first = await sender.ack()
    assert (first.code, first.control_id) == ("AR", "")
    assert (await sender.ack()).control_id == "AFTER"
    assert receive.bodies[0] == b"hello"


async def test_an_acknowledgement_is_recorded_and_never_acknowledged(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    sender = await connect(await start())
    stray = b"MSH|^~\\&|A|B|C|D|20261120||ACK^S12|X1|P|2.3\rMSA|AA|OLD1\r"
    sender.send(frame(stray) + frame(message("NEXT")))
    assert (await sender.ack()).control_id == "NEXT"
    assert [(code, body) for code, body, _ in receive.refused] == [("unexpected_ack", stray)]
    assert receive.bodies == [message("NEXT")]


async def test_an_ack_gives_bytes_back_that_no_charset_explains(start: Any, connect: Any, message: Any) -> None:
    sender = await connect(await start())
    sender.send(frame(message("M1").replace(b"|RIS|", b"|R\xcdS|")))
    answer = await sender.ack()
    assert answer.message is not None
    assert answer.message.to_bytes().count(b"R\xcdS") == 1


# -- enhanced mode ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "application", "outcome", "expected"),
    [
        ("AL", "NE", "accept", ["CA"]),
        ("AL", "", "accept", ["CA"]),
        ("AL", "AL", "accept", ["CA", "AA"]),
        ("AL", "ER", "accept", ["CA"]),
        ("AL", "SU", "accept", ["CA", "AA"]),
        ("NE", "AL", "accept", ["AA"]),
        ("ER", "AL", "accept", ["AA"]),
        ("SU", "NE", "accept", ["CA"]),
        ("NE", "NE", "accept", []),
        ("AL", "NE", "error", ["CE"]),
        ("AL", "AL", "reject", ["CR"]),
        ("ER", "NE", "reject", ["CR"]),
        ("SU", "ER", "error", ["AE"]),
        ("SU", "NE", "error", []),
        ("NE", "AL", "error", ["AE"]),
    ],
)
async def test_enhanced_mode_sends_what_msh_15_and_16_ask_for(
    start: Any,
    connect: Any,
    receive: Any,
    accept: str,
    application: str,
    outcome: str,
    expected: list[str],
    message: Any,
) -> None:
    receive.answer = Ack(outcome)
    sender = await connect(await start())
    sender.send(frame(message("E1", accept=accept, application=application)))
    await receive.wait_for(1)
    receive.answer = ACCEPT
    sender.send(frame(message("LAST")))
    acks = [await sender.ack() for _ in range(len(expected) + 1)]
    assert [ack.code for ack in acks if ack.control_id == "E1"] == expected
    assert sum(ack.control_id == "LAST" for ack in acks) == 1


async def test_an_accept_ack_answers_commit_1_and_does_not_wait_for_earlier_answers(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    receive.hold = True
    sender = await connect(await start())
    sender.send(frame(message("E1", accept="AL", application="AL")) + frame(message("E2", accept="AL")))
    await receive.wait_for(2)
    for taken in receive.taken:
        taken.receipt.accept(ACCEPT)
    assert [(ack.code, ack.control_id) for ack in (await sender.ack(), await sender.ack())] == [
        ("CA", "E1"),
        ("CA", "E2"),
    ]
    receive.taken[0].receipt.finish(Ack("error", 207))
    assert [(ack.code, ack.control_id) for ack in [await sender.ack()]] == [("AE", "E1")]


# -- bounds ----------------------------------------------------------------------------------------------------------


async def test_reading_stops_while_too_many_are_unanswered(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    receive.hold = True
    sender = await connect(await start(pipeline=2))
    sender.send(b"".join(frame(message(f"M{number}")) for number in range(5)))
    await receive.wait_for(2)
    for number in range(5):
        assert len(receive.taken) == min(number + 2, 5)
        receive.taken[number].receipt.accept(ACCEPT)
        receive.taken[number].receipt.finish(ACCEPT)
        assert (await sender.ack()).control_id == f"M{number}"


async def test_what_is_sent_behind_a_large_message_waits_until_it_is_written(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    receive.hold = True
    sender, other = await connect(source := await start()), await connect(source)
    large = message("L1", body="OBX|1|ED|||" + "QUJD" * 300_000)
    sender.send(frame(large) + frame(message("S1")))
    await receive.wait_for(1)
    other.send(frame(message("S2")))
    await receive.wait_for(2)
    assert [bytes(body)[:60].split(b"|")[9] for body in receive.bodies] == [b"L1", b"S2"]
    receive.taken[0].receipt.accept(ACCEPT)
    await receive.wait_for(3)
    assert receive.bodies[2] == message("S1")
    for taken in receive.taken:
        taken.receipt.finish(ACCEPT)
    assert [(await sender.ack()).control_id for _ in range(2)] == ["L1", "S1"]


async def test_a_connection_holds_nothing_of_a_large_message_that_was_answered(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    receive.hold = True
    sender = await connect(await start())
    sender.send(frame(message("L1", body="OBX|1|ED|||" + "QUJD" * 300_000)))
    await receive.wait_for(1)
    large = receive.taken[0].receipt
    large.accept(ACCEPT)
    large.finish(ACCEPT)
    assert (await sender.ack()).control_id == "L1"
    left = weakref.ref(large)
    del large
    receive.taken.clear()
    gc.collect()
    assert left() is None


async def test_a_peer_that_does_not_read_its_acks_is_not_read_either_and_is_dropped(
    start: Any, connect: Any, receive: Any, eventually: Any, message: Any
) -> None:
    source = await start(frame_timeout="300ms")
    # Buffers of a fixed size: the system would let them grow beyond all the acks of this test.
    source._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", source.port))
    sender = await connect(source, host=None, port=None, sock=small, limit=1024)
    one = frame(message("M" * 15))
    with capture_logs() as logs:
        sender.send(one * 20_000)
        await eventually(lambda: any(entry["event"] == "mllp.peer_does_not_read" for entry in logs), 30)
    assert 0 < len(receive.taken) < 20_000


async def test_too_large_a_message_is_answered_ar_then_the_connection_ends(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    sender = await connect(await start(max_size="4KiB"))
    sender.send(
        frame(message("FINE")) + frame(message("BIG", body="OBX|1|ED|" + "A" * 10_000)) + frame(message("LATE"))
    )
    assert (await sender.ack()).code == "AA"
    refusal = await sender.ack()
    assert (refusal.code, refusal.control_id) == ("AR", "BIG")
    assert await sender.is_closed()
    assert receive.bodies == [message("FINE")]
    assert [code for code, _, _ in receive.refused] == ["too_large"]


async def test_one_connection_too_many_is_dropped_and_the_others_go_on(start: Any, connect: Any, message: Any) -> None:
    source = await start(max_connections=1)
    first = await connect(source)
    first.send(frame(message("A")))
    assert (await first.ack()).code == "AA"
    assert await (await connect(source)).is_closed()
    first.send(frame(message("B")))
    assert (await first.ack()).control_id == "B"


async def test_silence_between_messages_is_no_error(start: Any, connect: Any, message: Any) -> None:
    sender = await connect(await start(frame_timeout="50ms"))
    sender.send(frame(message("A")))
    await sender.ack()
    waiting = asyncio.create_task(sender.is_closed())
    done, _ = await asyncio.wait({waiting}, timeout=0.7)
    assert not done
    waiting.cancel()
    await asyncio.wait({waiting})
    sender.send(frame(message("B")))
    assert (await sender.ack()).control_id == "B"


async def test_an_idle_connection_is_closed_when_the_file_says_so(start: Any, connect: Any, message: Any) -> None:
    sender = await connect(await start(idle_timeout="100ms"))
    sender.send(frame(message("A")))
    await sender.ack()
    assert await sender.is_closed()


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(building: Building) -> Path:
    ensure_certificates(building.data / "tls")
    return building.data / "tls"


def make_client_certificate(folder: Path) -> tuple[Path, Path]:
    authority = load_authority(folder)
    assert authority is not None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sender")])
    certificate = (
        builder(name, authority[0].subject, key.public_key(), 1)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority[1].public_key()), critical=False)
        .sign(authority[1], hashes.SHA256())
    )
    write_pair(folder, "client", certificate, key)
    return folder / "client.pem", folder / "client.key"


async def test_tls_with_the_default_certificate(start: Any, connect: Any, tls: Path, message: Any) -> None:
    source = await start(tls=True)
    assert source.address.startswith("mllps://127.0.0.1:")
    sender = await connect(source, ssl=client_context(tls / "ca.pem"))
    for number in range(3):
        sender.send(frame(message(f"T{number}")))
        assert (await sender.ack()).control_id == f"T{number}"


async def test_the_default_certificate_is_made_when_it_is_missing(
    start: Any, connect: Any, building: Building, message: Any
) -> None:
    source = await start(tls={})
    sender = await connect(source, ssl=client_context(building.data / "tls" / "ca.pem"))
    sender.send(frame(message("T")))
    assert (await sender.ack()).code == "AA"


async def test_a_failed_handshake_is_logged_with_its_reason_and_harms_nobody(
    start: Any, connect: Any, tls: Path, eventually: Any, message: Any
) -> None:
    source = await start(tls=True)
    good = await connect(source, ssl=client_context(tls / "ca.pem"))
    with capture_logs() as logs:
        plain = await connect(source)
        plain.send(frame(message("PLAIN")))
        assert await plain.is_closed()
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("127.0.0.1", source.port, ssl=client_context(None))
        silent = await connect(source)
        await silent.close()
        await eventually(lambda: len([entry for entry in logs if entry["event"] == "mllp.tls_failed"]) == 3)
    assert all(entry["reason"] and entry["peer"].startswith("127.0.0.1:") for entry in logs if "reason" in entry)
    good.send(frame(message("GOOD")))
    assert (await good.ack()).control_id == "GOOD"


async def test_client_certificates_are_asked_for(
    start: Any, receive: Any, connect: Any, tls: Path, message: Any
) -> None:
    source = await start(tls={"client_ca": str(tls / "ca.pem")})
    without = await connect(source, ssl=client_context(tls / "ca.pem"))
    without.send(frame(message("NO")))
    with pytest.raises(OSError):  # noqa: PT012
        await without.ack()
        raise AssertionError
    certificate, key = make_client_certificate(tls)
    sender = await connect(source, ssl=client_context(tls / "ca.pem", certificate, key))
    sender.send(frame(message("YES")))
    assert (await sender.ack()).control_id == "YES"
    assert receive.taken[-1].origin.identity.startswith("CN=")


def test_tls_works_in_uvloop_when_the_greeting_comes_at_once(
    building: Building, receive: Any, make_context: Any, tls: Path, message: Any, sender_class: Any
) -> None:
    async def run() -> list[str]:
        source = MllpSource(MllpSourceConfig.model_validate({"port": 0, "tls": True}), building)
        await source.start(make_context(receive))
        context = client_context(tls / "ca.pem")

        async def one(number: int) -> str:
            sender = sender_class(*await asyncio.open_connection("127.0.0.1", source.port, ssl=context))
            sender.send(frame(message(f"U{number}")))
            answer = await sender.ack()
            await sender.close()
            return answer.control_id

        answered = await asyncio.gather(*(one(number) for number in range(20)))
        await source.stop()
        return answered

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == [f"U{number}" for number in range(20)]


# -- stop ------------------------------------------------------------------------------------------------------------


async def test_stop_answers_what_was_taken_then_closes(
    start: Any, connect: Any, receive: Any, message: Any, eventually: Any
) -> None:
    receive.hold = True
    source = await start()
    sender = await connect(source)
    sender.send(frame(message("LAST")))
    await receive.wait_for(1)
    stopping = asyncio.create_task(source.stop())
    await eventually(lambda: source.listening is False)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", source.port)
    sender.send(frame(message("TOO_LATE")))
    receive.taken[0].receipt.accept(ACCEPT)
    receive.taken[0].receipt.finish(ACCEPT)
    assert (await sender.ack()).control_id == "LAST"
    assert await sender.is_closed()
    await stopping
    assert receive.bodies == [message("LAST")]


def test_a_stop_in_the_moment_in_which_a_connection_begins_ends_it_in_order(
    building: Building, receive: Any, make_context: Any, message: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop calls the protocol before the call that accepts has ended; a stop in between may not part the two."""
    stopping: list[asyncio.Task[None]] = []
    made = Connection.connection_made

    def made_and_stopped(self: Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        stopping.append(asyncio.get_running_loop().create_task(sources[0].stop()))

    monkeypatch.setattr(Connection, "connection_made", made_and_stopped)
    sources: list[MllpSource] = []

    async def run() -> None:
        sources.append(MllpSource(MllpSourceConfig.model_validate({"port": 0}), building))
        await sources[0].start(make_context(receive))
        reader, writer = await asyncio.open_connection("127.0.0.1", sources[0].port)
        writer.write(frame(message()))
        async with asyncio.timeout(5):
            await reader.read()
            await stopping[0]
        writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_a_stop_that_is_cancelled_leaves_no_connection(
    start: Any, connect: Any, receive: Any, message: Any
) -> None:
    receive.hold = True
    source = await start()
    sender = await connect(source)
    sender.send(frame(message("NEVER")))
    await receive.wait_for(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await source.stop()
    assert await sender.is_closed()


async def test_a_source_that_was_stopped_starts_again(
    start: Any, connect: Any, receive: Any, message: Any, make_context: Any, building: Building
) -> None:
    for options in ({}, {"tls": True}):
        source = await start(**options)
        await source.stop()
        await source.start(make_context(receive))
        context = client_context(building.data / "tls" / "ca.pem") if options else None
        sender = await connect(source, ssl=context)
        sender.send(frame(message("AGAIN")))
        assert (await sender.ack()).control_id == "AGAIN"


async def test_a_port_that_is_taken_is_an_oserror(start: Any) -> None:
    source = await start()
    with pytest.raises(OSError):
        await start(port=source.port)


# -- peers of other authors ------------------------------------------------------------------------------------------


async def test_python_hl7s_clients_are_served(start: Any, message: Any) -> None:
    source = await start()

    def old() -> bytes:
        with MLLPClient("127.0.0.1", source.port) as client:
            answer: bytes = client.send_message(message("OLD").decode())
            return answer

    assert b"MSA|AA|OLD" in await asyncio.to_thread(old)
    reader, writer = await open_hl7_connection("127.0.0.1", source.port)
    writer.writemessage(hl7.parse(message("NEW").decode()))
    await writer.drain()
    answer = await reader.readmessage()
    assert str(answer.segment("MSA")) == "MSA|AA|NEW"
    writer.close()
    await writer.wait_closed()


# -- the file --------------------------------------------------------------------------------------------------------


def test_the_port_is_claimed_and_shown(building: Building) -> None:
    source = MllpSource(MllpSourceConfig(port=2575), building)
    assert source.claims() == ("tcp:2575",)
    assert source.address == "mllp://127.0.0.1:2575"


@pytest.mark.parametrize(
    "config",
    [{}, {"port": 70000}, {"port": 1, "max_size": "big"}, {"port": 1, "x": 1}],
)
def test_a_wrong_key_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MllpSourceConfig.model_validate(config)


def test_a_certificate_that_is_missing_or_no_certificate_is_named(building: Building) -> None:
    config = MllpSourceConfig.model_validate({"port": 1, "tls": {"cert": "own.pem", "key": "own.key"}})
    with pytest.raises(SpecError) as missing:
        MllpSource(config, building)
    assert missing.value.at == ("tls", "cert")
    for name in ("own.pem", "own.key"):
        (building.site / name).write_text("nonsense")
    with pytest.raises(SpecError, match="cannot be used"):
        MllpSource(config, building)
