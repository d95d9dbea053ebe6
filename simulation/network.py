"""Connections between the engine and everybody else: bytes in pieces, late, cut off at any byte, or never.

A connection has two ends. The engine's is an asyncio transport, the others' a plain object with callbacks. Each
connection has its own chance and its own fate: to last, to be reset after so many bytes, or to fall silent (half-open).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulation.ledger import Ledger
from simulation.world import World


@dataclass
class Weather:
    """What the network is like; probabilities per connection."""

    latency: float = 0.001
    #: A write arrives in several pieces.
    split: float = 0.2
    reset: float = 0.0
    silence: float = 0.0
    #: A connection attempt gets no answer at all.
    no_answer: float = 0.0
    #: A connection attempt is refused although somebody listens.
    refused: float = 0.0
    #: Bytes that the system takes off the engine's hands before it makes it wait.
    buffer: int = 65536


class End:
    """One side of a connection that is not the engine's."""

    def __init__(self) -> None:
        self.connection: Connection
        self.on_data: Callable[[bytes], None] = lambda _data: None
        self.on_lost: Callable[[], None] = lambda: None
        self.gone = False

    def send(self, data: bytes) -> None:
        """Write."""
        if not self.gone:
            self.connection.send(self, data)

    def close(self, *, reset: bool = False) -> None:
        """End the connection in order, or with a reset."""
        if not self.gone:
            self.gone = True
            self.connection.end(self, reset=reset)

    def arrived(self, data: bytes) -> None:
        if not self.gone:
            self.on_data(data)

    def ended(self) -> None:
        self.lost()

    def lost(self) -> None:
        if not self.gone:
            self.gone = True
            self.on_lost()

    def taken(self, number: int) -> None:
        """So many bytes have left this side's buffer."""


