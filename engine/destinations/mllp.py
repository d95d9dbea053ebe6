"""`mllp:` as a destination: sends one HL7 message at a time per connection and waits for the answer that names it.

An answer counts only if its MSA-2 is the MSH-10 that was sent. After a time-out, a mismatch, garbage or a cancellation
the connection is closed before anything else is sent (HL7 v2.5.1 §2.9). Kept connections are in `connections/mllp.py`;
when to send again is the runtime's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar

import structlog
from pydantic import BaseModel, ConfigDict, Field

from engine.destinations.base import Building, Destination, Outgoing, Response
from engine.destinations.connections.mllp import Link, Pool
from engine.destinations.connections.verdict import evidence_of, judged
from engine.errors import DeliveryError, Evidence, MalformedMessage, Rejected, Unanswered, Unavailable, Unexpected
from engine.hl7.ack import AckCode, make_ack, wanted_by
from engine.hl7.answer import AckRead, UnknownCode, plain_yes, read_ack
from engine.hl7.batch_answers import read_answer
from engine.hl7.bulk import Pieces
from engine.hl7.header import header_of
from engine.hl7.mllp import END, FS, START, frame, frame_pieces
from engine.hl7.modes import WAITED_FOR, AcceptMode, Wanted
from engine.tls_settings import ClientTlsKey, reason
from engine.units import Size, Timeout

log = structlog.get_logger("engine.mllp")

#: Bytes of a large message that are written at once.
_PIECE = 256 * 1024
#: What the plainest positive answers say.
_YES: dict[str, Evidence] = {code: Evidence(code) for code in ("AA", "CA")}
#: In place of one.
_NOT_PLAIN = ("", None)


class MllpDestinationConfig(BaseModel):
    """One partner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1, description="Name or address of the partner.")
    port: int = Field(ge=1, le=65535, description="TCP port.")
    tls: ClientTlsKey = Field(None, description="TLS; `true` trusts the system's authorities.")
    connect_timeout: Timeout = Field(3.0, description="Time to connect, TLS included.")
    timeout: Timeout = Field(30.0, description="Time from the first byte sent to the whole answer.")
    idle_timeout: Timeout = Field(300.0, description="Time after which a connection nobody uses is closed.")
    keep: bool = Field(True, description="false opens a connection for each message.")
    max_size: Size = Field(16 * 1024 * 1024, description="Bytes of an answer at most.")


def _local_time() -> datetime:
    return datetime.now().astimezone()


