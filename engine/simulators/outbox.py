"""What the simulated RIS sends by itself: a queue per engine port, in order, each message repeated until it is AA.

One message is under way at a time. After a time-out, a lost connection or an answer for another message the connection
is closed and the same bytes go again. Nothing is stored on disk: a restarted RIS starts with empty queues.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from engine.simulators.wire import FrameReader, Unreadable, frame, parse

log = structlog.get_logger("engine.simulators")

#: Emissions that `GET /ris` still shows after they are settled.
REMEMBERED = 20_000


@dataclass(slots=True)
class Emission:
    """One message on its way. `until_accepted` False: any answer settles it, for messages that deserve a no."""

    control_id: str
    kind: str
    data: bytes
    until_accepted: bool = True
    attempts: int = 0
    answer: str = ""
    settled: bool = False
    #: Called once, when it is settled.
    then: Callable[[], None] | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "controlId": self.control_id,
            "kind": self.kind,
            "attempts": self.attempts,
            "answer": self.answer,
            "settled": self.settled,
        }


class Lost(Exception):
    """The answer did not come; the reason is a word of this module's."""


class Outbox:
    """Sends to one MLLP port of the engine. `address` None keeps everything waiting, and may be set later."""

    def __init__(
        self, name: str, address: tuple[str, int] | None, *, answer_seconds: float = 10.0, retry_seconds: float = 1.0
    ) -> None:
        self.name, self.address = name, address
        self.answer_seconds, self.retry_seconds = answer_seconds, retry_seconds
        self.waiting: deque[Emission] = deque()
        self.sent: deque[Emission] = deque(maxlen=REMEMBERED)
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()
        self.task: asyncio.Task[None] | None = None
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def put(self, emission: Emission) -> None:
        self.waiting.append(emission)
        self.arrived.set()

    def hold(self) -> None:
        """Send nothing more until `release`; what is under way is finished."""
        self.released.clear()

    def release(self) -> None:
        self.released.set()

    def clear(self) -> None:
        self.waiting.clear()
        self.sent.clear()

    def describe(self) -> dict[str, Any]:
        emissions = [emission.describe() for emission in [*self.sent, *self.waiting]]
        return {"waiting": len(self.waiting), "held": not self.released.is_set(), "emissions": emissions}

    def start(self) -> None:
        self.task = asyncio.create_task(self.run(), name=f"outbox-{self.name}")

    async def stop(self) -> None:
        """End the sending task; raises what it died of, if it died."""
        if self.task is None:
            return
        self.task.cancel()
        try:
            await self.task
        except asyncio.CancelledError:
            log.debug("outbox.stopped", outbox=self.name, waiting=len(self.waiting))
        finally:
            self.task = None
            self.close()

    async def run(self) -> None:
        while True:
            while not self.waiting:
                self.arrived.clear()
                await self.arrived.wait()
            await self.released.wait()
            emission = self.waiting[0] if self.waiting else None
            if emission is not None and not await self.attempt(emission):
                await asyncio.sleep(self.retry_seconds)

    async def attempt(self, emission: Emission) -> bool:
        """Send once; True when the emission is settled and has left the queue."""
        emission.attempts += 1
        try:
            emission.answer = await self.exchange(emission)
        except Lost as error:
            self.close()
            emission.answer = str(error)
            log.info("outbox.unanswered", outbox=self.name, control_id=emission.control_id, reason=str(error))
            return False
        if emission.answer != "AA" and emission.until_accepted:
            log.info("outbox.refused", outbox=self.name, control_id=emission.control_id, ack=emission.answer)
            return False
        self.settle(emission)
        return True

    def settle(self, emission: Emission) -> None:
        emission.settled = True
        # A reset may have emptied the queue while the answer was under way.
        if self.waiting and self.waiting[0] is emission:
            self.waiting.popleft()
            self.sent.append(emission)
            if emission.then is not None:
                emission.then()

    async def exchange(self, emission: Emission) -> str:
        """Send and return MSA-1 of the answer to this very message. Raises Lost."""
        if self.address is None:
            raise Lost("no address")
        try:
            async with asyncio.timeout(self.answer_seconds):
                if self.streams is None:
                    self.streams = await asyncio.open_connection(*self.address)
                reader, writer = self.streams
                writer.write(frame(emission.data))
                await writer.drain()
                answer = parse(await read_frame(reader))
        except TimeoutError:
            raise Lost("timeout") from None
        except (OSError, Unreadable) as error:
            raise Lost(type(error).__name__) from None
        if answer.raw("MSA-2") != emission.control_id:
            raise Lost("mismatch")
        return answer.text("MSA-1")

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    frames = FrameReader()
    while data := await reader.read(65536):
        messages = frames.feed(data)
        if messages:
            return messages[0]
    raise ConnectionResetError("closed before an answer")
