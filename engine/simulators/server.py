"""The MLLP listener of a simulated partner: one message at a time per connection, faults carried out, down and up.

What a message means is the partner's business (`ris.py`, `emr.py`); which fault it meets is the board's (`faults.py`).
Down closes the listener and every connection; up opens the same port again.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import structlog

from engine.simulators.answers import Refused, at
from engine.simulators.faults import Fault, FaultBoard
from engine.simulators.wire import FrameReader, Unreadable, frame, parse, replace_field

log = structlog.get_logger("engine.simulators")

GARBAGE = b"\x00\x1fthis is no message\x7f\r"
#: Free text with letters that ASCII lacks, for the fault `latin1`.
UMLAUTS = "Geprüft für Müller, Zürich"


class Partner(Protocol):
    """What the listener asks of a partner. Answers are unframed; none at all is a valid reply."""

    def handle(self, data: bytes) -> list[bytes]:
        """Act on the message and answer it."""

    def refuse(self, data: bytes, refused: Refused) -> list[bytes]:
        """Answer with this refusal and do nothing else; an empty text is replaced by one that names the patient."""


class MllpServer:
    """Listens for one partner. `start` and `stop` frame its life; `down` and `up` are the partner's own outages."""

    def __init__(
        self, name: str, partner: Partner, host: str, port: int = 0, context: ssl.SSLContext | None = None
    ) -> None:
        self.name, self.partner, self.host, self.context = name, partner, host, context
        self.faults = FaultBoard()
        self.connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.listener: asyncio.Server | None = None
        self.known_port = port
        self.remedies: Mapping[str, Callable[[Fault, bytes, asyncio.StreamWriter], Awaitable[None]]] = {
            "silence": self.keep_silent,
            "delay": self.delay,
            "late": self.answer_late,
            "drop": self.drop,
            "wrong_control_id": self.answer_another,
            "error": self.answer_error,
            "garbage": self.answer_garbage,
            "split": self.answer_bytewise,
            "two_in_one": self.answer_twice,
            "restart": self.restart,
            "latin1": self.answer_in_latin1,
        }

    @property
    def port(self) -> int:
        """The port in use; known from the first start on, also while down."""
        return self.known_port

    @property
    def is_up(self) -> bool:
        return self.listener is not None

    async def start(self) -> None:
        await self.up()

    async def stop(self) -> None:
        await self.down()
        tasks = [task for task in self.connections if task is not asyncio.current_task()]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def up(self) -> None:
        if self.listener is None:
            self.listener = await asyncio.start_server(self.serve, self.host, self.known_port, ssl=self.context)
            self.known_port = self.listener.sockets[0].getsockname()[1]
            log.info("simulator.up", partner=self.name, port=self.known_port)

    async def down(self) -> None:
        """Close the listener and abort all connections; what is half done stays half done."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None
            log.info("simulator.down", partner=self.name, port=self.known_port)
        for task, writer in list(self.connections.items()):
            writer.transport.abort()
            if task is not asyncio.current_task():
                task.cancel()

    async def add_fault(self, spec: Mapping[str, Any]) -> Fault:
        fault = self.faults.add(spec)
        if fault.name == "refuse":
            await self.down()
        return fault

    async def clear_faults(self) -> None:
        refused = any(fault.name == "refuse" for fault in self.faults.waiting)
        self.faults.clear()
        if refused:
            await self.up()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a server calls this in a task
        if self.listener is None:
            # Accepted in the moment in which the listener closed.
            writer.transport.abort()
            return
        self.connections[task] = writer
        frames = FrameReader()
        try:
            while data := await reader.read(65536):
                for message in frames.feed(data):
                    await self.exchange(message, writer)
        except (ConnectionError, ssl.SSLError, Unreadable) as error:
            log.info("simulator.connection_lost", partner=self.name, reason=type(error).__name__)
        except asyncio.CancelledError:
            # Only down and stop cancel, and they have aborted the connection; asyncio's own callback for
            # connections would report the cancellation as an error.
            log.debug("simulator.connection_cut", partner=self.name)
        finally:
            del self.connections[task]
            writer.close()

    async def exchange(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        fault = self.faults.take(kind_of(data), data)
        if fault is None:
            await send(writer, self.partner.handle(data))
            return
        log.info("simulator.fault", partner=self.name, fault=fault.name, met=fault.met)
        await self.remedies[fault.name](fault, data, writer)

    def act(self, fault: Fault, data: bytes) -> list[bytes]:
        """The right answers. Where the fault says `act: false` nothing has happened afterwards."""
        if fault.settings.get("act", True):
            return self.partner.handle(data)
        return self.partner.refuse(data, Refused("AE", 207))

    async def keep_silent(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        self.act(fault, data)

    async def delay(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(fault.settings["ms"] / 1000)
        await send(writer, self.partner.handle(data))

    async def answer_late(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        answers = self.partner.handle(data)
        await asyncio.sleep(fault.settings["ms"] / 1000)
        await send(writer, answers)

    async def drop(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        whole = b"".join(frame(answer) for answer in self.act(fault, data))
        writer.write(whole[: fault.settings["bytes"]])
        await writer.drain()
        writer.close()

    async def answer_another(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        foreign = fault.settings["control_id"]
        await send(writer, [replace_field(answer, "MSA", 2, foreign) for answer in self.act(fault, data)])

    async def answer_error(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        given = fault.settings
        location = given["location"]
        where = at(location) if "-" in location else location
        code, _, reason = given["application_error"].partition("^")
        refused = Refused(given["ack"], given["condition"], where, given["text"] or "", code, reason)
        await send(writer, self.partner.refuse(data, refused))

    async def answer_garbage(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        self.act(fault, data)
        await send(writer, [GARBAGE])

    async def answer_bytewise(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        for answer in self.partner.handle(data):
            for byte in frame(answer):
                writer.write(bytes([byte]))
                await writer.drain()
                # Lets the transport send what it holds, so that the reader wakes up more than once.
                await asyncio.sleep(0)

    async def answer_twice(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        answers = self.partner.handle(data)
        foreign = [replace_field(answer, "MSA", 2, "FOREIGN0000000001") for answer in answers[:1]]
        writer.write(b"".join(frame(answer) for answer in foreign + answers))
        await writer.drain()

    async def restart(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        self.act(fault, data)
        await self.down()
        await asyncio.sleep(fault.settings["ms"] / 1000)
        await self.up()

    async def answer_in_latin1(self, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        declared = fault.settings["declared"]
        await send(writer, [in_latin1(answer, declared) for answer in self.partner.handle(data)])


def kind_of(data: bytes) -> str:
    try:
        return parse(data).kind
    except Unreadable:
        return ""


async def send(writer: asyncio.StreamWriter, answers: list[bytes]) -> None:
    for answer in answers:
        writer.write(frame(answer))
    await writer.drain()


def in_latin1(answer: bytes, declared: bool) -> bytes:
    """The answer in 8859/1 with umlauts in MSA-3; without `declared` MSH-18 keeps quiet about it."""
    told = replace_field(replace_field(answer, "MSH", 18, "8859/1"), "MSA", 3, UMLAUTS)
    return told if declared else told.replace(b"|8859/1\r", b"|\r", 1)
