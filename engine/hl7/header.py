"""MSH alone: what an acknowledgement, a mode or a sender is read from, without reading the rest of a message.

A Header never changes, so it can be kept while its message is worked on. To get it from bytes the segment is cut off
before it is decoded; in UTF-16 and UTF-32, where a CR takes two or four bytes, the message is read whole. HL7 v2.5.1
§2.15.9.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from operator import itemgetter
from typing import Any

from engine.errors import MalformedMessage
from engine.hl7 import wire
from engine.hl7.bulk import LARGE
from engine.hl7.charset import wide_codec
from engine.hl7.escape import as_data
from engine.hl7.modes import Wanted, wanted_with
from engine.hl7.separators import Separators

#: MSH begins within so many bytes, behind what real senders put before it.
_NEAR = 64


class Kind:
    """What all messages of one sender and one type share: their MSH but for time, security, control id and sequence."""

    __slots__ = ("event", "memo", "message_type", "sender", "type", "version", "wanted")

    def __init__(self, header: Header) -> None:
        #: MSH-9.1, such as ``SIU``.
        self.type = header.value(9, 1)
        #: MSH-9.2, such as ``S12``.
        self.event = header.value(9, 2)
        #: MSH-9.1 and MSH-9.2, such as ``SIU^S12``.
        self.message_type = f"{self.type}^{self.event}" if self.event else self.type
        #: MSH-12.1, such as ``2.5.1``.
        self.version = header.value(12, 1)
        #: MSH-3 and MSH-4 as they stand: who numbered the message.
        self.sender = (header.read(3), header.read(4))
        #: What MSH-15 and MSH-16 ask for.
        self.wanted = wanted_with(header.read(15), header.read(16))
        #: What is worked out from these alone, by whoever works it out.
        self.memo: dict[Hashable, Any] = {}


#: Kinds by the fields that make them. Partners choose what stands there, so neither their number nor their size grows.
_KINDS: dict[tuple[str, tuple[str, ...]], Kind] = {}
MOST_KINDS, _LONGEST = 512, 1024
#: Where the fields stand that differ from message to message of a kind: MSH-7, MSH-8, MSH-10, MSH-13 and MSH-14.
_OWN = frozenset({6, 7, 9, 12, 13})
#: By the number of fields: what takes those that make a kind. Headers with more, which no version has, are no kind.
_MOST_FIELDS = 64
_COMMON = [itemgetter(*(at for at in range(max(number, 1)) if at not in _OWN)) for number in range(_MOST_FIELDS + 1)]


class Header:
    """The MSH segment of a message. Field numbers are the standard's: 3 is the first behind the delimiters."""

    __slots__ = ("codec", "control_id", "fields", "kind", "separators")

    def __init__(self, fields: list[str], separators: Separators, codec: str) -> None:
        """``fields`` is what the segment is split into, which belongs to the header then."""
        self.separators = separators
        #: The Python codec that the message is read with.
        self.codec = codec
        #: MSH-9 at index 8; not to be changed.
        self.fields = fields
        number, usual = len(fields), separators is Separators.default
        #: MSH-10.
        self.control_id = named = fields[9] if number > 9 else ""
        if not named.isalnum():
            self.control_id = as_data(named, separators, codec)
        #: What it has in common with other messages of its sender and type; one object for all of them.
        if usual and number <= _MOST_FIELDS:
            self.kind = _KINDS.get((codec, _COMMON[number](fields))) or _new_kind(self)
        else:
            self.kind = Kind(self)

    @classmethod
    def of(cls, line: str, separators: Separators, codec: str) -> Header:
        """Of the segment as it stands, without its end."""
        return cls(line.split(separators.field), separators, codec)

    @classmethod
    def empty(cls) -> Header:
        """A header of nothing but the usual delimiters, for what had none that could be read."""
        separators = Separators.default
        return cls(["MSH", separators.encoding_characters], separators, "ascii")

    def read(self, field: int) -> str:
        """HL7 text of a field from MSH-3 on as it stands, still escaped; "" when it is absent."""
        fields = self.fields
        return fields[field - 1] if field <= len(fields) else ""

    def several(self, numbers: Iterable[int]) -> list[str]:
        """``read`` for several fields."""
        return [self.read(number) for number in numbers]

    def part(self, field: int, component: int) -> str:
        """HL7 text of a component of the first repetition; "" when it is absent."""
        parts = self.read(field).partition(self.separators.repetition)[0].split(self.separators.component, component)
        return parts[component - 1] if component <= len(parts) else ""

    def value(self, field: int, component: int | None = None) -> str:
        """The same as data: unescaped; "" when absent, empty or null."""
        text = self.read(field) if component is None else self.part(field, component)
        return as_data(text, self.separators, self.codec)

    @property
    def type(self) -> str:
        """MSH-9.1, such as ``SIU``."""
        return self.kind.type

    @property
    def event(self) -> str:
        """MSH-9.2, such as ``S12``."""
        return self.kind.event

    @property
    def message_type(self) -> str:
        """MSH-9.1 and MSH-9.2, such as ``SIU^S12``."""
        return self.kind.message_type

    @property
    def version(self) -> str:
        """MSH-12.1, such as ``2.5.1``."""
        return self.kind.version

    @property
    def sender(self) -> tuple[str, str]:
        """MSH-3 and MSH-4 as they stand: who numbered the message."""
        return self.kind.sender

    @property
    def wanted(self) -> Wanted:
        """What MSH-15 and MSH-16 ask for."""
        return self.kind.wanted

    def __repr__(self) -> str:
        return f"<Header, {len(self.fields)} fields>"


