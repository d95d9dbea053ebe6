"""Idempotency keys of one request/response channel: what they stand for, and what resolves or forgets them.

Systems.md D.4. A key belongs to one API key, lives with the hash of the request's body, and points at the delivery that
carries the MSH-10: a repeat sends the very same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from engine.config.plan import IdempotencyPlan
from engine.envelope import Envelope
from engine.store.base import KeyRow, Store
from engine.transforms.base import Context

_in_one_order = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode

#: Scalar members of a request that are remembered for matching; more are ignored.
MEMBERS = 50


def members_of(request: Any) -> dict[str, str]:
    """The scalar members of a request: ``body.patient.mrn`` → text."""
    found: dict[str, str] = {}
    if isinstance(request, dict):
        _find(request, "body.", found)
    elif _is_scalar(request):
        found["body"] = str(request)
    return found


def _find(members: dict[str, Any], prefix: str, found: dict[str, str]) -> None:
    for name, value in members.items():
        if isinstance(value, dict):
            _find(value, f"{prefix}{name}.", found)
        elif _is_scalar(value) and len(found) < MEMBERS:
            found[prefix + name] = str(value)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def digest(request: Any) -> bytes:
    """The hash that tells whether two requests under one key are the same."""
    return hashlib.sha256(_in_one_order(request).encode()).digest()


def expires_at(plan: IdempotencyPlan, envelope: Envelope, context: Context) -> float:
    """When the key may be forgotten: at least so long, and until the moment the request names."""
    earliest = context.now.timestamp() + plan.at_least
    moment = _instant(plan.until.text(envelope, context)) if plan.until is not None else None
    return max(earliest, moment.timestamp()) if moment is not None and moment.tzinfo is not None else earliest


def same(one: str, other: str) -> bool:
    """Equal as text, or as moments (an SIU's start and a request's start are written differently)."""
    if one == other:
        return True
    left, right = _instant(one), _instant(other)
    if left is None or right is None or (left.tzinfo is None) != (right.tzinfo is None):
        return False
    return left == right


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def matching(store: Store, channel: str, match: Mapping[str, tuple[str, ...]], now: float) -> Iterator[KeyRow]:
    """Live keys of ``channel`` whose request has one of the candidates for every member of ``match``."""
    first, *others = match.items()
    member, candidates = first
    seen: set[int] = set()
    for candidate in candidates:
        if not candidate:
            continue
        for row in store.find_keys(channel, member, candidate, now):
            if row.message_id not in seen and _has(store, row, others):
                seen.add(row.message_id)
                yield row


def _has(store: Store, row: KeyRow, wanted: list[tuple[str, tuple[str, ...]]]) -> bool:
    if not wanted:
        return True
    members = members_of(json.loads(store.message_body(row.message_id)))
    return all(any(same(members.get(name, ""), value) for value in values if value) for name, values in wanted)
