"""TLS of every listener: old versions refused, and certificates that are replaced while connections stand."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from engine import tls
from engine.admin.server import AdminServer
from engine.runtime.supervisor import Supervisor
from engine.sources.base import Building
from engine.sources.serving import accepting
from engine.sources.serving.listener import RestListener
from engine.tls import client_context, ensure_certificates
from engine.tls_settings import ServerTls
from tests.certificates import issue, revoke

OpenPort = Callable[..., Awaitable[int]]


@pytest.fixture(params=["mllp", "rest", "admin"])
async def open_port(request: pytest.FixtureRequest, start: Any, building: Building) -> AsyncIterator[OpenPort]:
    """Opens a TLS port of each kind of listener."""
    listeners: list[RestListener | AdminServer] = []

    async def begin(**tls: str) -> int:
        if request.param == "mllp":
            return int((await start(tls=tls or True)).port)
        contexts = ServerTls.model_validate(tls).contexts(building.site, building.data)
        listener: RestListener | AdminServer
        if request.param == "rest":
            listener = RestListener("127.0.0.1", 0, {}, contexts)
        else:
            supervisor = cast("Supervisor", SimpleNamespace(auditor=None, store=None))
            listener = AdminServer(supervisor, "127.0.0.1", 0, "k" * 43, building.data / "socket", contexts)
        listeners.append(listener)
        await listener.start()
        return listener.port

    yield begin
    for listener in listeners:
        await listener.stop()


def renew(folder: Path, *names: str) -> None:
    """Replace files by those of another certificate of the same authority."""
    other = folder.parent / "other"
    if not other.exists():
        other.mkdir()
        shutil.copy(folder / "ca.pem", other)
        shutil.copy(folder / "ca.key", other)
        ensure_certificates(other)
    for name in names:
        shutil.copy(other / name, folder / f".{name}")
        (folder / f".{name}").replace(folder / name)


async def serial(port: int, folder: Path) -> tuple[int, asyncio.StreamWriter]:
    """The number of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(folder / "ca.pem"))
    raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(raw).serial_number, writer


async def test_a_replaced_certificate_is_used_without_dropping_anybody(open_port: OpenPort, building: Building) -> None:
    folder = building.data / "tls"
    ensure_certificates(folder)
    port = await open_port()
    first, standing = await serial(port, folder)
    with capture_logs() as logs:
        renew(folder, "server.pem")  # its key comes a moment later
        between, second = await serial(port, folder)
        assert between == first
        assert [entry["log_level"] for entry in logs if entry["event"] == "tls.not_reloaded"] == ["error"]
        renew(folder, "server.key")
        renewed, third = await serial(port, folder)
        assert renewed != first
        (folder / "server.pem").write_text("no certificate")
        kept, fourth = await serial(port, folder)
        assert kept == renewed
    for writer in (standing, second, third, fourth):
        assert not writer.transport.is_closing()
        writer.write(b"\r\n")
        await writer.drain()
        writer.transport.abort()


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
async def test_versions_before_1_2_are_refused(open_port: OpenPort, building: Building, version: str) -> None:
    ensure_certificates(building.data / "tls")
    port = await open_port()
    with capture_logs() as logs:
        if shutil.which("openssl") is not None:
            process = await asyncio.create_subprocess_exec(
                "openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect", f"127.0.0.1:{port}",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await process.communicate()
            assert b"Cipher is (NONE)" in said
        else:
            context = client_context(building.data / "tls" / "ca.pem")
            context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLS"):
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port, ssl=context)
    refused = [entry for entry in logs if entry["event"].endswith(".tls_failed")]
    assert refused
    assert all("version" in entry["reason"] or "protocol" in entry["reason"] for entry in refused)


async def test_what_is_no_tls_is_told(open_port: OpenPort, building: Building) -> None:
    ensure_certificates(building.data / "tls")
    port = await open_port()
    with capture_logs() as logs:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0bMSH|^~\\&|in the clear\x1c\r")
        await reader.read()
        writer.close()
    assert [entry["peer"].partition(":")[0] for entry in logs if entry["event"].endswith(".tls_failed")] == [
        "127.0.0.1"
    ]


#: Answered by every listener: by an ack, or as what is no HTTP.
MESSAGE = b"\x0bMSH|^~\\&|RIS|DTI|ENGINE|HERE|20261120||SIU^S12|1|P|2.3\r\x1c\r"


