"""What callers of REST channels are told: one error shape, and acknowledgements as HTTP answers.

Sentences come from the error table only (systems.md D.5): nothing a partner or an exception says passes through here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.envelope import Ack, Reply
from engine.errors import ERROR_TABLE, ErrorRow

#: Cause of a negative Ack → code of the error table; what stands nowhere is an engine fault.
_CODES = {
    "malformed": "invalid_body",
    "too_large": "body_too_large",
    "store_unavailable": "store_unavailable",
    "channel_stopped": "channel_stopped",
    "not_delivered": "destination_unavailable",
    "not_delivered_in_time": "destination_timeout",
}


def error_reply(
    row: ErrorRow, correlation_id: str, *, field: str | None = None, extra: Mapping[str, Any] | None = None
) -> Reply:
    """The answer for one row of the error table.

    ``field`` names a parameter, never its value; ``extra`` are further members of ``error`` (``alternatives``,
    ``outcome``, ``hl7``) and cannot replace the fixed ones.
    """
    error: dict[str, Any] = {"code": row.code, "message": row.message}
    if field is not None:
        error["field"] = field
    error |= {"retryable": row.retryable, "correlationId": correlation_id}
    for name, value in (extra or {}).items():
        error.setdefault(name, value)
    headers = {} if row.retry_after is None else {"Retry-After": str(max(1, math.ceil(row.retry_after)))}
    return Reply(row.status, {"error": error}, headers, row.code)


def ack_reply(ack: Ack, correlation_id: str, errors: Mapping[str, ErrorRow]) -> Reply:
    """The HTTP answer of a channel without a ``reply:``: 202, or the row of the ack's cause."""
    if ack.positive:
        return Reply(202, {"status": "accepted", "correlationId": correlation_id})
    return error_reply(row_of(_CODES.get(ack.cause, "internal_error"), errors), correlation_id)


def row_of(code: str, errors: Mapping[str, ErrorRow]) -> ErrorRow:
    """The row of a code: the channel's, else the engine's, else that of an engine fault."""
    return errors.get(code) or ERROR_TABLE.get(code) or ERROR_TABLE["internal_error"]
