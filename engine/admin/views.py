"""Rows of the store and states of channels, as JSON values.

Pure. What is shown of a message are ids, types, states and codes: never its ordering key, query or headers, which may
name a patient. ``text_of`` is the one door to content, for ``bodies=1``. Times are ISO 8601 in UTC, names are the words
of the store's contract (``engine/store/base.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from engine.envelope import Reply
from engine.errors import Evidence, MalformedMessage
from engine.hl7.message import Message
from engine.runtime.disk import DiskWatch
from engine.runtime.pruning import Numbers, Run
from engine.store.audit import AuditRow
from engine.store.base import DeliveryRow, MessageRow, Store
from engine.store.process.state import ProcessNow


def moment(seconds: float | None) -> str | None:
    """Seconds since the epoch as ``2026-11-20T09:30:00.125Z``; None and 0 (never) are None."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message_view(row: MessageRow, deliveries: Sequence[DeliveryRow]) -> dict[str, Any]:
    """One message, with a line about each of its deliveries."""
    return {
        "id": row.message_id,
        "channel": row.channel,
        "correlation_id": row.correlation_id,
        "control_id": row.control_id,
        "type": row.message_type,
        "state": str(row.state),
        "cause": row.cause,
        "received_at": moment(row.received_at),
        "routed_at": moment(row.routed_at),
        "ack": row.ack,
        "source": row.origin.get("source", ""),
        "peer": row.origin.get("peer", ""),
        "api_key": row.origin.get("api_key", ""),
        "identity": row.origin.get("identity", ""),
        "batch": row.origin.get("batch", {}),
        "bodies_removed_at": moment(row.bodies_removed_at),
        "deliveries": [
            {"id": delivery.delivery_id, "destination": delivery.destination, "state": str(delivery.state)}
            for delivery in deliveries
        ],
    }


def delivery_view(row: DeliveryRow) -> dict[str, Any]:
    """One delivery."""
    return {
        "id": row.delivery_id,
        "message_id": row.message_id,
        "channel": row.channel,
        "destination": row.destination,
        "correlation_id": row.correlation_id,
        "control_id": row.control_id,
        "content_type": row.content_type,
        "state": str(row.state),
        "cause": row.cause,
        "attempts": row.attempts,
        "next_at": moment(row.next_at),
        "created_at": moment(row.created_at),
        "sent_at": moment(row.sent_at),
        "settled_at": moment(row.settled_at),
        "codes": codes_view(row.evidence),
        "may_be_duplicated": row.may_be_duplicated,
    }


def audit_view(row: AuditRow) -> dict[str, Any]:
    """One entry of the audit trail; what it does not have is left out."""
    known = {
        "id": row.entry_id,
        "time": moment(row.at),
        "act": row.act,
        "who": row.who,
        "channel": row.channel,
        "message_id": row.message_id,
        "delivery_id": row.delivery_id,
        **row.facts,
        "hash": row.hash,
    }
    return {name: value for name, value in known.items() if value not in ("", None)}


def codes_view(evidence: Evidence | None) -> dict[str, str]:
    """The codes of a partner's answer; its texts stay where they are."""
    if evidence is None:
        return {}
    codes = {
        "ack": evidence.ack,
        "condition": evidence.condition,
        "location": evidence.location,
        "application_error": evidence.application_error,
    }
    return {name: code for name, code in codes.items() if code}


def channel_view(status: Any) -> dict[str, Any]:
    """A ChannelStatus of the supervisor, with its destinations."""
    view = dataclasses.asdict(status)
    for destination in view["destinations"]:
        destination["paused_since"] = moment(destination["paused_since"])
    return view


def reply_view(reply: Reply) -> dict[str, Any]:
    """A channel's reply, its HTTP status inside."""
    return {"status": reply.status, "code": reply.code, "headers": dict(reply.headers), "body": reply.body}


def text_of(body: bytes) -> str:
    """Stored bytes as text: in the charset the message names, else UTF-8, else Latin-1 (no byte is lost)."""
    try:
        return body.decode(declared_charset(body) or "utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def declared_charset(body: bytes) -> str | None:
    """The Python codec of MSH-18; None for what is no HL7 message or names no charset."""
    try:
        message = Message.parse(body, default_charset="utf-8")
    except MalformedMessage:
        return None
    return message.charset


def disk_view(disk: DiskWatch) -> dict[str, Any]:
    """What is left of the disk: ``ok`` or ``low``; numbers where they can be seen."""
    space = disk.look()
    numbers = {} if space is None else {"free_bytes": space.free, "total_bytes": space.total}
    return {"state": "low" if disk.low else "ok", **numbers}


def process_view(process: ProcessNow) -> dict[str, Any]:
    """The process that writes, as ``ProcessState`` has it."""
    return {"state": process.state, "pid": process.pid}


def pruned_view(run: Run) -> dict[str, Any]:
    """What one run of pruning removed: messages, contents alone, bytes."""
    return {
        "began_at": moment(run.began),
        "ended_at": moment(run.ended),
        "pruned": _numbers(run.messages),
        "bodies": _numbers(run.bodies),
        "bytes": run.size,
        "bytes_given_back": run.given_back,
    }


def _numbers(numbers: Numbers) -> list[dict[str, Any]]:
    return [
        {"channel": channel, "kept_as": word, "number": number} for (channel, word), number in sorted(numbers.items())
    ]


def keys_view(store: Store) -> dict[str, Any]:
    """The keys of the store, by number; what they are is kept elsewhere."""
    keys = store.store_keys()
    return {
        "keys": [
            {
                "number": key.number,
                "in_use": key.number == keys[-1].number,
                "added_at": moment(key.added_at),
                "retired_at": moment(key.retired_at),
                "fingerprint": key.fingerprint,
            }
            for key in keys
        ],
        "sealing_again": store.resealing(),
    }
