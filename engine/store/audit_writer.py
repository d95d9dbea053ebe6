"""Appends to the audit trail and purges what is older than it is kept; the one place that moves the trail's head."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

from engine.store import keeping
from engine.store.audit import Act, Audit, PurgeAudit, Who
from engine.store.chain import Head, chained, head_of
from engine.store.crypto import Crypto

_FACTS = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode
_INSERT = """
INSERT INTO audit (id, at, act, who, channel, message_id, delivery_id, facts, hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class AuditWriter:
    """Executes the operations of the audit trail inside the store's transaction."""

    def __init__(self, cursor: sqlite3.Cursor, crypto: Crypto) -> None:
        self._cursor, self._crypto = cursor, crypto

    def append(self, audit: Audit) -> None:
        """One more entry."""
        head = head_of(self._cursor.connection)
        columns = (
            head.last_id + 1,
            round(audit.at * 1000),
            audit.act.value,
            audit.who.text,
            audit.channel,
            audit.message_id,
            audit.delivery_id,
            _FACTS(audit.facts()),
        )
        digest = chained(head.last_hash, columns)
        self._cursor.execute(_INSERT, (*columns, digest))
        self._move(replace(head, last_id=head.last_id + 1, last_hash=digest))

    def purge(self, purge: PurgeAudit) -> None:
        """Remove a prefix; nothing when the oldest entry is young enough."""
        head = head_of(self._cursor.connection)
        before = round(purge.before * 1000)
        removed = 0
        for entry_id, at, digest in self._cursor.execute(
            keeping.OLDEST_AUDIT, (head.purged_id, purge.limit)
        ).fetchall():
            if at >= before:
                break
            removed, head = removed + 1, replace(head, purged_id=entry_id, purged_hash=digest)
        if not removed:
            return
        numbers = {"removed": removed, "up_to": head.purged_id}
        self.append(Audit(Act.AUDIT_PURGED, Who.engine(), purge.at, numbers=numbers))
        last = head_of(self._cursor.connection)
        self._move(replace(last, purged_id=head.purged_id, purged_hash=head.purged_hash))
        self._cursor.execute(keeping.PURGE_AUDIT, (head.purged_id,))

    def _move(self, head: Head) -> None:
        seal = head.sealed(self._crypto)
        moved = (head.purged_id, head.purged_hash, head.last_id, head.last_hash, seal)
        self._cursor.execute(keeping.MOVE_AUDIT_HEAD, moved)
