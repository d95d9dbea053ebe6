"""How values stand in rows: texts that are no valid UTF-8, and what is kept as a keyed hash only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from engine.delivery import DeliveryState
from engine.store.crypto import SHORT_HASH, Crypto

#: Stands before a hashed key where a caller's own key may stand: see ``key_hash``.
HASHED = "\x00"
_HASHED_KEY = re.compile(HASHED + "[0-9a-f]{64}")

#: Ids of one bucket of the table patient follow each other: 1 << 15. Fewer make a search longer, more an insert dearer.
BUCKET_BITS = 15

#: Deliveries ``d`` of a message ``m``, in SQL, as the index delivery_state finds them: they are all of its channel.
OF_MESSAGE = (
    "d.channel = m.channel AND d.message_id = m.id"
    f" AND d.state IN ({', '.join(sorted(repr(str(state)) for state in DeliveryState))})"
)


def text(value: str) -> str | bytes:
    """What SQLite can hold: text, or bytes where there are lone surrogates (bytes outside a message's charset)."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return value


def read_text(stored: str | bytes) -> str:
    """The reverse of ``text``."""
    return stored if isinstance(stored, str) else stored.decode("utf-8", "surrogatepass")


def bucket_of(message_id: int) -> int:
    """The bucket of the table patient that a message's hashes are in."""
    return message_id >> BUCKET_BITS


#: Members of an origin that a caller wrote.
TELLING = frozenset({"query", "headers"})


def tells_more(origin: Mapping[str, Any]) -> bool:
    """Whether an origin holds what a caller wrote, beside the names of the connector and the peer."""
    return not TELLING.isdisjoint(origin)


def cache_hash(crypto: Crypto, cache: str, key: str) -> bytes:
    """How the key of a cache entry is stored."""
    return crypto.hashed("cache", cache, key)


def key_hash(crypto: Crypto, scope: str, key: str) -> bytes:
    """How a key is stored. ``find_keys`` gives hashes for keys, as nobody has the keys: they stand for themselves."""
    if key.startswith(HASHED) and _HASHED_KEY.fullmatch(key):
        return bytes.fromhex(key[len(HASHED) :])
    return crypto.key_hash((scope, key))


def written_members(members: Iterable[str]) -> str:
    """The names of the members that a key is found by, as its row has them; that of one is found in them."""
    return "\n".join(["", *members, ""])


def member_hashes(crypto: Crypto, channel: str, member: str, value: str) -> tuple[bytes, bytes]:
    """How a member of a request is stored, and how it was up to version 14."""
    whole = crypto.hashed("key_member", channel, member, value)
    return whole[:SHORT_HASH], whole
