"""One message in motion, and what a source gets back for it.

An Envelope is what transforms work on. A Receipt is what the engine gives a source for the bytes it handed over: two
outcomes, because the acceptance (commit 1) and the answer (whatever ``ack:`` says, or a reply) are separate moments.
Nothing here does I/O.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Protocol

from engine.hl7.ack import AckCode
from engine.hl7.header import Header
from engine.hl7.message import Message
from engine.promise import Promise
from engine.values import dataclass

#: A correlation id from outside is used only if it matches as a whole (systems.md D.0).
CORRELATION_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def new_correlation_id() -> str:
    """A new id, a UUID of version 7 (RFC 9562): it begins with the time, which keeps the store's index in order."""
    moment, chance = f"{time.time_ns() // 1_000_000:012x}", secrets.token_hex(10)
    variant = "89ab"[int(chance[3], 16) & 3]
    return f"{moment[:8]}-{moment[8:]}-7{chance[:3]}-{variant}{chance[4:7]}-{chance[8:]}"


def correlation_id_from(header: str | None) -> str:
    """The caller's correlation id if it is well formed, else a new one; a bad one is neither echoed nor stored."""
    if header is not None and CORRELATION_ID.fullmatch(header):
        return header
    return new_correlation_id()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from."""

    #: The connector's word: ``mllp``, ``rest``, ``channel``, ``ask``.
    source: str
    #: ``127.0.0.1:50312``, a channel's name, …
    peer: str = ""
    #: Lower-case header names.
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    #: Name (never the value) of the API key the caller used.
    api_key: str = ""
    #: Proposed by the source, already well formed; None lets the engine make one.
    correlation_id: str | None = None
    #: Subject of the client certificate that was checked: ``CN=ris, O=Hospital``.
    identity: str = ""
    #: The batch it came in: ``id`` (BHS-11), ``file`` (FHS-11), ``number`` of the message, ``correlation_id``.
    batch: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Envelope:
    """One message in motion: content, origin, variables, correlation id."""

    #: An HL7 message, a JSON value (dict, list, str, …) or plain bytes.
    body: Message | Any
    origin: Origin
    correlation_id: str
    channel: str
    message_id: int
    #: Seconds since the epoch, of commit 1.
    received_at: float
    #: ``$name`` in YAML; what steps put there.
    variables: dict[str, Any] = field(default_factory=dict)
    #: ``$body``: the JSON as it was received (a dict), whatever ``body`` has become since.
    request: Any = None
    #: Charset to encode an HL7 body in (table 0211 name or codec); None keeps what the message has.
    charset: str | None = None
    #: ``error`` or ``replace``: what to do with a character that ``charset`` lacks.
    unmappable: str = "error"

    def fork(self) -> Envelope:
        """A copy that one destination may change without the others seeing it."""
        body = self.body.copy() if isinstance(self.body, Message) else self.body
        return Envelope(
            body,
            self.origin,
            self.correlation_id,
            self.channel,
            self.message_id,
            self.received_at,
            dict(self.variables),
            self.request,
            self.charset,
            self.unmappable,
        )


#: Outcome of an Ack → its code at the application level.
APPLICATION_CODES = {"accept": AckCode.AA, "error": AckCode.AE, "reject": AckCode.AR}


@dataclass(frozen=True, slots=True)
class Ack:
    """What the sender of a one-way message is told; the source renders it (AA or CA, AE or CE, AR or CR, a status)."""

    #: ``accept`` | ``error`` (understood, refused) | ``reject`` (wrong kind, or the engine is unable)
    outcome: str
    #: HL7 table 0357 code for negative acks.
    condition: int | None = None
    #: ERL text such as ``MSH^1^12``.
    location: str | None = None
    #: Stable word of the reason (``malformed``, ``too_large``, ``store_unavailable``, ``step_failed``); for the log.
    cause: str = ""
    #: A partner's own answer, which is passed on instead.
    answer: bytes = field(default=b"", repr=False)
    #: The acknowledgement as it goes out, made already: that of a batch.
    rendered: bytes = field(default=b"", repr=False)

    @property
    def positive(self) -> bool:
        """Whether the message was taken."""
        return self.outcome == "accept"

    @property
    def application_code(self) -> AckCode:
        """AA, AE or AR of HL7 table 0008."""
        return APPLICATION_CODES[self.outcome]

    @property
    def accept_code(self) -> AckCode:
        """CA, CE or CR: the same outcome at the accept level."""
        return AckCode("C" + self.application_code.value[1])


ACCEPT = Ack("accept")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller of a request/response channel gets back."""

    status: int
    #: A JSON value.
    body: Any = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Error code of the table, None for success.
    code: str | None = None


@dataclass(slots=True)
class Receipt:
    """What the engine gives a source for the bytes it handed over.

    ``committed`` ends with commit 1 (or the refusal): enhanced mode's accept ack. ``answer`` ends when the channel's
    ``ack:`` (or ``reply:``) says so. Neither ever raises: failures are negative Acks or Replies.
    """

    correlation_id: str
    message_id: int
    committed: Promise[Ack]
    answer: Promise[Ack | Reply]
    #: MSH as it was received; None for what is no HL7, or was not looked at.
    header: Header | None = None
    #: It is of many messages: what its sender sends next is to be handed over after ``committed``.
    batch: bool = False


class Receive(Protocol):
    """The engine's door for sources. Returns at once; order of calls is the order of commit 1."""

    def __call__(self, body: bytes | bytearray, origin: Origin) -> Receipt:
        """Take one message in."""
        ...

    def refuse(self, origin: Origin, code: str, body: bytes = b"") -> None:
        """Record that something was answered negatively and never accepted (state ``refused``)."""
        ...


#: Makes control ids (MSH-10) for outgoing messages and acknowledgements: unique, at most 20 characters.
MakeControlId = Callable[[], str]
