"""Search over the audit trail, newest first: which named query answers a ``FindAudit``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.store import keeping
from engine.store.audit import AuditRow, FindAudit
from engine.store.reader import Reader
from engine.store.rows import audit_row


def find_audit(reader: Reader, find: FindAudit) -> Sequence[AuditRow]:
    """``since`` and ``until`` are both included."""
    since = -(2**62) if find.since is None else math.ceil(find.since * 1000)
    until = 2**62 if find.until is None else math.floor(find.until * 1000)
    before = 2**63 - 1 if find.before_id is None else find.before_id
    wanted = (find.act, find.who, find.channel, find.message_id)
    rest = (*(value for value in wanted for _ in range(2)), since, until, before, find.limit)
    by = (
        (keeping.FIND_AUDIT_BY_MESSAGE, find.message_id),
        (keeping.FIND_AUDIT_BY_CHANNEL, find.channel),
        (keeping.FIND_AUDIT_BY_ACT, find.act),
        (keeping.FIND_AUDIT_BY_WHO, find.who),
    )
    for query, value in by:
        if value is not None:
            return [audit_row(row) for row in reader.rows(query, value, *rest)]
    return [audit_row(row) for row in reader.rows(keeping.FIND_AUDIT, *rest)]
