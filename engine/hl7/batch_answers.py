"""What is answered to a batch, made and read: a batch of acknowledgements, or one for the whole (HL7 v2.5.1 §2.10.3.2).

The field that names the batch that is answered is BHS-12 (FHS-12 of a file). Whose ack each is, MSA-2 says, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from engine.errors import MalformedMessage
from engine.hl7.ack import in_charset_of
from engine.hl7.batch import Batch, Split, header_line, is_batch, join, reading, split
from engine.hl7.escape import translate
from engine.hl7.header import Header, header_of
from engine.hl7.message import Message


def request_of(parts: Split, body: bytes | bytearray) -> Header:
    """A header under which the whole is acknowledged: sender and receiver of BHS-3 to BHS-6 (else of FHS).

    MSH-10 is BHS-11, else FHS-11, else that of the first message; version, charset and processing id are the first
    message's, as a batch has none of its own.
    """
    file, batch = next(iter(parts.batches), (parts.files[0], Batch()))
    first = _first_message(parts, body)
    names = [reading(file.header), reading(batch.header)] if len(file.batches) > 1 else []
    names = names or [reading(batch.header), reading(file.header)]
    parties = next((header for header in (*names, first) if any(header.several((3, 4, 5, 6)))), first)
    named, field_number = next(((header, 11) for header in names if header.read(11)), (first, 10))
    marks = parties.separators

    def said(header: Header, number: int) -> str:
        return translate(header.read(number), header.separators, marks)  # each may have delimiters of its own

    fields = ["MSH", marks.encoding_characters, *parties.several((3, 4, 5, 6)), "", "", "", said(named, field_number)]
    fields += [said(first, 11) or "P", said(first, 12) or "2.3"]
    return Header(fields, marks, first.codec)


def _first_message(parts: Split, body: bytes | bytearray) -> Header:
    for member in parts.members:
        found = header_of(bytes(body[member.start : member.stop]))
        if found is not None:
            return found
    return Header.empty()


def answer(
    parts: Split, acks: Iterable[Sequence[bytes]], whole: Header, make_control_id: Callable[[], str], now: datetime
) -> bytes:
    """The batch of acknowledgements: one batch for each that came, with the ``acks`` of each, in files as they came.

    ``whole`` (``request_of``) says to whom, where a batch has no header of its own.
    """
    given = iter(acks)
    pieces: list[bytes] = []
    for file in parts.files:
        batches = [
            join(next(given), _header("BHS", reading(batch.header), whole, make_control_id(), now))
            for batch in file.batches
        ]
        if file.header:
            head = _header("FHS", reading(file.header), whole, make_control_id(), now)
            trailer = b"FTS%b%d\r" % (head[3:4], len(batches))
            batches = [head, *batches, trailer]
        pieces += batches
    return b"".join(pieces)


def wrapped(ack: bytes, whole: Header, make_control_id: Callable[[], str], now: datetime) -> bytes:
    """One ack for the whole as the only member of a batch: for one who expects a batch as the answer."""
    head = header_line("BHS", whole.separators, whole.several((5, 6, 3, 4)), now, make_control_id(), whole.read(10))
    return join([ack], in_charset_of(whole, [head]))


def _header(name: str, request: Header, whole: Header, control_id: str, now: datetime) -> bytes:
    """FHS or BHS of an answer: sender and receiver have changed places."""
    back = (5, 6, 3, 4)
    parties = request if any(request.several(back)) else whole
    reference = request.read(11)
    line = header_line(name, parties.separators, parties.several(back), now, control_id, reference)
    return in_charset_of(parties, [line])


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What a partner answered to a batch."""

    #: BHS-12 and FHS-12: the control ids of what is answered.
    references: frozenset[str]
    #: MSA-2 → the message that says it. Where several have none, one of them that is negative.
    acks: dict[str, bytes] = field(repr=False)


def read_answer(raw: bytes) -> BatchAnswer | None:
    """A batch of acknowledgements; None for what is no batch. MalformedMessage where its members name nothing."""
    if not is_batch(raw):
        return None
    parts = split(raw)
    headers = [reading(line) for file, batch in parts.batches for line in (file.header, batch.header) if line]
    headers += [reading(file.header) for file in parts.files if not file.batches]
    acks: dict[str, bytes] = {}
    for member in parts.members:
        message = raw[member.start : member.stop]
        name, positive = _answered(message)
        if name or not positive or name not in acks:
            acks[name] = message
    return BatchAnswer(frozenset(found for head in headers if (found := head.value(12))), acks)


def _answered(message: bytes) -> tuple[str, bool]:
    """MSA-2, and whether MSA-1 is positive. MalformedMessage."""
    statuses = Message.parse(message).segments("MSA")
    if not statuses:
        raise MalformedMessage("no MSA segment")
    return statuses[0].value("MSA-2").strip(), statuses[0].value("MSA-1").strip() in ("AA", "CA")
