"""Accepting connections of any listener: a bounded number of places, a word for every handshake that fails.

asyncio's own server drops a peer whose handshake fails silently, reads certificates once, and takes as many connections
as come. Here each connection takes a place before anything is read from it, one address cannot take all of them, the
TLS context is asked for anew for each (a renewed certificate needs no restart), dead peers are found by keep-alive, and
a process without free file descriptors waits for one instead of spinning. What a connection does is its protocol's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from engine.keepalive import keep_alive
from engine.sources.serving.telling import Telling
from engine.tls_settings import reason

HANDSHAKE_TIMEOUT = 10.0
#: Seconds after which an unfinished handshake gives its place to another peer when all are taken.
HANDSHAKE_QUIET = 1.0
#: Seconds to wait when the process has no file descriptor left for another connection.
EXHAUSTED = 1.0


class ServerContexts(Protocol):
    """The TLS context for the next connection: ``tls_settings.Contexts``."""

    def get(self) -> Any:
        """Raises OSError or ValueError while there is none."""
        ...


class Place:
    """One connection's place; given back once, by whoever notices the end first."""

    __slots__ = ("_places", "begun", "host")

    def __init__(self, places: Places, host: str) -> None:
        self._places: Places | None = places
        self.host = host
        #: Set by the protocol when its connection is made: it hears of the end then, and nobody else may end it.
        self.begun = False

    def release(self) -> None:
        """Give the place back."""
        places, self._places = self._places, None
        if places is not None:
            places.give_back(self.host)


class Places:
    """How many connections a listener has room for, in all and for one address."""

    def __init__(self, telling: Telling, limit: int, per_address: int) -> None:
        """What is refused, and what fails before a connection stands, is told by ``telling``."""
        self.telling, self.limit, self.per_address = telling, limit, per_address
        self._taken: Counter[str] = Counter()
        #: Asked for a connection that may end so that another can begin; says whether there was one.
        self.make_room: Callable[[], bool] = lambda: False
        self.total = 0

    def take(self, peer: str) -> Place | None:
        """A place for a connection from ``peer`` (``10.1.2.3:50312``); None when there is none."""
        host = peer.rpartition(":")[0]
        if host and self._taken[host] >= self.per_address:
            self.telling.tell("too_many_of_one_address", peer=peer, limit=self.per_address)
            return None
        if self.total >= self.limit and not (self.make_room() and self.total < self.limit):
            self.telling.tell("too_many_connections", peer=peer, limit=self.limit)
            return None
        self._taken[host] += 1
        self.total += 1
        return Place(self, host)

    def give_back(self, host: str) -> None:
        """Called by ``Place``."""
        self.total -= 1
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]


class Acceptor:
    """Takes connections from a listening socket, each at once or after its handshake."""

    def __init__(
        self,
        listening: socket.socket,
        places: Places,
        make: Callable[[Place], asyncio.BaseProtocol],
        contexts: ServerContexts | None,
        *,
        name: str,
    ) -> None:
        """``make`` makes a connection's protocol: it says when its place is ``begun``, and releases it at the end."""
        self._socket, self._places, self._make, self._contexts = listening, places, make, contexts
        self._name = name
        listening.setblocking(False)
        #: Handshakes under way, the oldest first: peer, since when, and the place it has.
        self._handshakes: dict[asyncio.Task[None], tuple[str, float, Place]] = {}
        room_elsewhere = places.make_room
        places.make_room = lambda: room_elsewhere() or self._end_a_handshake()
        self._task = asyncio.create_task(self._accept(), name=f"{name}-accept")

    @property
    def open(self) -> bool:
        """Whether the port is."""
        return self._socket.fileno() >= 0

    async def close(self) -> None:
        """Accept no more; handshakes under way end without a connection."""
        ending = [self._task, *self._handshakes]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, address = await loop.sock_accept(self._socket)
            except ConnectionError:
                continue
            except OSError as error:
                self._places.telling.tell("cannot_accept", level="error", errno=error.errno, again_in=EXHAUSTED)
                await asyncio.sleep(EXHAUSTED)
                continue
            peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else ""
            place = self._places.take(peer)
            if place is None:
                connected.close()
                continue
            if peer:
                keep_alive(connected)
            if self._contexts is None:
                await self._begin(connected, peer, place)
                continue
            task = loop.create_task(self._begin(connected, peer, place), name=f"{self._name}-handshake")
            self._handshakes[task] = (peer, loop.time(), place)
            task.add_done_callback(lambda task: self._handshakes.pop(task, None))

    def _end_a_handshake(self) -> bool:
        """End the oldest handshake, if it has lasted; whether there was one."""
        for task, (peer, since, place) in self._handshakes.items():
            if asyncio.get_running_loop().time() - since < HANDSHAKE_QUIET:
                return False
            if not place.begun:
                self._places.telling.tell("displaced", peer=peer)
                place.release()
                task.cancel()
                return True
        return False

    async def _begin(self, connected: socket.socket, peer: str, place: Place) -> None:
        try:
            options: dict[str, Any] = {}
            if self._contexts is not None:
                options = {"ssl": self._contexts.get(), "ssl_handshake_timeout": HANDSHAKE_TIMEOUT}
            loop = asyncio.get_running_loop()
            beginning = loop.create_task(loop.connect_accepted_socket(lambda: self._make(place), connected, **options))
            beginning.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.shield(beginning)
        except (OSError, ValueError) as error:
            place.release()
            with contextlib.suppress(OSError):
                connected.close()
            self._places.telling.tell("tls_failed", peer=peer, reason=_why(error))
        except asyncio.CancelledError:
            # uvloop drops the transport of a cancelled call without a word to a protocol that has begun already.
            if not place.begun:
                beginning.cancel()
                place.release()
            raise


def peer_of(transport: asyncio.BaseTransport) -> str:
    """``10.1.2.3:50312``."""
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""


def identity_of(transport: asyncio.BaseTransport) -> str:
    """The subject of the certificate that the peer has shown and that was checked: ``CN=ris, O=Hospital``; else ""."""
    certificate = transport.get_extra_info("peercert") or {}
    names = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU"}
    parts = [(names.get(name, name), value) for part in certificate.get("subject", ()) for name, value in part]
    return ", ".join(f"{name}={value}" for name, value in sorted(parts, key=lambda part: part[0] != "CN"))[:256]


def uid_of(transport: asyncio.BaseTransport) -> int | None:
    """The user at the other end of a unix socket (``man 7 unix``, SO_PEERCRED); None for any other peer."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ConnectionAbortedError):
        return "handshake timed out"
    return "connection lost" if isinstance(error, ConnectionError) else reason(error)
