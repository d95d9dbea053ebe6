"""One message in motion, and what a source gets back for it.

An Envelope is what transforms work on. A Receipt is what the engine gives a source for the bytes it handed over: two
outcomes, because the acceptance (commit 1) and the answer (whatever ``ack:`` says, or a reply) are separate moments.
Nothing here does I/O.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Protocol

from engine.hl7.ack import AckCode
from engine.hl7.header import Header
from engine.hl7.message import Message
from engine.promise import Promise, told
from engine.values import dataclass

#: A correlation id from outside is used only if it matches as a whole (systems.md D.0).
CORRELATION_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CorrelationIds:
    """Makes ids: UUIDs of version 7 (RFC 9562), which begin with the time; that keeps the store's index in order.

    Those of one millisecond share its 62 random bits and are counted in between (section 6.2, method 1): they rise as
    well, and the system is asked for chance once a millisecond at most.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The next one shares nothing with the last: of two processes after a fork each makes its own."""
        self._moment, self._count, self._begin, self._end = -1, 0, "", ""

    def __call__(self) -> str:
        """A new one."""
        moment = time.time_ns() // 1_000_000
        self._count = count = self._count + 1
        if moment != self._moment or count > 0xFFF:
            self._moment, self._count = moment, 0
            digits, chance = f"{moment:012x}", os.urandom(8).hex()
            self._begin = f"{digits[:8]}-{digits[8:]}-7"
            self._end = f"-{'89ab'[int(chance[0], 16) & 3]}{chance[1:4]}-{chance[4:]}"
            count = 0
        return f"{self._begin}{count:03x}{self._end}"


#: A new correlation id.
new_correlation_id = CorrelationIds()
os.register_at_fork(after_in_child=new_correlation_id.forget)


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
    #: What the store keeps of it: made once for whatever comes over one connection.
    record: Mapping[str, Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        record: dict[str, Any] = {"source": self.source, "peer": self.peer}
        if self.api_key:
            record["api_key"] = self.api_key
        if self.identity:
            record["identity"] = self.identity
        if self.query:
            record["query"] = dict(self.query)
        if self.headers:
            record["headers"] = dict(self.headers)
        if self.batch:
            record["batch"] = dict(self.batch)
        object.__setattr__(self, "record", record)


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
_ACCEPT_CODES = {"accept": AckCode.CA, "error": AckCode.CE, "reject": AckCode.CR}


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
    #: Whether the message was taken.
    positive: bool = field(init=False, compare=False, repr=False)
    #: AA, AE or AR of HL7 table 0008.
    application_code: AckCode = field(init=False, compare=False, repr=False)
    #: CA, CE or CR: the same outcome at the accept level.
    accept_code: AckCode = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positive", self.outcome == "accept")
        object.__setattr__(self, "application_code", APPLICATION_CODES[self.outcome])
        object.__setattr__(self, "accept_code", _ACCEPT_CODES[self.outcome])


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


class Receipt:
    """What the engine gives a source for the bytes it handed over.

    Two outcomes, each told once (what comes after the first is not heard): ``accepted`` with commit 1 or the refusal,
    which is enhanced mode's accept ack; ``answered`` when the channel's ``ack:`` (or ``reply:``) says so. Neither is
    ever an exception: failures are negative Acks or Replies. Who acts on them at once is its ``listener``; who waits
    for one awaits its promise, which is made when it is asked for.
    """

    __slots__ = (
        "_answer", "_committed", "accepted", "answered", "batch", "correlation_id", "header", "listener", "message_id",
    )  # fmt: skip

    def __init__(self, correlation_id: str, message_id: int = 0) -> None:
        self.correlation_id = correlation_id
        self.message_id = message_id
        #: MSH as it was received; None for what is no HL7, or was not looked at.
        self.header: Header | None = None
        #: It is of many messages: what its sender sends next is to be handed over after it was accepted.
        self.batch = False
        #: None until it is known.
        self.accepted: Ack | None = None
        #: None until it is known.
        self.answered: Ack | Reply | None = None
        #: Called each time that one of them becomes known.
        self.listener: Callable[[], object] | None = None
        self._committed: Promise[Ack] | None = None
        self._answer: Promise[Ack | Reply] | None = None

    @property
    def committed(self) -> Promise[Ack]:
        """The promise of ``accepted``."""
        if self._committed is None:
            self._committed = _promise(self.accepted)
        return self._committed

    @property
    def answer(self) -> Promise[Ack | Reply]:
        """The promise of ``answered``."""
        if self._answer is None:
            self._answer = _promise(self.answered)
        return self._answer

    def accept(self, ack: Ack) -> None:
        """Tell how it was accepted."""
        if self.accepted is None:
            self.accepted = ack
            if self._committed is not None:
                self._committed.set_result(ack)
            self._tell()

    def finish(self, answer: Ack | Reply) -> None:
        """Tell the answer."""
        if self.answered is None:
            self.answered = answer
            if self._answer is not None:
                self._answer.set_result(answer)
            self._tell()

    def settle(self, ack: Ack) -> None:
        """Tell both of them the same; the listener hears of it once."""
        if self.accepted is None:
            self.accepted = ack
            if self._committed is not None:
                self._committed.set_result(ack)
        if self.answered is None:
            self.answered = ack
            if self._answer is not None:
                self._answer.set_result(ack)
        if self.listener is not None:
            told(self.listener)

    def _tell(self) -> None:
        if self.listener is not None:
            told(self.listener)


def _promise(outcome: Any) -> Promise[Any]:
    return Promise() if outcome is None else Promise.of(outcome)


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
