"""Fixtures: the samples as bytes, a held clock, simulators on free ports, a client, and an engine's listener."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from engine.simulators import Emr, Ris
from engine.simulators.wire import FrameReader, Message, frame, parse, replace_field

SITE = Path(__file__).parents[2]
EASTERN = timezone(timedelta(hours=-5))
DEADLINE = 20.0


@dataclass
class Clock:
    """Time that stands still until it is set."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


class Client:
    """One MLLP connection of a test: sends bytes, returns whole answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames = FrameReader()
        self.waiting: list[bytes] = []
        self.chunks: list[bytes] = []

    async def ask(self, message: bytes) -> Message:
        await self.send(message)
        return parse(await self.answer())

    async def send(self, message: bytes) -> None:
        self.writer.write(frame(message))
        await self.writer.drain()

    async def answer(self) -> bytes:
        """The next framed answer; raises EOFError when the partner closes instead."""
        async with asyncio.timeout(DEADLINE):
            while not self.waiting:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self.chunks.append(data)
                self.waiting += self.frames.feed(data)
        return self.waiting.pop(0)

    async def rest(self) -> bytes:
        """All bytes until the partner closes."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()


@dataclass
class Engine:
    """An engine's listener: keeps what it gets and answers each message with the next planned code, then AA."""

    codes: list[str] = field(default_factory=list)
    received: list[Message] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    listener: asyncio.Server | None = None

    async def start(self) -> None:
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)

    @property
    def address(self) -> tuple[str, int]:
        assert self.listener is not None
        return "127.0.0.1", self.listener.sockets[0].getsockname()[1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        frames = FrameReader()
        while data := await reader.read(65536):
            for body in frames.feed(data):
                message = parse(body)
                self.bodies.append(body)
                self.received.append(message)
                self.changed.set()
                code = self.codes.pop(0) if self.codes else "AA"
                if code == "close":
                    writer.close()
                    return
                control_id = "ANOTHER1" if code == "mismatch" else message.control_id
                code = "AA" if code == "mismatch" else code
                ack = f"MSH|^~\\&|RADSCHED|||SYNAPSE|20250115||ACK|E1|P|2.3\rMSA|{code}|{control_id}\r"
                writer.write(frame(ack.encode()))
                await writer.drain()
        writer.close()

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(self.received) < count:
                self.changed.clear()
                await self.changed.wait()

    async def stop(self) -> None:
        assert self.listener is not None
        self.listener.close()
        for writer in self.writers:
            await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    # The other side may have cut the connection: that is what some tests are about.
    with suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until something has come true, for states that have no event of their own."""

    async def wait(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2025, 1, 15, 8, 30, 1, tzinfo=EASTERN))


@pytest.fixture
def sample() -> Callable[..., bytes]:
    """A file of `samples/hl7` as it goes over the wire: CR ends segments, the placeholders are filled."""

    def read(name: str, *, now: str = "20250115083204", control_id: str = "EN0000000101") -> bytes:
        text = (SITE / "samples" / "hl7" / f"{name}.hl7").read_text(encoding="latin-1")
        return text.replace("\n", "\r").replace("@NOW", now).replace("@MSG", control_id).encode("latin-1")

    return read


@pytest.fixture
def change() -> Callable[..., bytes]:
    """A message with fields replaced: `change(message, {"QRD-10": "ZZZ"})`."""

    def apply(message: bytes, fields: dict[str, str]) -> bytes:
        for path, value in fields.items():
            segment, _, number = path.partition("-")
            message = replace_field(message, segment, int(number), value)
        return message

    return apply


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[int], Awaitable[Client]]]:
    clients: list[Client] = []

    async def open_one(port: int) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        clients.append(client)
        return client

    yield open_one
    for client in clients:
        await close(client.writer)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def make_ris(clock: Clock) -> AsyncIterator[Callable[..., Awaitable[Ris]]]:
    made: list[Ris] = []

    async def make(**options: object) -> Ris:
        settings = {"now": clock, "sends_orders": False, "first_control_id": 1, "retry_seconds": 0.01} | options
        ris = Ris(SITE / "tables" / "locations.csv", **settings)  # type: ignore[arg-type]
        await ris.start()
        made.append(ris)
        return ris

    yield make
    for ris in made:
        await ris.stop()


@pytest.fixture
async def ris(make_ris: Callable[..., Awaitable[Ris]]) -> Ris:
    return await make_ris()


@pytest.fixture
async def make_emr(clock: Clock) -> AsyncIterator[Callable[..., Awaitable[Emr]]]:
    made: list[Emr] = []

    async def make(profile: str, **options: object) -> Emr:
        emr = Emr(profile, **({"now": clock} | options))  # type: ignore[arg-type]
        await emr.start()
        made.append(emr)
        return emr

    yield make
    for emr in made:
        await emr.stop()


@pytest.fixture
def lines() -> Callable[..., list[str]]:
    """The segments of a message as text, MSH-7 and MSH-10 blanked: the fields in which answers differ each time."""

    def read(message: bytes) -> list[str]:
        blank = replace_field(replace_field(message, "MSH", 7, "TIME"), "MSH", 10, "ID")
        return blank.decode("latin-1").rstrip("\r").split("\r")

    return read