def _new_kind(header: Header) -> Kind:
    """Kept for the messages that follow, if it is small."""
    kind, common = Kind(header), _COMMON[len(header.fields)](header.fields)
    if sum(map(len, common)) <= _LONGEST:
        if len(_KINDS) >= MOST_KINDS:
            _KINDS.clear()
        _KINDS[header.codec, common] = kind
    return kind


def header_of(raw: bytes | bytearray) -> Header | None:
    """The MSH of a message; None for what is no HL7."""
    begin = max(raw.find(b"MSH", 0, _NEAR), 0)
    end = raw.find(b"\r", begin)
    end = len(raw) if end < 0 else end
    feed = raw.find(b"\n", begin, end)  # not beyond: the rest may be large
    line = raw if wide_codec(raw[:16]) else raw[begin : end if feed < 0 else feed]
    try:
        decoded = wire.decode(bytes(line), None, "ascii")
        separators = Separators.of(decoded.text)
    except MalformedMessage:
        return None
    return Header.of(wire.lines_of(decoded.text)[0], separators, decoded.codec)


def is_acknowledgement(raw: bytes | bytearray) -> bool:
    """Whether this is an ACK itself: those are never acknowledged, or two engines would never stop."""
    wide = wide_codec(raw[:16])
    # Looking through 50 MB takes two tenths of a second: only where the header says that it is one.
    is_large = len(raw) >= LARGE
    if not wide and not is_large and not _has_msa(raw):
        return False
    # A batch of acknowledgements is one too: its first message tells.
    header = header_of(_first_line(raw) if raw[:3] in (b"FHS", b"BHS") else raw)
    if header is None or header.type != "ACK":
        return False
    if wide:
        return "\rMSA" in wire.decode(bytes(raw), None, "ascii").text.replace("\n", "\r")
    return not is_large or _has_msa(raw)


def _has_msa(raw: bytes | bytearray) -> bool:
    return b"\rMSA" in raw or b"\nMSA" in raw


def _first_line(batch: bytes | bytearray) -> bytes:
    """The first MSH of a batch; empty for none."""
    begin = max(batch.find(b"\rMSH"), batch.find(b"\nMSH")) + 1
    if not begin:
        return b""
    end = batch.find(b"\r", begin)
    return bytes(batch[begin : len(batch) if end < 0 else end])
