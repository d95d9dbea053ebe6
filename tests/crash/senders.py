"""The clients: they go on whatever happens to the engine, and note what they sent and what they were told.

A message is never sent twice, so that whatever comes twice came twice from the engine: but for those of ``again``,
which are repeated until they are answered and once more then. A booking is repeated under its key until its outcome is
known, as a caller does, and once more then. Both must be told the same.
"""

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Callable, Iterator

from . import messages
from .journal import Booking, Journal, Sent
from .messages import Message, field, framed, next_frame, number_of
from .site import API_KEY, Site

#: Messages a sender has under way at once.
WINDOW = 8
#: Seconds between messages of one sender, so that a thousand kills are not all about a full disk.
PACE = 0.01
#: Seconds before a sender looks again whether the engine is back.
AGAIN = 0.03
#: A booking is made, or refused for good.
DEFINITE = (201, 502)
#: Seconds after which an answer that does not come is not awaited any more.
PATIENCE = 20.0
#: Host and port of a listener.
Address = tuple[str, int]


class Numbers:
    """Numbers of messages, never given twice."""

    def __init__(self) -> None:
        self._next = itertools.count(1)

    def __call__(self) -> int:
        return next(self._next)


class Sender:
    """One MLLP connection at a time to one channel; ``enhanced`` wants a CA and an AA on it."""

    def __init__(self, address: Address, journal: Journal, make: Callable[[], Message], enhanced: bool = False) -> None:
        self.address, self.journal, self.make, self.enhanced = address, journal, make, enhanced
        self.stopping = False
        self._waiting: dict[int, Sent] = {}
        self._room = asyncio.Semaphore(WINDOW)

    async def run(self) -> None:
        """Send until told to stop, then wait for the answers."""
        while not self.stopping:
            try:
                reader, writer = await asyncio.open_connection(*self.address)
            except OSError:
                await asyncio.sleep(AGAIN)
                continue
            self._waiting.clear()
            self._room = asyncio.Semaphore(WINDOW)
            reading = asyncio.ensure_future(self._read(reader))
            writing = asyncio.ensure_future(self._write(writer))
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done() and not writing.exception():
                with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(reading, PATIENCE)
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            writer.transport.abort()

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        while not self.stopping:
            await self._room.acquire()
            if writer.transport.is_closing():
                return
            message = self.make()
            sent = self._waiting[message.number] = Sent(message)
            self.journal.sent[message.number] = sent
            writer.write(framed(message.body))
            await asyncio.sleep(PACE)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not (self.stopping and not self._waiting):
                self._told(await next_frame(reader))

    def _told(self, answer: bytes) -> None:
        code, control = field(answer, "MSA", 1), field(answer, "MSA", 2)
        sent = self._waiting.get(number_of(control))
        if sent is None:
            self.journal.wrong.append(f"an ack {code} for {control}, which waits for none")
            return
        sent.answers.append(code)
        if self.enhanced and code == "CA":
            return
        del self._waiting[sent.message.number]
        self._room.release()