class MllpDestination(Destination):
    """Sends to one partner."""

    Config = MllpDestinationConfig
    answers: ClassVar[bool] = True
    takes_pieces: ClassVar[bool] = True

    def __init__(
        self, config: MllpDestinationConfig, building: Building, *, now: Callable[[], datetime] = _local_time
    ) -> None:
        self.config, self._timeout = config, config.timeout
        self._now = now
        self._ids = {"channel": building.channel, "destination": building.destination}
        self.contexts = config.tls.contexts(building.site, building.data) if config.tls is not None else None
        if self.contexts is not None:
            self.contexts.check()
        #: The kept connections.
        self.pool = Pool(self._connect, building.connections if config.keep else 0, config.idle_timeout)

    @property
    def address(self) -> str:
        """``mllp://127.0.0.1:2576``; ``mllps`` with TLS."""
        return f"{'mllps' if self.config.tls else 'mllp'}://{self.config.host}:{self.config.port}"

    def summary(self) -> Mapping[str, Any]:
        """Connections that stand, and those of them that wait."""
        return {"connections": self.pool.open, "idle": self.pool.idle}

    async def stop(self) -> None:
        """Close the kept connections."""
        self.pool.close()

    async def probe(self) -> None:
        """Connect and send nothing; the connection is kept for the next message."""
        link = await self.pool.take()
        self.pool.give(link)

    async def send(self, outgoing: Outgoing) -> Response:
        """Send one message and wait for the answer that names it."""
        pieces = outgoing.pieces
        modes = wanted_by(outgoing.body if pieces is None else bytes(next(pieces.views(_PIECE))))
        framed: Iterable[bytes | memoryview]
        try:
            framed = (frame(outgoing.body),) if pieces is None else frame_pieces(pieces, _PIECE)
        except MalformedMessage:
            # Whatever the partner is like, these bytes would reach it as two messages.
            raise Rejected(Evidence("AE", application_error="END_OF_FRAME_INSIDE")) from None
        link = await self.pool.take()
        try:
            async with asyncio.timeout(self.config.timeout):
                answer = await self._exchange(link, framed, outgoing, modes)
        except BaseException as error:  # also a cancellation: what may still be answered answers for no other message
            self.pool.drop(link)
            if isinstance(error, TimeoutError):
                raise Unanswered("timeout") from None
            if isinstance(error, DeliveryError):
                log.info("mllp.connection_dropped", **self._ids, control_id=outgoing.control_id, cause=str(error))
            raise
        self.pool.give(link)
        return answer if isinstance(answer, Response) else judged(*answer)

    def begin(
        self, body: bytes, control_id: str, ended: Callable[[Response | DeliveryError], None]
    ) -> Conversation | None:
        """See ``Destination``: a message of which one answer is awaited, on a connection that stands."""
        modes = wanted_by(body)
        if not modes.answered_once or FS in body or (link := self.pool.take_idle()) is None:
            return None
        link.ask(START + body + END, self._timeout, (body, control_id, modes, ended))
        return link

    def drop(self, link: Conversation, control_id: str, error: DeliveryError) -> None:
        """The message on this connection was not answered."""
        self.pool.drop(link)
        log.info("mllp.connection_dropped", **self._ids, control_id=control_id, cause=str(error))

    async def _exchange(
        self, link: Link, framed: Iterable[bytes | memoryview], outgoing: Outgoing, modes: Wanted
    ) -> tuple[AckRead, bytes] | Response:
        """The answer that decides; an empty response when the message asked for none."""
        await _send_all(link, framed)
        if outgoing.members:
            return await _joint_answer(link, outgoing)
        if modes.enhanced and modes.accept not in WAITED_FOR and modes.application not in WAITED_FOR:
            await link.drained()
            return Response(evidence=Evidence(""))
        answer = await _answer(link, outgoing)
        if not modes.enhanced and answer[0].code is AckCode.CA:
            raise Unexpected(evidence_of(*answer))  # received, and nobody says what became of it
        if not modes.enhanced or modes.application is not AcceptMode.AL:
            return answer
        if answer[0].code is AckCode.CA:
            answer = await _answer(link, outgoing)
            if answer[0].code.level == "accept":
                raise Unanswered("malformed")
        if answer[0].code.level == "application":
            self._confirm(link, answer[0])
        return answer

    def _confirm(self, link: Link, ack: AckRead) -> None:
        """Answer an application ack with CA, as enhanced mode wants it unless its MSH-15 says no."""
        header = ack.message.header
        modes = header.wanted
        if modes.accept is None or modes.accept_ack(True):
            link.send(frame(make_ack(header, AckCode.CA, uuid.uuid4().hex[:20], self._now())))

    async def _connect(self) -> Conversation:
        """Open a connection. Raises Unavailable (timeout, dns, tls, refused)."""
        config = self.config
        try:
            context = self.contexts.get() if self.contexts is not None else None
        except (OSError, ValueError) as error:
            log.warning("mllp.tls_failed", **self._ids, reason=reason(error))
            raise Unavailable("tls") from None
        name = config.tls.server_name or config.host if config.tls is not None else None
        try:
            async with asyncio.timeout(config.connect_timeout):
                _, link = await asyncio.get_running_loop().create_connection(
                    lambda: Conversation(self), config.host, config.port, ssl=context, server_hostname=name
                )
        except TimeoutError:
            raise Unavailable("timeout") from None
        except socket.gaierror:
            raise Unavailable("dns") from None
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
            if context is None:
                raise Unavailable("refused") from None
            log.warning("mllp.tls_failed", **self._ids, reason=reason(error))
            raise Unavailable("tls") from None
        except (OSError, UnicodeError) as error:
            # UnicodeError: a host name that no name server could know.
            raise Unavailable("dns" if isinstance(error, UnicodeError) else "refused") from None
        return link


