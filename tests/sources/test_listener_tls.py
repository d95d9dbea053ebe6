"""TLS of every listener: old versions refused, and certificates that are replaced while connections stand."""

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

from engine import tls
from engine.sources.base import Building
from engine.sources.serving.listener import RestListener
from engine.tls import client_context, ensure_certificates
from engine.tls_settings import ServerTls

OpenPort = Callable[[], Awaitable[int]]


@pytest.fixture(params=["mllp", "rest"])
async def open_port(request: pytest.FixtureRequest, start: Any, building: Building) -> AsyncIterator[OpenPort]:
    """Opens a TLS port of each kind of listener."""
    listeners: list[RestListener] = []

    async def begin() -> int:
        if request.param == "mllp":
            return int((await start(tls=True)).port)
        listeners.append(RestListener("127.0.0.1", 0, {}, ServerTls().contexts(building.site, building.data)))
        await listeners[0].start()
        return listeners[0].port

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


async def test_a_certificate_that_ends_soon_is_told(building: Building, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "SERVER_DAYS", 10)
    ensure_certificates(building.data / "tls")
    contexts = ServerTls().contexts(building.site, building.data)
    with capture_logs() as logs:
        contexts.get()
        contexts.get()
    told = [entry for entry in logs if entry["event"] == "tls.certificate_ends"]
    assert [(entry["file"], entry["days"]) for entry in told] == [("server.pem", 9)]
    assert contexts.ends() == told[0]["ends"]
