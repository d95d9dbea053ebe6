"""Members of a JSON body that are kept in clear only until the body is delivered (systems.md D.7).

Afterwards each is replaced by ``SHA-256(value + salt)`` in hex, the form in which RadScheduler itself keeps phones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence


def hashed_members(body: bytes, members: Sequence[str], salt: bytes) -> bytes:
    """``body`` with the named top-level members replaced by salted hashes; emptied when it is no JSON object."""
    try:
        value = json.loads(body)
    except ValueError:
        return b""
    if not isinstance(value, dict):
        return b""
    for member in members:
        if value.get(member) is not None:
            value[member] = hashlib.sha256(str(value[member]).encode() + salt).hexdigest()
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