#: A message that was sent without a task (see ``MllpDestination.begin``): its bytes, its MSH-10, what it asks for, and
#: who is told what comes of it.
Asked = tuple[bytes, str, Wanted, Callable[[Response | DeliveryError], None]]


class Conversation(Link):
    """A connection to a partner."""

    def __init__(self, destination: MllpDestination) -> None:
        super().__init__(destination.config.max_size)
        self._destination = destination

    def takes(self, asked: Asked, frame: bytes) -> bool:
        """See ``Link``."""
        _, control_id, modes, tell = asked
        code, answered = plain_yes(frame) or _NOT_PLAIN
        if answered != control_id or (code != "AA" and not modes.enhanced):
            return False
        self._destination.pool.give(self)
        tell(Response(frame[1:-2], _YES[code]))
        return True

    def told(self, asked: Asked, result: bytes | DeliveryError) -> None:
        """See ``Link``."""
        body, control_id, modes, tell = asked
        try:
            if isinstance(result, DeliveryError):
                raise result
            answer = _named(result, control_id, body)
            if answer[0].code is AckCode.CA and not modes.enhanced:
                raise Unexpected(evidence_of(*answer))  # as in _exchange
        except Exception as error:  # noqa: BLE001 - who waits is told, whatever it was
            known = error if isinstance(error, DeliveryError) else Unanswered(f"internal {type(error).__name__}")
            self._destination.drop(self, control_id, known)
            tell(known)
            return
        self._destination.pool.give(self)
        try:
            response = judged(*answer)
        except Rejected as error:
            tell(error)
        else:
            tell(response)


async def _send_all(link: Link, framed: Iterable[bytes | memoryview]) -> None:
    """Write a frame; of a large one the next piece when the system has taken the one before."""
    first = True
    for piece in framed:
        if not first:
            await link.drained()
        try:
            link.send(piece)
        except Unavailable:
            if first:
                raise
            raise Unanswered("lost") from None
        first = False


async def _answer(link: Link, outgoing: Outgoing) -> tuple[AckRead, bytes]:
    return _named_by(await link.next_frame(), outgoing)


def _named_by(raw: bytes, outgoing: Outgoing) -> tuple[AckRead, bytes]:
    return _named(raw, outgoing.control_id, outgoing.body if outgoing.pieces is None else outgoing.pieces)


def _named(raw: bytes, control_id: str, sent: bytes | Pieces) -> tuple[AckRead, bytes]:
    """An answer that names what was sent, which has this MSH-10. Raises Unanswered, Unexpected."""
    try:
        ack = read_ack(raw)
    except UnknownCode as error:
        if not _is_of(error.control_id, control_id, sent):
            raise Unanswered("mismatch") from None
        raise Unexpected(Evidence(error.word, error.condition, body=raw, text=error.text)) from None
    except MalformedMessage:
        raise Unanswered("malformed") from None
    if not _is_of(ack.control_id, control_id, sent):
        raise Unanswered("mismatch")
    return ack, raw


def _is_of(answered: str, control_id: str, sent: bytes | Pieces) -> bool:
    """Whether this MSA-2 names the message: it is its MSH-10, which may be empty."""
    return answered == control_id or (not answered and _is_nameless(sent))


def _is_nameless(sent: bytes | Pieces) -> bool:
    """Whether MSH-10 is empty; the number that the engine keeps the delivery under is unknown to its partner then."""
    header = header_of(sent if isinstance(sent, bytes) else bytes(next(sent.views(_PIECE))))
    return header is not None and not header.control_id


async def _joint_answer(link: Link, outgoing: Outgoing) -> Response:
    """The answer to a batch: a batch that names it or one of its members, else an ack that names it."""
    raw = await link.next_frame()
    try:
        batch = read_answer(raw)
    except MalformedMessage:
        raise Unanswered("malformed") from None
    if batch is None:
        return judged(*_named_by(raw, outgoing))
    names = {outgoing.control_id, *outgoing.members}
    if outgoing.control_id not in batch.references and names.isdisjoint(batch.acks):
        raise Unanswered("mismatch")
    return Response(raw, Evidence(""))