class Repeater:
    """Sends each message until it is answered, and once more then; now and then two at once. One connection."""

    def __init__(self, address: Address, journal: Journal, make: Callable[[], Message]) -> None:
        self.address, self.journal, self.make = address, journal, make
        self.stopping = False
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Send until told to stop; the message under way is finished first."""
        while not self.stopping:
            message = self.make()
            sent = self.journal.sent[message.number] = Sent(message)
            while len(sent.answers) < 2:
                try:
                    await asyncio.wait_for(self._once(sent), PATIENCE)
                except (OSError, asyncio.IncompleteReadError, TimeoutError):
                    self._hang_up()
                await asyncio.sleep(AGAIN)
        self._hang_up()

    async def _once(self, sent: Sent) -> None:
        if self._ends is None:
            self._ends = await asyncio.open_connection(*self.address)
        reader, writer = self._ends
        times = 2 if sent.message.number % 4 == 0 else 1
        writer.write(framed(sent.message.body) * times)
        for _ in range(times):
            answer = await next_frame(reader)
            if field(answer, "MSA", 2) != sent.message.control_id:
                self.journal.wrong.append(f"an ack for {field(answer, 'MSA', 2)} instead of {sent.message.control_id}")
            sent.answers.append(field(answer, "MSA", 1))

    def _hang_up(self) -> None:
        if self._ends is not None:
            self._ends[1].transport.abort()
            self._ends = None


class Booker:
    """Books and queries over REST, one at a time."""

    def __init__(self, address: Address, journal: Journal, numbers: Numbers) -> None:
        self.address, self.journal, self.numbers = address, journal, numbers
        self.stopping = False

    async def run(self) -> None:
        """Book until told to stop; the booking under way is finished first."""
        while not self.stopping:
            number = self.numbers()
            if number % 3 == 0:
                await self._call("GET", f"/query?number={number}")
                self.journal.queries += 1
            else:
                await self._book(Booking(number))

    async def _book(self, booking: Booking) -> None:
        self.journal.bookings[booking.number] = booking
        told = 0
        while told < 2:
            status, body = await self._call("POST", "/book", booking.number)
            if status:
                booking.answers.append((status, str(body.get("confirmation", ""))))
            # Anything else (no answer, 409 in progress, 503, 504) says nothing of the outcome: the caller asks again.
            if status in DEFINITE:
                told += 1
            else:
                await asyncio.sleep(AGAIN)

    async def _call(self, method: str, path: str, number: int = 0) -> tuple[int, dict[str, object]]:
        """Status and body; status 0 when there was no answer."""
        body = json.dumps({"number": str(number)}).encode() if number else b""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: engine\r\nX-API-Key: {API_KEY}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nIdempotency-Key: K{number}\r\n\r\n"
        )
        writer = None
        try:
            reader, writer = await asyncio.open_connection(*self.address)
            writer.write(head.encode() + body)
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            status, _, rest = answer.partition(b"\r\n")
            text = rest.partition(b"\r\n\r\n")[2]
            return int(status.split()[1]), json.loads(text)
        except (OSError, TimeoutError, ValueError, IndexError):
            await asyncio.sleep(AGAIN)
            return 0, {}
        finally:
            if writer is not None:
                writer.transport.abort()


def crowd(site: Site, journal: Journal, seed: int) -> list[Sender | Repeater | Booker]:
    """All clients of a site. Keys belong to one sender, so that the order of a key is the order of its numbers."""
    numbers = Numbers()

    def keys(sender: str) -> Iterator[str]:
        chosen = random.Random(f"{seed} {sender}")
        while True:
            yield f"{sender}{chosen.randrange(5)}"

    def notes(sender: str, enhanced: bool) -> Sender:
        key = keys(sender)
        return Sender(
            site.address("notes_in"), journal, lambda: messages.note(numbers(), next(key), enhanced), enhanced
        )

    def letters(sender: str, channel: str) -> Callable[[], Message]:
        key = keys(sender)
        return lambda: messages.letter(numbers(), channel, next(key))

    order_keys, result_keys = keys("O"), keys("L")
    return [
        notes("A", enhanced=False),
        notes("B", enhanced=False),
        notes("E", enhanced=True),
        Sender(site.address("orders_in"), journal, lambda: messages.order(numbers(), next(order_keys))),
        Sender(site.address("results_in"), journal, lambda: messages.result(numbers(), next(result_keys))),
        Sender(site.address("moving_in"), journal, letters("M", "moving")),
        Sender(site.address("later_in"), journal, letters("T", "later")),
        Repeater(site.address("again_in"), journal, letters("G", "again")),
        Repeater(site.address("again_in"), journal, letters("H", "again")),
        Booker(site.address("rest"), journal, numbers),
        Booker(site.address("rest"), journal, numbers),
    ]
