"""What the received bytes are: an HL7 message, JSON, or plain bytes; and how an envelope's body becomes bytes again."""

from __future__ import annotations

import json
from typing import Any

from engine.config.plan import ChannelPlan
from engine.envelope import Envelope, Origin
from engine.errors import MalformedMessage
from engine.hl7.bulk import LARGE, Bulk, Pieces
from engine.hl7.charset import decode, wide_codec
from engine.hl7.message import Message
from engine.store.base import MessageRow

#: Characters that real senders put before MSH.
_LEADING = b" \t\r\n\xef\xbb\xbf"


def parse(body: bytes | Bulk, origin: Origin, charset: str | None, *, split: bool = True) -> Message | Any:
    """An HL7 message for what begins with MSH (always on MLLP), else a JSON value, else the bytes themselves.

    ``split``: see ``Message.usual``. Raises MalformedMessage when it must be HL7 and is not.
    """
    if isinstance(body, bytes) and body.startswith(b"MSH"):  # and so in no wide characters: most messages do
        usual = Message.usual(body, split=split) if charset is None and len(body) < LARGE else None
        return usual or Message.parse(body, charset)
    if origin.json is not None:
        return origin.json
    if not body and origin.source != "mllp":
        return None
    head = body.data[:64] if isinstance(body, Bulk) else body
    if origin.source == "mllp" and not isinstance(body, Bulk):
        _check_whole(body)
    if origin.source == "mllp" or head.lstrip(_LEADING)[:3] == b"MSH":
        return Message.parse(body, charset)
    if isinstance(body, Bulk):
        body = bytes(body.data)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _check_whole(body: bytes) -> None:
    """Raises MalformedMessage for UTF-16 or UTF-32 that does not end with a segment.

    Its bytes may hold the end of a frame in the middle of a character, and MLLP cuts there: half of a message must not
    be taken for the whole.
    """
    wide = wide_codec(body[:16])
    if wide and not decode(body, wide)[0].endswith(("\r", "\n")):
        raise MalformedMessage("UTF-16 or UTF-32 without a segment's end: MLLP may have cut it", len(body))


def read_back(plan: ChannelPlan, row: MessageRow, body: bytes | Bulk) -> Envelope:
    """The envelope of a stored message, as it was when it was received."""
    stored: dict[str, Any] = dict(row.origin)
    origin = Origin(
        stored.get("source", ""),
        stored.get("peer", ""),
        stored.get("headers", {}),
        stored.get("query", {}),
        stored.get("api_key", ""),
        row.correlation_id,
        batch=stored.get("batch", {}),
    )
    parsed = parse(body, origin, plan.charset)
    request = None if isinstance(parsed, bytes) or row.message_type else parsed
    return Envelope(parsed, origin, row.correlation_id, plan.name, row.message_id, row.received_at, request=request)


def encode(envelope: Envelope) -> tuple[bytes | Pieces, str, str]:
    """Bytes (of a large body in pieces), content type and control id (MSH-10, else empty). Raises Unmappable."""
    body = envelope.body
    if isinstance(body, Message):
        raw = body.to_body(envelope.charset, envelope.unmappable)
        return raw, "application/hl7-v2", body.control_id
    if isinstance(body, bytes):
        return body, "application/octet-stream", ""
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8", ""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), "application/json", ""
