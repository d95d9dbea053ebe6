"""MSH alone: what an acknowledgement, a mode or a sender is read from, without reading the rest of a message.

A Header never changes, so it can be kept while its message is worked on. To get it from bytes the segment is cut off
before it is decoded; in UTF-16 and UTF-32, where a CR takes two or four bytes, the message is read whole. HL7 v2.5.1
§2.15.9.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.errors import MalformedMessage
from engine.hl7 import wire
from engine.hl7.charset import wide_codec
from engine.hl7.segment import as_data
from engine.hl7.separators import Separators

#: MSH begins within so many bytes, behind what real senders put before it.
_NEAR = 64


class Kind:
    """What is the same in every header that differs in MSH-7, 8, 10, 13 and 14 only: those of one sender and event."""

    __slots__ = ("memo",)

    def __init__(self) -> None:
        #: For who makes something of such headers.
        self.memo: dict[Any, Any] = {}


#: A peer chooses what stands in its headers, so the table must not grow with its fancies.
_MOST_KINDS = 1024
_KINDS: dict[tuple[str, ...], Kind] = {}


class Header:
    """The MSH segment of a message. Field numbers are the standard's: 3 is the first behind the delimiters."""

    __slots__ = ("_control_id", "_fields", "_kind", "_version", "codec", "line", "separators")

    def __init__(self, line: str, separators: Separators, codec: str) -> None:
        #: The segment as it stands, without its end.
        self.line = line
        self.separators = separators
        #: The Python codec that the message is read with.
        self.codec = codec
        self._fields = line.split(separators.field)
        self._kind: tuple[str, str] | None = None
        self._control_id: str | None = None
        self._version: str | None = None

    @classmethod
    def empty(cls) -> Header:
        """A header of nothing but the usual delimiters, for what had none that could be read."""
        separators = Separators.default
        return cls(f"MSH{separators.field}{separators.encoding_characters}", separators, "ascii")

    def read(self, field: int) -> str:
        """HL7 text of a field from MSH-3 on as it stands, still escaped; "" when it is absent."""
        try:
            return self._fields[field - 1]
        except IndexError:
            return ""

    @property
    def fields(self) -> list[str]:
        """What stands between its delimiters, the name of the segment first; not to be changed."""
        return self._fields

    @property
    def kind(self) -> Kind:
        """Shared by the headers of a kind, as far as their delimiters are the usual ones."""
        if self.separators is not Separators.default:
            return Kind()
        fields = self._fields
        key = (*fields[:6], *fields[8:9], *fields[10:12], *fields[14:])
        kind = _KINDS.get(key)
        if kind is None:
            if len(_KINDS) >= _MOST_KINDS:
                _KINDS.clear()
            kind = _KINDS[key] = Kind()
        return kind

    def several(self, numbers: Iterable[int]) -> list[str]:
        """``read`` for several fields."""
        fields = self._fields
        there = len(fields)
        return [fields[number - 1] if number <= there else "" for number in numbers]

    def but(self, *numbers: int) -> str:
        """The segment with these fields, in rising order, empty."""
        fields = self._fields.copy()
        for number in numbers:
            if number <= len(fields):
                fields[number - 1] = ""
        return self.separators.field.join(fields)

    def part(self, field: int, component: int) -> str:
        """HL7 text of a component of the first repetition; "" when it is absent."""
        text = self.read(field)
        if text.isalnum():
            return text if component == 1 else ""
        separators = self.separators
        if separators.repetition in text:
            text = text.partition(separators.repetition)[0]
        parts = text.split(separators.component, component)
        return parts[component - 1] if component <= len(parts) else ""

    def value(self, field: int, component: int | None = None) -> str:
        """The same as data: unescaped; "" when absent, empty or null."""
        text = self.read(field) if component is None else self.part(field, component)
        return as_data(text, self.separators, self.codec) if text else ""

    @property
    def type(self) -> str:
        """MSH-9.1, such as ``SIU``."""
        return (self._kind or self._read_kind())[0]

    @property
    def event(self) -> str:
        """MSH-9.2, such as ``S12``."""
        return (self._kind or self._read_kind())[1]

    @property
    def message_type(self) -> str:
        """MSH-9.1 and MSH-9.2, such as ``SIU^S12``."""
        kind, event = self._kind or self._read_kind()
        return f"{kind}^{event}" if event else kind

    def _read_kind(self) -> tuple[str, str]:
        kind = self._kind = (self.value(9, 1), self.value(9, 2))
        return kind

    @property
    def control_id(self) -> str:
        """MSH-10."""
        if self._control_id is None:
            self._control_id = self.value(10)
        return self._control_id

    @property
    def version(self) -> str:
        """MSH-12.1, such as ``2.5.1``."""
        if self._version is None:
            self._version = self.value(12, 1)
        return self._version

    @property
    def sender(self) -> tuple[str, str]:
        """MSH-3 and MSH-4 as they stand: who numbered the message."""
        return self.read(3), self.read(4)

    def __repr__(self) -> str:
        return f"<Header, {len(self._fields)} fields>"


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
    return Header(wire.lines_of(decoded.text)[0], separators, decoded.codec)


def is_acknowledgement(raw: bytes | bytearray) -> bool:
    """Whether this is an ACK itself: those are never acknowledged, or two engines would never stop."""
    wide = wide_codec(raw[:16])
    if not wide and b"\rMSA" not in raw and b"\nMSA" not in raw:
        return False
    # A batch of acknowledgements is one too: its first message tells.
    header = header_of(_first_line(raw) if raw[:3] in (b"FHS", b"BHS") else raw)
    if header is None or header.type != "ACK":
        return False
    return not wide or "\rMSA" in wire.decode(bytes(raw), None, "ascii").text.replace("\n", "\r")


def _first_line(batch: bytes | bytearray) -> bytes:
    """The first MSH of a batch; empty for none."""
    begin = max(batch.find(b"\rMSH"), batch.find(b"\nMSH")) + 1
    if not begin:
        return b""
    end = batch.find(b"\r", begin)
    return bytes(batch[begin : len(batch) if end < 0 else end])
