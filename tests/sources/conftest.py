"""A `receive` that tests hold in their hands, and the contexts around it."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.envelope import ACCEPT, Ack, Origin, Receipt, Reply
from engine.errors import ERROR_TABLE, ErrorRow
from engine.hl7.answer import AckRead, read_ack
from engine.hl7.mllp import Framer
from engine.sources.base import Building, HttpListener, HttpRequest, SourceContext
from engine.sources.mllp import MllpSource, MllpSourceConfig


@dataclass
class Taken:
    body: bytes
    origin: Origin
    receipt: Receipt


@dataclass
class FakeReceive:
    """Answers at once with ``answer``, or when the test says so (``hold = True``)."""

    hold: bool = False
    answer: Ack | Reply = ACCEPT
    taken: list[Taken] = field(default_factory=list)
    refused: list[tuple[str, bytes, Origin]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, body: bytes, origin: Origin) -> Receipt:
        receipt = Receipt(origin.correlation_id or "made-by-receive", len(self.taken) + 1)
        self.taken.append(Taken(body, origin, receipt))
        self.arrived.set()
        if not self.hold:
            receipt.accept(self.answer if isinstance(self.answer, Ack) else ACCEPT)
            receipt.finish(self.answer)
        return receipt

    def refuse(self, origin: Origin, code: str, body: bytes = b"") -> None:
        self.refused.append((code, body, origin))
        self.arrived.set()

    @property
    def bodies(self) -> list[bytes]:
        return [taken.body for taken in self.taken]

    async def wait_for(self, count: int) -> None:
        """Until `count` messages were taken or refused."""
        async with asyncio.timeout(5):
            while len(self.taken) + len(self.refused) < count:
                self.arrived.clear()
                await self.arrived.wait()


@pytest.fixture
def receive() -> FakeReceive:
    return FakeReceive()


@pytest.fixture
def building(tmp_path: Path) -> Building:
    (tmp_path / "data").mkdir()
    return Building("test-channel", tmp_path, tmp_path / "data")


@pytest.fixture
def make_context() -> Callable[..., SourceContext]:
    counter = itertools.count(1)

    def make(receive: Any, http: HttpListener | None = None, **rows: ErrorRow) -> SourceContext:
        return SourceContext(receive, http, lambda: f"ENGINE{next(counter):06}", {**ERROR_TABLE, **rows})  # type: ignore[arg-type]

    return make


@pytest.fixture
def eventually() -> Callable[..., Any]:
    async def wait(condition: Callable[[], bool], seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in a peer or a log
                await asyncio.sleep(0.01)

    return wait


# -- MLLP ------------------------------------------------------------------------------------------------------------


def make_message(
    control_id: str = "MSG1", *, accept: str = "", application: str = "", body: str = "PID|1||P1"
) -> bytes:
    modes = f"|||{accept}|{application}" if accept or application else ""
    header = f"MSH|^~\\&|RIS|DTI|ENGINE|HERE|20261120080000||SIU^S12|{control_id}|P|2.3{modes}"
    return f"{header}\r{body}\r".encode()


@pytest.fixture
def message() -> Callable[..., bytes]:
    return make_message


class Sender:
    """A raw MLLP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.framer, self.waiting = Framer(), list[bytes]()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ack(self) -> AckRead:
        async with asyncio.timeout(5):
            while not self.waiting:
                data = await self.reader.read(65536)
                if not data:
                    raise ConnectionResetError("closed by the listener")
                self.waiting += self.framer.feed(data)
        return read_ack(self.waiting.pop(0))

    async def is_closed(self) -> bool:
        async with asyncio.timeout(5):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (OSError, ssl.SSLError):
            return


@pytest.fixture
async def start(
    building: Building, receive: Any, make_context: Callable[..., SourceContext]
) -> AsyncIterator[Callable[..., Awaitable[MllpSource]]]:
    sources: list[MllpSource] = []

    async def begin(**config: Any) -> MllpSource:
        source = MllpSource(MllpSourceConfig.model_validate({"port": 0, **config}), building)
        await source.start(make_context(receive))
        sources.append(source)
        return source

    yield begin
    for source in sources:
        try:
            async with asyncio.timeout(0.2):
                await source.stop()
        except TimeoutError:
            continue


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Sender]]]:
    senders: list[Sender] = []

    async def begin(source: MllpSource, **options: Any) -> Sender:
        where = {"host": "127.0.0.1", "port": source.port, **options}
        sender = Sender(*await asyncio.open_connection(**where))
        senders.append(sender)
        return sender

    yield begin
    for sender in senders:
        await sender.close()


@pytest.fixture
def sender_class() -> type[Sender]:
    return Sender


# -- HTTP ------------------------------------------------------------------------------------------------------------

Handle = Callable[[HttpRequest], Coroutine[Any, Any, Reply]]


@pytest.fixture(params=["by a task", "at once"])
def begin_of(request: pytest.FixtureRequest) -> Callable[[Handle, asyncio.Event], Any]:
    """Makes ``HttpRoute.begin`` of an asynchronous handler that waits for nothing but an event: both ways are tried."""

    def begin_of(handle: Handle, gate: asyncio.Event) -> Any:
        def begin(asked: HttpRequest, answer: Callable[[Reply], object]) -> None:
            if gate.is_set():
                running = handle(asked)
                try:
                    running.send(None)
                except StopIteration as ended:
                    answer(ended.value)
            else:
                task = asyncio.get_running_loop().create_task(handle(asked))
                task.add_done_callback(lambda task: answer(task.result()))

        return begin if request.param == "at once" else None

    return begin_of
