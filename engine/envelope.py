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
from engine.hl7.modes import Wanted
from engine.promise import Promise, told
from engine.values import dataclass

#: A correlation id from outside is used only if it matches as a whole (systems.md D.0).
CORRELATION_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Twelve bits in hexadecimal.
_HEX = [f"{number:03x}" for number in range(1 << 12)]


class CorrelationIds:
    """Makes ids: UUIDs of version 7 (RFC 9562), which begin with the time; that keeps the store's index in order.

    The twelve bits behind the millisecond are its fraction (section 6.2, method 3), and each id is above the last one,
    whatever the clock says. The 62 random bits are those of a process for four seconds.

    One that is made for a message ends in the id of that message in decimal, by which the store finds it.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The next one shares nothing with the last: of two processes after a fork each makes its own."""
        self._last, self._era, self._begin, self._middle, self._end = 0, -1, "", "", ""

    def __call__(self, message_id: int = 0) -> str:
        """A new one, for a message where there is one already."""
        moment = time.time_ns() * 4096 // 1_000_000
        if moment <= self._last:
            moment = self._last + 1
        self._last = moment
        if moment >> 24 != self._era:
            self._turn(moment >> 24)
        end = self._middle + str(message_id).zfill(12) if message_id else self._end
        return f"{self._begin}{_HEX[moment >> 12 & 0xFFF]}-7{_HEX[moment & 0xFFF]}{end}"

    def _turn(self, era: int) -> None:
        """Four seconds begin: all digits but those that count within them, and new chance."""
        digits, chance = f"{era:09x}", os.urandom(8).hex()
        self._era, self._begin = era, f"{digits[:8]}-{digits[8:]}"
        self._middle = f"-{'89ab'[int(chance[0], 16) & 3]}{chance[1:4]}-"
        self._end = self._middle + chance[4:]


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
    #: The body as JSON, where the source has read it; None where it has not.
    json: Any = field(default=None, compare=False, repr=False)
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


class Envelope:
    """One message in motion: content, origin, variables, correlation id. Never shown: it is content."""

    #: Seconds since the epoch, of commit 1.
    received_at: float
    #: ``$body``: the JSON as it was received (a dict), whatever ``body`` has become since.
    request: Any = None
    #: Charset to encode an HL7 body in (table 0211 name or codec); None keeps what the message has.
    charset: str | None = None
    #: ``error`` or ``replace``: what to do with a character that ``charset`` lacks.
    unmappable: str = "error"

    def __init__(
        self,
        body: Message | Any,
        origin: Origin,
        correlation_id: str,
        channel: str,
        message_id: int,
        received_at: float,
        variables: dict[str, Any] | None = None,
        request: Any = None,
    ) -> None:
        #: An HL7 message, a JSON value (dict, list, str, …) or plain bytes.
        self.body: Any = body
        self.origin = origin
        self.correlation_id = correlation_id
        self.channel = channel
        self.message_id = message_id
        self.received_at = received_at
        #: ``$name`` in YAML; what steps put there.
        self.variables: dict[str, Any] = {} if variables is None else variables
        self.request = request

    def fork(self) -> Envelope:
        """A copy that one destination may change without the others seeing it."""
        fork = Envelope(
            self.body.copy() if isinstance(self.body, Message) else self.body,
            self.origin,
            self.correlation_id,
            self.channel,
            self.message_id,
            self.received_at,
            dict(self.variables),
            self.request,
        )
        fork.charset, fork.unmappable = self.charset, self.unmappable
        return fork


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
    #: ``body`` as it goes out, where that was needed before.
    rendered: bytes = field(default=b"", compare=False, repr=False)


class Receipt:
    """What the engine gives a source for the bytes it handed over.

    Two outcomes, each told once (what comes after the first is not heard): ``accepted`` with commit 1 or the refusal,
    which is enhanced mode's accept ack; ``answered`` when the channel's ``ack:`` (or ``reply:``) says so. Neither is
    ever an exception: failures are negative Acks or Replies. Who acts on them at once is its ``listener``; who waits
    for one awaits its promise, which is made when it is asked for.
    """

    #: The message's number; 0 while it has none.
    message_id: int = 0
    #: Seconds since the epoch; 0 of what was not taken in.
    received_at: float = 0.0
    #: MSH as it was received; None for what is no HL7, or was not looked at.
    header: Header | None = None
    #: What MSH-15 and MSH-16 ask for; None where nobody has looked.
    wanted: Wanted | None = None
    #: It is of many messages: what its sender sends next is to be handed over after it was accepted.
    batch: bool = False
    #: None until it is known.
    accepted: Ack | None = None
    #: None until it is known.
    answered: Ack | Reply | None = None
    #: Called each time that one of them becomes known.
    listener: Callable[[], object] | None = None
    #: Of its source: its sender is still to be told the one, and the other.
    accept_due: bool = False
    answer_due: bool = False
    #: Somebody awaits one of them.
    _promised: bool = False
    _committed: Promise[Ack] | None = None
    _answer: Promise[Ack | Reply] | None = None

    def __init__(self, correlation_id: str, message_id: int = 0) -> None:
        #: Empty where its source gave none, until ``identify``.
        self.correlation_id = correlation_id
        self.message_id = message_id

    def identify(self) -> str:
        """Its correlation id. One that is made now ends in the message's number, where it has one."""
        if not self.correlation_id:
            self.correlation_id = new_correlation_id(self.message_id)
        return self.correlation_id

    @property
    def committed(self) -> Promise[Ack]:
        """The promise of ``accepted``."""
        if self._committed is None:
            self._promised, self._committed = True, _promise(self.accepted)
        return self._committed

    @property
    def answer(self) -> Promise[Ack | Reply]:
        """The promise of ``answered``."""
        if self._answer is None:
            self._promised, self._answer = True, _promise(self.answered)
        return self._answer

    def accept(self, ack: Ack) -> None:
        """Tell how it was accepted."""
        if self.accepted is None:
            self.note(ack)
            self._tell()

    def finish(self, answer: Ack | Reply) -> None:
        """Tell the answer."""
        if self._note_answered(answer):
            self._tell()

    def settle(self, ack: Ack, answer: Ack | Reply | None = None) -> None:
        """Tell both of them, the same unless ``answer`` is another; the listener hears of it once."""
        self.note(ack, answer or ack)
        self._tell()

    def note(self, ack: Ack, answer: Ack | Reply | None = None) -> None:
        """``accept``, or with an ``answer`` ``settle``, for who calls the listener himself: once for many receipts."""
        if self._promised or self.accepted is not None or self.answered is not None:
            self._note_accepted(ack)
            if answer is not None:
                self._note_answered(answer)
        else:
            self.accepted, self.answered = ack, answer

    def _note_accepted(self, ack: Ack) -> None:
        if self.accepted is None:
            self.accepted = ack
            if self._committed is not None:
                self._committed.set_result(ack)

    def _note_answered(self, answer: Ack | Reply) -> bool:
        if self.answered is not None:
            return False
        self.answered = answer
        if self._answer is not None:
            self._answer.set_result(answer)
        return True

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