async def lives(port: int, **context: Any) -> bool:
    """Whether a connection with this client context stands, as a server of TLS 1.3 says only after the handshake."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **context)
    except OSError:
        return False
    try:
        writer.write(MESSAGE)
        return await reader.read(1) != b""
    except OSError:
        return False
    finally:
        writer.transport.abort()


def failures(logs: list[Any]) -> list[str]:
    return [entry["reason"] for entry in logs if entry["event"].endswith(".tls_failed")]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_1_2_and_1_3_are_taken(open_port: OpenPort, building: Building, version: ssl.TLSVersion) -> None:
    ensure_certificates(building.data / "tls")
    context = client_context(building.data / "tls" / "ca.pem")
    context.minimum_version = context.maximum_version = version
    _, writer = await asyncio.open_connection("127.0.0.1", await open_port(), ssl=context)
    assert writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
    writer.transport.abort()


async def test_only_clients_with_a_certificate_that_counts_are_let_in(open_port: OpenPort, building: Building) -> None:
    folder = building.data / "tls"
    ensure_certificates(folder)
    ensure_certificates(building.data / "foreign")
    port = await open_port(client_ca="data/tls/ca.pem")
    good, ended = issue(folder, "good"), issue(folder, "ended", ended=True)
    foreign = issue(building.data / "foreign", "foreign")
    with capture_logs() as logs:
        for pair, lets_in in ((good, True), (None, False), (ended, False), (foreign, False), (good, True)):
            context = client_context(folder / "ca.pem", *(pair or ()))
            assert await lives(port, ssl=context) is lets_in, pair
    assert len(failures(logs)) == 3
    assert "peer did not return a certificate" in failures(logs)
    assert any("certificate has expired" in reason for reason in failures(logs))


async def test_a_revoked_certificate_is_refused_as_soon_as_the_list_says_so(
    open_port: OpenPort, building: Building
) -> None:
    folder = building.data / "tls"
    ensure_certificates(folder)
    good, lost = issue(folder, "good"), issue(folder, "lost")
    revoke(folder)
    port = await open_port(client_ca="data/tls/ca.pem", crl="data/tls/crl.pem")
    _, standing = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(folder / "ca.pem", *lost))
    assert await lives(port, ssl=client_context(folder / "ca.pem", *good))
    revoke(folder, lost[0])
    with capture_logs() as logs:
        assert not await lives(port, ssl=client_context(folder / "ca.pem", *lost))
        assert await lives(port, ssl=client_context(folder / "ca.pem", *good))
        assert failures(logs) == ["certificate verify failed: certificate revoked"]
        revoke(folder, ended=True)
        assert not await lives(port, ssl=client_context(folder / "ca.pem", *good)), "a list that has ended says nothing"
    assert "certificate verify failed: CRL has expired" in failures(logs)
    assert not standing.transport.is_closing(), "what stands goes on"
    standing.transport.abort()


def test_a_list_needs_its_authority() -> None:
    with pytest.raises(ValueError, match="crl needs client_ca"):
        ServerTls.model_validate({"crl": "own/crl.pem"})


@pytest.mark.parametrize("begin", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_a_handshake_that_does_not_end_is_given_up(
    open_port: OpenPort, building: Building, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    real, begun = accepting.Acceptor._begin, 0

    async def begin_in_turn(self: accepting.Acceptor, *connected: Any) -> None:
        nonlocal begun
        begun += 1  # whoever comes behind them has the time that a busy machine wants
        monkeypatch.setattr(accepting, "HANDSHAKE_TIMEOUT", 0.4 if begun <= 20 else 60.0)
        await real(self, *connected)

    monkeypatch.setattr(accepting.Acceptor, "_begin", begin_in_turn)
    ensure_certificates(building.data / "tls")
    port = await open_port()
    with capture_logs() as logs:
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in slow:
            writer.write(begin)
        assert await lives(port, ssl=client_context(building.data / "tls" / "ca.pem"))
        for reader, writer in slow:
            async with asyncio.timeout(60):
                while begin and not reader.at_eof():
                    writer.write(b"\0")  # a byte now and then is no progress
                    await asyncio.sleep(0.05)
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.transport.abort()
    assert failures(logs)
    assert set(failures(logs)) == {"handshake timed out"}


async def test_handshakes_that_do_not_end_give_their_places_up(
    start: Any, building: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "HANDSHAKE_QUIET", 0.0)
    ensure_certificates(building.data / "tls")
    source = await start(tls=True, max_connections=3)
    slow = [await asyncio.open_connection("127.0.0.1", source.port) for _ in range(3)]
    with capture_logs() as logs:
        assert await lives(source.port, ssl=client_context(building.data / "tls" / "ca.pem"))
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                assert await slow[0][0].read() == b""
    assert [entry["event"] for entry in logs] == ["mllp.displaced"]
    assert source.summary()["connections"] <= 3
    for _, writer in slow:
        writer.transport.abort()


async def test_a_chain_without_end_is_refused(open_port: OpenPort, building: Building) -> None:
    folder = building.data / "tls"
    ensure_certificates(folder)
    port = await open_port(client_ca="data/tls/ca.pem")
    certificate, key = issue(folder, "long")
    certificate.write_text(certificate.read_text() + (folder / "ca.pem").read_text() * 400)
    with capture_logs() as logs:
        assert not await lives(port, ssl=client_context(folder / "ca.pem", certificate, key))
    assert failures(logs) == ["excessive message size"]


async def test_nobody_may_shake_hands_again_and_again(open_port: OpenPort, building: Building) -> None:
    """TLS 1.2 has renegotiation: the client asks, and the server computes."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "this test needs the openssl command"
    ensure_certificates(building.data / "tls")
    port = await open_port()
    process = await asyncio.create_subprocess_exec(
        openssl, "s_client", "-tls1_2", "-connect", f"127.0.0.1:{port}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(b"R\n"), 10)
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said


def test_when_files_end(building: Building) -> None:
    folder = building.data / "tls"
    ensure_certificates(folder)
    issue(folder, "short", days=3)
    revoke(folder)
    tls_ = ServerTls.model_validate(
        {
            "cert": "data/tls/short.pem",
            "key": "data/tls/short.key",
            "client_ca": "data/tls/ca.pem",
            "crl": "data/tls/crl.pem",
        }
    )
    contexts = tls_.contexts(building.site, building.data)
    now = datetime.now(UTC)
    assert [(end.key, end.path.name, (end.at - now).days) for end in contexts.endings()] == [
        ("cert", "short.pem", 2),
        ("client_ca", "ca.pem", tls.CA_DAYS - 1),
        ("crl", "crl.pem", 6),
    ]
    assert contexts.ends() == (now + timedelta(days=3)).date().isoformat()
    (folder / "short.pem").write_text("no certificate")
    assert contexts.ends() == ""
