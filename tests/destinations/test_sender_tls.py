"""TLS of senders: which partners are talked to, and certificates that are replaced while connections stand."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from engine.destinations.base import Building, Destination, DestinationContext
from engine.destinations.mllp import MllpDestination, MllpDestinationConfig
from engine.destinations.rest import RestDestination, RestDestinationConfig
from engine.errors import Unanswered, Unavailable
from engine.tls import client_context, ensure_certificates, server_context
from tests.certificates import issue, revoke

ANSWERS = {
    "mllp": b"\x0bMSH|^~\\&|EMR|THERE|ENGINE|HERE|20261120080001||ACK|A1|P|2.3\rMSA|AA|%s\r\x1c\r",
    "rest": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


class Partner:
    """Answers every message, and knows whose certificate each connection has shown."""

    def __init__(self, kind: str) -> None:
        self.kind, self.port, self.shown = kind, 0, list[int]()
        self.writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self, context: ssl.SSLContext) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.shown.append(x509.load_der_x509_certificate(raw).serial_number if raw else 0)
        self.writers.append(writer)
        try:
            while True:
                message = await reader.readuntil(b"\x1c\r" if self.kind == "mllp" else b"\r\n\r\n")
                answer = ANSWERS[self.kind]
                writer.write(answer % message.split(b"|")[9] if self.kind == "mllp" else answer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()


@pytest.fixture(params=["mllp", "rest"])
async def partner(request: pytest.FixtureRequest) -> AsyncIterator[Partner]:
    made = Partner(request.param)
    yield made
    await made.stop()


@pytest.fixture
async def folder(building: Building) -> Path:
    found = building.data / "tls"
    ensure_certificates(found)
    return found


Make = Callable[..., Awaitable[Destination]]


@pytest.fixture
async def make(building: Building, partner: Partner) -> AsyncIterator[Make]:
    made: list[Destination] = []

    async def build(connect_timeout: str = "3s", **tls: Any) -> Destination:
        times = {"timeout": "10s", "connect_timeout": connect_timeout}
        if partner.kind == "rest":
            rest = {"url": f"https://localhost:{partner.port}/", "tls": tls, "method": "GET"} | times
            made.append(RestDestination(RestDestinationConfig.model_validate(rest), building))
        else:
            mllp = {"host": "localhost", "port": partner.port, "tls": tls} | times
            made.append(MllpDestination(MllpDestinationConfig.model_validate(mllp), building))
        await made[-1].start(DestinationContext(lambda *_: pytest.fail("nothing is handed over")))
        return made[-1]

    yield build
    for destination in made:
        await destination.stop()


async def outcome(destination: Destination, outgoing: Any) -> str:
    try:
        return (await destination.send(outgoing)).evidence.ack
    except (Unavailable, Unanswered) as error:
        return f"{type(error).__name__} {error.reason}"


def good(partner: Partner) -> str:
    return "AA" if partner.kind == "mllp" else "200"


def limited(folder: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = server_context(folder / "server.pem", folder / "server.key")
    if version < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLS"):
            context.minimum_version = version
        with pytest.warns(DeprecationWarning, match="TLS"):
            context.maximum_version = version
    else:
        context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_1_2_and_later_are_spoken_and_nothing_before(
    make: Make, partner: Partner, outgoing: Any, folder: Path, version: ssl.TLSVersion
) -> None:
    await partner.start(limited(folder, version))
    destination = await make(ca="data/tls/ca.pem")
    spoken = version >= ssl.TLSVersion.TLSv1_2
    with capture_logs() as logs:
        assert await outcome(destination, outgoing()) == (good(partner) if spoken else "Unavailable tls")
    reasons = [entry["reason"] for entry in logs if entry["event"].endswith(".tls_failed")]
    assert len(reasons) == (not spoken)


async def test_a_replaced_certificate_of_ours_is_shown_from_the_next_connection_on(
    make: Make, partner: Partner, outgoing: Any, folder: Path
) -> None:
    old = issue(folder, "engine")
    number = x509.load_pem_x509_certificate(old[0].read_bytes()).serial_number
    await partner.start(server_context(folder / "server.pem", folder / "server.key", folder / "ca.pem"))
    destination = await make(ca="data/tls/ca.pem", cert="data/tls/engine.pem", key="data/tls/engine.key")
    assert await outcome(destination, outgoing()) == good(partner)
    assert partner.shown == [number]
    old[1].write_text("not yet")  # as when a certificate is replaced a moment before its key
    with capture_logs() as logs:
        assert await outcome(destination, outgoing()) == good(partner)
        assert [entry["event"] for entry in logs] == ([] if partner.kind == "mllp" else ["tls.not_reloaded"])
    issue(folder, "engine")
    assert await outcome(destination, outgoing()) == good(partner)
    assert not partner.writers[0].transport.is_closing(), "the connection that stands was not ended"
    if partner.kind == "mllp":
        assert partner.shown == [number], "a connection that stands is used"
        partner.writers[0].close()
        await asyncio.sleep(0.05)
        assert await outcome(destination, outgoing()) == good(partner)
    assert len(partner.shown) == 2
    assert partner.shown[1] not in (0, number)


async def test_a_replaced_authority_is_trusted_from_the_next_connection_on(
    make: Make, partner: Partner, outgoing: Any, folder: Path, building: Building
) -> None:
    other = building.data / "other"
    ensure_certificates(other)
    await partner.start(server_context(other / "server.pem", other / "server.key"))
    destination = await make(ca="data/tls/ca.pem")
    with capture_logs() as logs:
        assert await outcome(destination, outgoing()) == "Unavailable tls"
    assert "certificate verify failed" in logs[-1]["reason"]
    shutil.copy(other / "ca.pem", folder / ".ca.pem")
    (folder / ".ca.pem").replace(folder / "ca.pem")
    assert await outcome(destination, outgoing()) == good(partner)


async def test_partners_whose_certificate_has_ended_or_was_revoked_get_nothing(
    make: Make, partner: Partner, outgoing: Any, folder: Path
) -> None:
    revoke(folder)
    certificate, key = issue(folder, "partner", ended=True)
    await partner.start(server_context(certificate, key))
    with capture_logs() as logs:
        assert await outcome(await make(ca="data/tls/ca.pem"), outgoing()) == "Unavailable tls"
    assert logs[-1]["reason"] == "certificate verify failed: certificate has expired"
    await partner.stop()
    certificate, key = issue(folder, "partner")
    await partner.start(server_context(certificate, key))
    destination = await make(ca="data/tls/ca.pem", crl="data/tls/crl.pem")
    assert await outcome(destination, outgoing()) == good(partner)
    revoke(folder, certificate)
    partner.writers[-1].close()
    await asyncio.sleep(0.05)
    with capture_logs() as logs:
        assert await outcome(destination, outgoing()) == "Unavailable tls"
    assert logs[-1]["reason"] == "certificate verify failed: certificate revoked"


async def test_a_partner_that_never_ends_its_handshake_is_unavailable(
    make: Make, partner: Partner, outgoing: Any, folder: Path
) -> None:
    ended = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()
        ended.set()

    silent = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    partner.port = silent.sockets[0].getsockname()[1]
    destination = await make(connect_timeout="300ms", ca="data/tls/ca.pem")
    async with asyncio.timeout(15):
        assert await outcome(destination, outgoing()) == "Unavailable timeout"
        await ended.wait()
    silent.close()


def test_a_context_without_a_list_looks_at_none(folder: Path) -> None:
    assert not client_context(folder / "ca.pem").verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    (folder / "crl.pem").write_text((folder / "ca.pem").read_text())
    with pytest.raises(ValueError, match=r"crl\.pem holds no revocation list"):
        client_context(folder / "ca.pem", crl=folder / "crl.pem")
