"""The two doors: who gets in, the socket's mode, stale sockets, and a clean stop."""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from engine.admin.local import LONGEST_ADDRESS, SOCKET, address_of
from engine.admin.server import AdminServer, bind_local
from engine.errors import DataFolderInUse
from engine.runtime.supervisor import Supervisor

Call = Any


async def test_the_port_wants_the_key_for_everything_but_health(knock: Call) -> None:
    with structlog.testing.capture_logs() as logged:
        for target in ("/api/status", "/api/nothing", "/", "/health/", "//health", "/health/../api/status"):
            for key in (None, "", "wrong", "k" * 42, "k" * 44):
                answer = await knock(target, key)
                assert (answer.status, answer.error["code"]) == (401, "unauthorized"), (target, key)
    assert {(line["event"], line["peer"]) for line in logged} == {("admin.unauthorized", "127.0.0.1")}


async def test_the_port_takes_the_right_key(knock: Call) -> None:
    assert (await knock("/api/status", "k" * 43)).status == 200


async def test_health_needs_no_key(knock: Call) -> None:
    assert (await knock("/health")).status == 200


async def test_the_local_socket_wants_no_key(knock: Call) -> None:
    assert (await knock("/api/status", local=True)).status == 200


async def test_a_request_that_never_ends_is_cut_off_at_the_stop(
    supervisor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.admin.server.GRACE", 0.05)
    asked = asyncio.Event()

    async def never(*_: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    supervisor.ask = never
    server = AdminServer(cast(Supervisor, supervisor), "127.0.0.1", 0, "key", tmp_path / SOCKET)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(str(server.socket_path))
    writer.write(b"POST /api/ask/siu HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    await asked.wait()
    await server.stop()
    assert await reader.read() == b""
    writer.close()


async def test_an_empty_admin_key_opens_health_alone(supervisor: Any, tmp_path: Path) -> None:
    server = AdminServer(cast(Supervisor, supervisor), "127.0.0.1", 0, "", tmp_path / SOCKET)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /api/status HTTP/1.1\r\nHost: x\r\nX-API-Key: \r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await server.stop()
    assert answer.startswith(b"HTTP/1.1 401")


async def test_the_socket_and_its_folder_are_private(server: AdminServer) -> None:
    assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.socket_path.parent.stat().st_mode) == 0o700


async def test_the_umask_is_put_back(server: AdminServer) -> None:
    mask = os.umask(0o022)
    os.umask(mask)
    assert mask != 0o177


async def test_stop_removes_the_socket_and_frees_the_port(supervisor: Any, tmp_path: Path) -> None:
    server = AdminServer(cast(Supervisor, supervisor), "127.0.0.1", 0, "key", tmp_path / SOCKET)
    await server.start()
    port = server.port
    await server.stop()
    assert not server.socket_path.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 10)


async def test_a_socket_left_by_a_crash_is_replaced(supervisor: Any, tmp_path: Path) -> None:
    bind_local(tmp_path / SOCKET).close()  # bound, never unlinked: as after kill -9
    server = AdminServer(cast(Supervisor, supervisor), "127.0.0.1", 0, "key", tmp_path / SOCKET)
    await server.start()
    await server.stop()


async def test_a_socket_that_answers_is_left_alone(server: AdminServer, supervisor: Any) -> None:
    second = AdminServer(cast(Supervisor, supervisor), "127.0.0.1", 0, "key", server.socket_path)
    with pytest.raises(DataFolderInUse):
        await second.start()
    assert server.socket_path.exists()


async def test_a_taken_port_leaves_no_socket_behind(server: AdminServer, supervisor: Any, tmp_path: Path) -> None:
    second = AdminServer(cast(Supervisor, supervisor), "127.0.0.1", server.port, "key", tmp_path / SOCKET)
    with pytest.raises(OSError, match="in use"):
        await second.start()
    assert not second.socket_path.exists()


async def test_a_successors_socket_survives_the_stop(supervisor: Any, tmp_path: Path) -> None:
    server = AdminServer(cast(Supervisor, supervisor), "127.0.0.1", 0, "key", tmp_path / SOCKET)
    await server.start()
    server.socket_path.unlink()
    successor = bind_local(server.socket_path)
    await server.stop()
    assert server.socket_path.exists()
    successor.close()


def test_a_deep_data_folder_still_has_an_address(tmp_path: Path) -> None:
    path = tmp_path.joinpath(*["a" * 40] * 4, SOCKET)
    assert len(str(path)) > LONGEST_ADDRESS
    with bind_local(path), address_of(path) as address, socket.socket(socket.AF_UNIX) as link:
        link.connect(address)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_address_names_the_port(supervisor: Any) -> None:
    def address(host: str) -> str:
        return AdminServer(cast(Supervisor, supervisor), host, 8090, "key", Path("engine.sock")).address

    assert address("127.0.0.1") == "http://127.0.0.1:8090"
    assert address("::1") == "http://[::1]:8090"
