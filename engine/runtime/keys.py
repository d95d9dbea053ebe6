"""Idempotency keys of one request/response channel: what they stand for, and what resolves or forgets them.

Systems.md D.4. A key belongs to one API key, lives with the hash of the request's body, and points at the delivery that
carries the MSH-10: a repeat sends the very same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from engine.config.plan import IdempotencyPlan
from engine.envelope import Envelope
from engine.json_text import writer
from engine.store.base import KeyRow, Store
from engine.transforms.base import Context

_in_one_order = writer(ascii_only=False, sort_keys=True, separators=(", ", ": "))


def member_of(request: Any, name: str) -> str:
    """The scalar member of a request that is called so (``body.patient.mrn``), as text; empty when it has none."""
    value = request
    for member in name.split(".")[1:]:
        value = value.get(member) if isinstance(value, dict) else None
    if type(value) is str:
        return value
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def digest(request: Any) -> bytes:
    """The hash that tells whether two requests under one key are the same."""
    return hashlib.sha256(_in_one_order(request).encode()).digest()


def expires_at(plan: IdempotencyPlan, envelope: Envelope, context: Context, now: float) -> float:
    """When the key may be forgotten: at least so long, and until the moment the request names."""
    earliest = now + plan.at_least
    moment = _instant(plan.until(envelope, context)) if plan.until is not None else None
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


class KeyFinder:
    """Finds the keys of one channel by what their requests said.

    A key is found at once by the members that steps of the site name first in ``match:``. By another one (a site whose
    files have changed, a stranger's step) it is found by a look at all that were opened without it; there are no more
    of them once it was asked for.
    """

    def __init__(self, store: Store, channel: str, members: Iterable[str]) -> None:
        """``members``: those that steps of the site name."""
        self._store, self._channel = store, channel
        #: What keys are opened with.
        self.members = tuple(sorted(members))
        self._from_start = frozenset(members)
        #: Members without which no key is in the store.
        self._in_all: set[str] = set()

    def members_of(self, request: Any) -> dict[str, str]:
        """What the key of this request is found by."""
        return {name: member_of(request, name) for name in self.members}

    def matching(self, match: Mapping[str, tuple[str, ...]], now: float) -> Iterator[KeyRow]:
        """Live keys whose request has one of the candidates for every member of ``match``."""
        (member, candidates), *others = match.items()
        seen: set[int] = set()
        for candidate in candidates:
            if not candidate:
                continue
            for row in self._store.find_keys(self._channel, member, candidate, now):
                if row.message_id not in seen and self._has(row, others):
                    seen.add(row.message_id)
                    yield row
        for row in self._opened_without(member, now):
            if row.message_id not in seen and self._has(row, list(match.items())):
                yield row

    def _opened_without(self, member: str, now: float) -> Sequence[KeyRow]:
        if member in self._in_all:
            return ()
        if member not in self.members:
            self.members = (*self.members, member)
        rows = self._store.keys_without(self._channel, member, now)
        if not rows and member in self._from_start:  # of another one, what is being written may still be without
            self._in_all.add(member)
        return rows

    def _has(self, row: KeyRow, wanted: list[tuple[str, tuple[str, ...]]]) -> bool:
        if not wanted:
            return True
        request = json.loads(self._store.message_body(row.message_id))
        return all(any(same(member_of(request, name), value) for value in values if value) for name, values in wanted)
