"""The other side: partners that take, refuse, keep silent, are slow or are not there, by the number of the message."""

import asyncio
import contextlib
import json
from collections import defaultdict

from .journal import Arrival, Journal
from .messages import acknowledge, field, next_frame, number_of
from .site import Site

#: Seconds of the slow one.
SLOW = 0.01


def behaviour(partner: str, number: int, times: int) -> str:
    """What ``partner`` says to the ``times``-th arrival (from 1) of a message: a code, ``207``, or ``silence``."""
    first = times == 1
    if partner == "refusing":
        return {0: "AE", 1: "AR" if first else "AA", 2: "207" if first else "AA"}.get(number // 16 % 5, "AA")
    if partner == "cautious" and first and number % 21 == 0:
        return "silence"
    if partner == "steady" and first and number % 97 == 0:
        return "silence"
    if partner == "results" and first and number % 13 == 0:
        return "207"
    if partner in ("late", "again", "acks", "mover") and first and number % 17 == 0:
        return "silence"
    if partner == "late" and number % 23 == 0:
        return "AE" if first else "AA"
    return "AA"


class Partners:
    """All of them, on the ports of the site."""

    def __init__(self, site: Site, journal: Journal) -> None:
        self.site, self.journal = site, journal
        self._servers: dict[str, asyncio.Server] = {}
        self._open: dict[str, set[asyncio.StreamWriter]] = defaultdict(set)
        self._times: dict[tuple[str, int], int] = defaultdict(int)
        #: Every partner says yes at once, whatever the number.
        self.healed = False

    async def up(self, name: str) -> None:
        """Let a partner listen; nothing for one that does."""
        if name in self._servers:
            return
        serve = {"ris": self._ris, "webhook": self._webhook}.get(name)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._open[name].add(writer)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await (serve(reader, writer) if serve else self._mllp(name, reader, writer))
            self._open[name].discard(writer)
            writer.close()

        self._servers[name] = await asyncio.start_server(connected, *self.site.address(name), limit=2**22)

    async def down(self, name: str) -> None:
        """Let nobody listen there and end what is connected."""
        server = self._servers.pop(name, None)
        if server is None:
            return
        server.close()
        for writer in list(self._open[name]):
            writer.transport.abort()

    async def close(self) -> None:
        """End everything."""
        for name in list(self._servers):
            await self.down(name)

    def forget(self) -> None:
        """Nothing that was seen before the last account comes again."""
        self._times.clear()

    def _arrived(self, name: str, number: int, key: str) -> tuple[Arrival, str]:
        arrivals = self.journal.arrivals[name]
        arrival = Arrival(number, key, self.journal.epoch, len(arrivals))
        arrivals.append(arrival)
        self._times[name, number] += 1
        says = "AA" if self.healed else behaviour(name, number, self._times[name, number])
        return arrival, says

    async def _mllp(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = await next_frame(reader)
            if name == "acks":
                self._ack(message, writer)
                continue
            if field(message, "MSA", 1):
                continue  # enhanced mode: the engine confirms our application ack
            number, key = number_of(field(message, "MSH", 10)), field(message, "PID", 3).partition("^")[0]
            arrival, says = self._arrived(name, number, key)
            if says == "silence":
                continue
            if name == "slow":
                await asyncio.sleep(SLOW)
            code, condition = ("AE", "207") if says == "207" else (says, "")
            writer.write(acknowledge(message, code, condition=condition))
            arrival.answer = says

    def _ack(self, message: bytes, writer: asyncio.StreamWriter) -> None:
        """An application ack on a connection of its own: confirmed with an accept ack."""
        number = number_of(field(message, "MSA", 2))
        arrival, says = self._arrived("acks", number, "")
        self.journal.acks[number].append((field(message, "MSA", 1), field(message, "MSH", 10)))
        if says != "silence":
            writer.write(acknowledge(message, "CA"))
            arrival.answer = says

    async def _ris(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = await next_frame(reader)
            if field(message, "MSH", 9).startswith("QRY"):
                writer.write(acknowledge(message, "AA", field(message, "QRD", 4)))
                continue
            number, control = int(field(message, "ORC", 2)), field(message, "MSH", 10)
            requests = self.journal.requests[number]
            says = "AE" if number % 9 == 0 else "AA"
            if number % 7 == 0 and not requests and not self.healed:
                requests.append((control, ""))
                continue
            requests.append((control, says))
            # The confirmation is the MSH-10 under which it was booked: the same request gets the same answer.
            writer.write(acknowledge(message, says, control))

    async def _webhook(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            body = json.loads(await reader.readexactly(length))
            number = number_of(body["controlId"])
            arrival, _ = self._arrived("webhook", number, body["key"])
            refused = not self.healed and number % 11 == 0 and self._times["webhook", number] == 1
            arrival.answer = "503" if refused else "AA"
            status = "503 Service Unavailable" if refused else "200 OK"
            headers = "Content-Length: 2\r\nContent-Type: application/json"
            writer.write(f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n{{}}".encode())
