"""The chain of audit entries: how each is hashed, how the head is sealed, and how all of it is checked.

The hash of an entry is SHA-256 over the hash before it (32 zero bytes before the first) and the entry's canonical text,
so anybody can check the chain without a key. One row, the head, names the last entry and the last that was purged, and
is sealed with a keyed hash: who can write the file and has no store key can change no entry without being found out.
What the file alone cannot show is an older state of the whole trail that was put back: for that a head that was noted
elsewhere (log, backup) is given as ``expected``.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.store import keeping
from engine.store.crypto import Crypto

#: The schema that brought the trail.
SINCE_VERSION = 2
#: Before the first entry.
ZERO = bytes(32)
#: Entries that are read at a time; between two lots a running engine may commit and checkpoint.
_LOT = 500
#: Seconds that a running engine gets between two lots.
_PAUSE = 0.001


@dataclass(frozen=True, slots=True)
class Head:
    """Where the trail ends, and up to where it was purged."""

    purged_id: int
    purged_hash: bytes
    last_id: int
    last_hash: bytes
    seal: bytes

    def sealed(self, crypto: Crypto) -> bytes:
        """What the seal must be under this key."""
        places = (str(self.purged_id), self.purged_hash.hex(), str(self.last_id), self.last_hash.hex())
        return crypto.hashed("audit head", *places)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of the trail found."""

    #: Entries that were checked.
    entries: int
    #: The last entry that was purged; 0 when none was.
    purged_id: int
    last_id: int
    #: ``id:hash`` of the last entry, to be noted elsewhere.
    head: str
    #: Whether the seal fits; None when there was no key to check it with.
    sealed: bool | None
    #: What is wrong, empty when nothing is.
    fault: str = ""


def canonical(columns: tuple[Any, ...]) -> bytes:
    """An entry as it is hashed: a JSON list of its columns, ASCII, without spaces, in the order of the table."""
    return json.dumps(columns, separators=(",", ":")).encode("ascii")


def chained(before: bytes, columns: tuple[Any, ...]) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(before + canonical(columns)).digest()


def head_of(connection: sqlite3.Connection) -> Head:
    """The head row."""
    return Head(*connection.execute(keeping.AUDIT_HEAD).fetchone())


def verify(
    connection: sqlite3.Connection,
    crypto: Crypto | None,
    expected: str = "",
    pause: Callable[[float], None] = time.sleep,
) -> Verified:
    """Check every entry, the head and its seal; ``expected`` (``id:hash``) must be in the trail too.

    Made for a thread of its own on a connection of its own; the engine may go on meanwhile.
    """
    while True:
        row = connection.execute(keeping.AUDIT_HEAD).fetchone()
        if row is None:
            return Verified(0, 0, 0, "", False, "the head of the trail is gone")
        head = Head(*row)
        found = _walk(connection, head, expected, pause)
        if head_of(connection).purged_id == head.purged_id:
            break  # otherwise a purge came between: what it removed is no fault
    entries, fault = found
    end, last_id = connection.execute(keeping.AUDIT_END).fetchone()
    if not fault and end is not None and end > last_id:
        fault = "the trail goes on after its head"
    sealed = None if crypto is None else _seal_fits(head, crypto)
    if not fault and sealed is False:
        fault = "the seal of the head does not fit: the trail was rewritten or cut, or this is another store key"
    return Verified(entries, head.purged_id, head.last_id, f"{head.last_id}:{head.last_hash.hex()}", sealed, fault)


def _seal_fits(head: Head, crypto: Crypto) -> bool:
    if not head.seal:
        return head.last_id == 0 and head.purged_id == 0
    return head.seal == head.sealed(crypto)


def _walk(connection: sqlite3.Connection, head: Head, expected: str, pause: Callable[[float], None]) -> tuple[int, str]:
    entries, last, digest = 0, head.purged_id, head.purged_hash
    met = not expected or expected == f"{last}:{digest.hex()}"
    for entry_id, *columns, stored in _entries(connection, head, pause):
        if entry_id != last + 1:
            return entries, f"entry {last + 1} is missing"
        digest = chained(digest, (entry_id, *columns))
        if digest != stored:
            return entries, f"entry {entry_id} does not fit the one before it: one of them was changed"
        entries, last = entries + 1, entry_id
        met = met or expected == f"{last}:{digest.hex()}"
    if last != head.last_id:
        return entries, f"entry {last + 1} is missing"
    if digest != head.last_hash:
        return entries, f"entry {last} is not the one that the head names"
    return (
        entries,
        "" if met else "the expected head is not in the trail: an older state was put back, or it was rewritten",
    )


def _entries(connection: sqlite3.Connection, head: Head, pause: Callable[[float], None]) -> Iterator[tuple[Any, ...]]:
    after = head.purged_id
    while after < head.last_id:
        lot = connection.execute(keeping.AUDIT_ENTRIES, (after, head.last_id, _LOT)).fetchall()
        if not lot:
            return
        yield from lot
        after = lot[-1][0]
        pause(_PAUSE)
