"""The private CA, its files, and real handshakes over the loopback interface."""

import asyncio
import datetime
import multiprocessing
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from engine import tls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "tls"
    tls.ensure_certificates(folder)
    return folder


async def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None) -> str:
    """One handshake and one line over TLS: what the client got, or the client's error."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        try:
            line = await reader.readline()
            version = writer.get_extra_info("ssl_object").version()
        finally:
            writer.close()
        return f"{line.decode().strip()} {version}"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
async def test_the_private_ca_is_trusted_for_every_loopback_name(folder: Path, name: str) -> None:
    server = tls.server_context(folder / "server.pem", folder / "server.key")
    client = tls.client_context(folder / "ca.pem")
    assert await shake(server, client, name) == "hello TLSv1.3"


async def test_strict_verification_accepts_the_chain(folder: Path) -> None:
    server = tls.server_context(folder / "server.pem", folder / "server.key")
    client = tls.client_context(folder / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert await shake(server, client, "localhost") == "hello TLSv1.3"


async def test_another_name_is_refused(folder: Path) -> None:
    server = tls.server_context(folder / "server.pem", folder / "server.key")
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake(server, tls.client_context(folder / "ca.pem"), "epic.example")


async def test_another_authority_is_refused_unless_verification_is_off(folder: Path, tmp_path: Path) -> None:
    tls.ensure_certificates(tmp_path / "other")
    server = tls.server_context(folder / "server.pem", folder / "server.key")
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake(server, tls.client_context(tmp_path / "other" / "ca.pem"), "localhost")
    assert await shake(server, tls.client_context(None, verify=False)) == "hello TLSv1.3"


async def test_old_protocol_versions_are_refused(folder: Path) -> None:
    context = tls.server_context(folder / "server.pem", folder / "server.key")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.client_context(None).minimum_version == ssl.TLSVersion.TLSv1_2


async def test_mutual_tls_wants_the_clients_certificate(folder: Path) -> None:
    server = tls.server_context(folder / "server.pem", folder / "server.key", client_ca=folder / "ca.pem")
    anonymous = tls.client_context(folder / "ca.pem")
    anonymous.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await shake(server, anonymous, "localhost")


def test_files_have_private_modes(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {name: (folder / name).stat().st_mode & 0o777 for name in ("ca.key", "server.key")} == {
        "ca.key": 0o600,
        "server.key": 0o600,
    }


def test_a_second_call_changes_nothing(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    tls.ensure_certificates(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_missing_server_certificate_is_issued_by_the_same_ca(folder: Path) -> None:
    authority = (folder / "ca.pem").read_bytes()
    (folder / "server.pem").unlink()
    tls.ensure_certificates(folder)
    server = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    assert (folder / "ca.pem").read_bytes() == authority
    server.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))


def test_a_server_certificate_about_to_end_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "SERVER_DAYS", 10)
    (folder / "server.pem").unlink()
    tls.ensure_certificates(folder)
    monkeypatch.undo()
    tls.ensure_certificates(folder)
    server = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    left = server.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert left > datetime.timedelta(days=800)


def test_a_key_of_another_ca_is_named(folder: Path, tmp_path: Path) -> None:
    tls.ensure_certificates(tmp_path / "other")
    (folder / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    (folder / "server.pem").unlink()
    with pytest.raises(ValueError, match=r"ca\.key is not the key of"):
        tls.ensure_certificates(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.pem"):
        tls.client_context(tmp_path / "absent.pem")


def test_processes_that_start_together_agree_on_one_set(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=tls.ensure_certificates, args=(folder,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    server = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    server.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()))
    tls.server_context(folder / "server.pem", folder / "server.key")
