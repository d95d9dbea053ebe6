"""MSH alone: what an acknowledgement, a mode or a sender is read from, without reading the rest of a message.

The segment is cut off before it is decoded; in UTF-16 and UTF-32, where a CR takes two or four bytes, the message is
read whole. HL7 v2.5.1 §2.15.9.
"""

from __future__ import annotations

from engine.errors import MalformedMessage
from engine.hl7.bulk import LARGE, Bulk
from engine.hl7.charset import wide_codec
from engine.hl7.message import Message

#: MSH begins within so many bytes, behind what real senders put before it.
_NEAR = 64


def header_of(raw: bytes | bytearray) -> Message | None:
    """The message with its MSH alone; None for what is no HL7."""
    begin = max(raw.find(b"MSH", 0, _NEAR), 0)
    end = raw.find(b"\r", begin)
    end = len(raw) if end < 0 else end
    feed = raw.find(b"\n", begin, end)  # not beyond: the rest may be large
    wide = wide_codec(bytes(raw[:16]))
    for text in (raw,) if wide else (raw[begin : end if feed < 0 else feed], raw):
        try:
            return Message.parse(bytes(text) if len(text) < LARGE else Bulk(text))
        except MalformedMessage:
            continue
    return None


def is_acknowledgement(header: Message | None, raw: bytes | bytearray) -> bool:
    """Whether this is an ACK itself: those are never acknowledged, or two engines would never stop."""
    if header is None or header.type != "ACK":
        return False
    if b"\rMSA" in raw or b"\nMSA" in raw:
        return True
    return wide_codec(bytes(raw[:16])) is not None and "MSA" in Message.parse(bytes(raw)).names()


def sender_of(header: Message) -> tuple[str, str]:
    """MSH-3 and MSH-4 as they stand: who numbered the message."""
    return header.read("MSH-3") or "", header.read("MSH-4") or ""