class Connection:
    """Two ends and what is between them."""

    def __init__(self, network: Network, number: int, port: int) -> None:
        self.network, self.number, self.port = network, number, port
        self.random = network.world.random(f"connection {number}")
        weather = network.weather
        self.latency = weather.latency * (0.2 + self.random.expovariate(1.0))
        self.split, self.buffer = weather.split, weather.buffer
        fate = self.random.random()
        self.fate = "reset" if fate < weather.reset else "silence" if fate < weather.reset + weather.silence else ""
        #: Bytes, both ways together, after which the fate strikes.
        self.left = self.random.choice((self.random.randrange(1, 200), self.random.randrange(1, 3000)))
        self.silent = False
        self.ends: tuple[Any, Any]
        self._last = [0.0, 0.0]
        self._flying: list[list[Any]] = [[], []]

    def other(self, end: Any) -> Any:
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    def send(self, end: Any, data: bytes) -> None:
        """Bytes on their way to the other end."""
        world, side = self.network.world, self.ends.index(end)
        world.note("send", self.number, side, data)
        if self.silent:
            return
        struck = bool(self.fate) and len(data) >= self.left
        if self.fate:
            data = data[: self.left]
            self.left -= len(data)
        for piece in self._pieces(data):
            self._fly(side, self.other(end).arrived, piece)
            self._fly_back(end, side, len(piece))
        if struck:
            world.note(self.fate, self.number)
            world.counts[f"connection {self.fate}"] += 1
            self.silent = True
            if self.fate == "reset":
                for back, target in enumerate((self.ends[1], self.ends[0])):
                    self._fly(back, target.lost)

    def end(self, end: Any, *, reset: bool) -> None:
        """One side closes. With a reset what is still on its way may be lost."""
        side = self.ends.index(end)
        self.network.world.note("reset" if reset else "close", self.number, side)
        if self.silent:
            return
        if reset:
            flying = self._flying[side]
            for event in flying[self.random.randrange(len(flying) + 1) :]:
                event.cancel()
            self._fly(side, self.other(end).lost)
            self.silent = True
        else:
            self._fly(side, self.other(end).ended)

    def write_eof(self, end: Any) -> None:
        """One side sends no more."""
        if not self.silent:
            self._fly(self.ends.index(end), self.other(end).ended)

    def _pieces(self, data: bytes) -> list[bytes]:
        if len(data) < 2 or self.random.random() >= self.split:
            return [data] if data else []
        cuts = sorted(self.random.randrange(1, len(data)) for _ in range(self.random.randrange(1, 4)))
        pieces = [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        return [piece for piece in pieces if piece]

    def _fly(self, side: int, callback: Callable[..., None], *arguments: Any) -> None:
        world = self.network.world
        arrival = max(self._last[side], world.now + self.latency * (0.5 + self.random.random()))
        self._last[side] = arrival
        flying = self._flying[side]
        if len(flying) > 32:
            del flying[:-32]
        flying.append(world.at(arrival - world.now, callback, *arguments))

    def _fly_back(self, end: Any, side: int, number: int) -> None:
        world = self.network.world
        world.at(self._last[side] - world.now, end.taken, number)


class SimulatedTransport(asyncio.Transport):
    """The engine's end."""

    def __init__(self, loop: Any, ledger: Ledger, protocol: Any, port: int, *, outgoing: bool) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", port)})
        self.loop, self.ledger, self.protocol, self.port, self.outgoing = loop, ledger, protocol, port, outgoing
        self.connection: Connection
        #: When the engine asked for the connection, until something has left on it.
        self.asked: float | None = None
        self._inbox: list[bytes] = []
        self._eof = self._closing = self._ended = self._reading_paused = self._scheduled = False
        self._unsent = 0
        self._high = 65536
        self._writing_paused = False

    def begin(self, protocol: Any) -> None:
        """Somebody takes the connection over; what has come meanwhile is given then."""
        self.protocol = protocol
        self.loop.call_soon(protocol.connection_made, self)
        if self._ended:
            self.loop.call_soon(protocol.connection_lost, None)
        elif self._inbox or self._eof:
            self._schedule()

    # -- what the network calls ------------------------------------------------------------------------------------

    def arrived(self, data: bytes) -> None:
        if self._ended or self.loop.dead:
            return
        if self._closing:
            return
        self._inbox.append(data)
        self._schedule()

    def ended(self) -> None:
        if not self._ended:
            self._eof = True
            self._schedule()

    def lost(self) -> None:
        if not self._ended:
            self._inbox.clear()
            self._finish(ConnectionResetError(104, "Connection reset by peer"))

    def taken(self, number: int) -> None:
        if self._ended or self.loop.dead:
            return
        self._unsent -= number
        if self._writing_paused and self._unsent <= self.connection.buffer + self._high // 4:
            self._writing_paused = False
            self.loop.call_soon(self._protocol("resume_writing"))

    @property
    def unread(self) -> bool:
        """Whether something has come that the engine has not been given."""
        return bool(self._inbox) or self._eof or self._ended

    def _protocol(self, name: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            if not self._ended or name == "connection_lost":
                getattr(self.protocol, name)(*arguments)

        return call

    def _schedule(self) -> None:
        if self.protocol is not None and not self._scheduled and not self._reading_paused:
            self._scheduled = True
            self.loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._closing or self._reading_paused:
            return
        if self._inbox:
            data, self._inbox = b"".join(self._inbox), []
            self.loop.world.note("read", self.connection.number, len(data))
            self.protocol.data_received(data)
            if self._eof:
                self._schedule()
        elif self._eof:
            self._eof = False
            if not self.protocol.eof_received():
                self.close()

    def _finish(self, error: Exception | None) -> None:
        self._closing = self._ended = True
        if self.protocol is not None:
            self.loop.call_soon(self.protocol.connection_lost, error)

    # -- what the engine calls -------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if self._closing or self.loop.dead or self.loop.world.engine is not self.loop:
            return
        data = bytes(data)
        if self.outgoing:
            self.ledger.left(self.port, data, self.loop.world.now if self.asked is None else self.asked)
            self.asked = None
        else:
            self.ledger.answered(self.port, data)
        self._unsent += len(data)
        self.connection.send(self, data)
        if not self._writing_paused and self._unsent > self.connection.buffer + self._high:
            self._writing_paused = True
            self.protocol.pause_writing()

    def writelines(self, lines: Any) -> None:
        self.write(b"".join(lines))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self.loop.dead:
                self.connection.end(self, reset=bool(self._inbox))
                self._ended = True
                self.loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        if not self._ended:
            if not self.loop.dead:
                self.connection.end(self, reset=True)
            self._finish(None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        if self._inbox or self._eof:
            self._schedule()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.connection.write_eof(self)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65536 if high is None else high

    def get_write_buffer_size(self) -> int:
        return max(0, self._unsent - self.connection.buffer)

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class AcceptedSocket:
    """A connection that the system has taken and the engine may have."""

    def __init__(self, transport: SimulatedTransport) -> None:
        self.transport = transport

    def setsockopt(self, *_: Any) -> None:
        """Nothing to set."""

    def close(self) -> None:
        self.transport.abort()


class _Port:
    """An open port: connections that the system has taken, and how many sockets the engine has on it."""

    def __init__(self) -> None:
        self.taken: deque[AcceptedSocket] = deque()
        self.waiting: asyncio.Future[None] | None = None
        self.sockets = 0


class ListeningSocket:
    """A port of the engine: the system takes connections, the engine accepts them one by one."""

    def __init__(self, network: Network, loop: Any, number: int, port: _Port | None = None) -> None:
        self.network, self.loop, self.number = network, loop, number
        self._port = port or _Port()
        self._port.sockets += 1
        self._open = True
        network.servers[number] = self

    def dup(self) -> ListeningSocket:
        """The same port once more: it stays open until both are closed."""
        return ListeningSocket(self.network, self.loop, self.number, self._port)

    def take(self, accepted: AcceptedSocket) -> None:
        """Somebody connects."""
        port = self._port
        port.taken.append(accepted)
        if port.waiting is not None and not port.waiting.done():
            port.waiting.set_result(None)

    async def accept(self) -> tuple[AcceptedSocket, tuple[str, int]]:
        """The next connection."""
        port = self._port
        while not port.taken:
            port.waiting = self.loop.create_future()
            await port.waiting
        accepted = port.taken.popleft()
        return accepted, accepted.transport.get_extra_info("peername")

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", self.number)

    def setblocking(self, flag: bool) -> None:
        """Nothing to set."""

    def fileno(self) -> int:
        return self.number if self._open else -1

    def close(self) -> None:
        """With the last one nobody is let in any more; who was not accepted is reset."""
        if not self._open:
            return
        self._open = False
        self._port.sockets -= 1
        if self._port.sockets:
            return
        self.network.servers.pop(self.number, None)
        while self._port.taken:
            self._port.taken.popleft().close()


@dataclass
class Network:
    """Who listens where, and every connection."""

    world: World
    ledger: Ledger
    weather: Weather = field(default_factory=Weather)
    servers: dict[int, ListeningSocket] = field(default_factory=dict)
    #: Ports of partners → called with the partner's end of a new connection.
    partners: dict[int, Callable[[End], None]] = field(default_factory=dict)
    #: Transports of the engine's present life.
    transports: list[SimulatedTransport] = field(default_factory=list)
    connections: int = 0

    # -- the engine's side -----------------------------------------------------------------------------------------

    async def accepted(self, loop: Any, factory: Any, sock: AcceptedSocket) -> tuple[SimulatedTransport, Any]:
        """The engine takes a sender's connection over."""
        transport, protocol = sock.transport, factory()
        transport.begin(protocol)
        return transport, protocol

    async def connect(self, loop: Any, port: int, factory: Any) -> tuple[SimulatedTransport, Any]:
        """The engine connects to a partner."""
        self.connections += 1
        number = self.connections
        random, asked = self.world.random(f"connect {number}"), self.world.now
        done: asyncio.Future[None] = loop.create_future()
        waits = self.weather.latency * (0.5 + random.random())
        chance = random.random()
        if chance < self.weather.no_answer:
            self.world.counts["connect unanswered"] += 1
            await done  # until the engine's own time-out
        refused = chance < self.weather.no_answer + self.weather.refused
        loop.call_later(waits, lambda: done.done() or done.set_result(None))
        await done
        if refused or port not in self.partners:  # it may have gone down meanwhile
            self.world.note("refused", number)
            self.world.counts["connect refused"] += 1
            raise ConnectionRefusedError(111, "Connection refused")
        protocol = factory()
        transport = SimulatedTransport(loop, self.ledger, protocol, port, outgoing=True)
        transport.asked = asked
        end = End()
        self._join(number, port, transport, end)
        protocol.connection_made(transport)
        self.partners[port](end)
        return transport, protocol

    def die(self, *, power: bool) -> None:
        """The engine's process is gone: its connections are reset, or, when the machine is off, fall silent."""
        self.servers.clear()
        for transport in self.transports:
            if transport._ended:
                continue
            transport._ended = transport._closing = True
            if power:
                transport.connection.silent = True
            else:
                transport.connection.end(transport, reset=True)
        self.transports.clear()

    # -- the others' side ------------------------------------------------------------------------------------------

    def call(self, port: int) -> End | None:
        """A sender connects to the engine; None when nobody listens."""
        if port not in self.servers:
            return None
        server = self.servers[port]
        self.connections += 1
        transport = SimulatedTransport(server.loop, self.ledger, None, port, outgoing=False)
        end = End()
        self._join(self.connections, port, transport, end)
        server.take(AcceptedSocket(transport))
        return end

    def _join(self, number: int, port: int, transport: SimulatedTransport, end: End) -> None:
        connection = Connection(self, number, port)
        connection.ends = (transport, end)
        transport.connection = end.connection = connection
        self.transports.append(transport)
        self.world.note("connected", number, port)
