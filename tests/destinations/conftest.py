"""Outgoing messages, and an MLLP partner that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.destinations.base import Building, Outgoing
from engine.hl7.mllp import Framer, frame


@pytest.fixture
def building(tmp_path: Path) -> Building:
    (tmp_path / "data").mkdir()
    return Building("test-channel", "partner", tmp_path, tmp_path / "data", 2, frozenset({"test-channel", "other"}))


@pytest.fixture
def outgoing() -> Callable[..., Outgoing]:
    def make(control_id: str = "OUT1", *, modes: str = "", body: bytes | None = None, **changes: Any) -> Outgoing:
        header = f"MSH|^~\\&|ENGINE|HERE|EMR|THERE|20261120080000||SIU^S12|{control_id}|P|2.3{modes}"
        facts: dict[str, Any] = {
            "correlation_id": "corr-1",
            "channel": "test-channel",
            "destination": "partner",
            "message_id": 7,
            "delivery_id": 9,
            "received_at": 1_795_000_000.0,
            **changes,
        }
        return Outgoing(body if body is not None else f"{header}\rPID|1||P1\r".encode(), control_id, **facts)

    return make


class Partner:
    """An MLLP server. ``script`` answers each message: bytes to write, or a coroutine that does anything."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.connections = 0
        self.script: list[Any] = []
        self.port, self.max_size = 0, 16 * 1024 * 1024
        self.arrived = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self, **options: Any) -> None:
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, **options)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.received) < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        framer = Framer(self.max_size)
        try:
            while data := await reader.read(65536):
                for body in framer.feed(data):
                    self.received.append(body)
                    self.arrived.set()
                    step = self.script.pop(0) if self.script else "AA"
                    if isinstance(step, str):
                        step = self.ack(step, body)
                    if isinstance(step, bytes):
                        writer.write(step)
                    elif step is not None:
                        await step(writer, body)
        except ConnectionError:
            return
        finally:
            writer.close()

    @staticmethod
    def ack(code: str, request: bytes, *, control_id: str | None = None, more: str = "", kind: str = "ACK") -> bytes:
        answered = request.split(b"|")[9].decode() if control_id is None else control_id
        header = f"MSH|^~\\&|EMR|THERE|ENGINE|HERE|20261120080001||{kind}|ACK{answered}|P|2.3"
        return frame(f"{header}\rMSA|{code}|{answered}\r{more}".encode())


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    made = Partner()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    async def wait(condition: Callable[[], bool], seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in a peer
                await asyncio.sleep(0.01)

    return wait
