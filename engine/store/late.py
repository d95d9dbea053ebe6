"""Patients and control ids, by which messages are found, come into their indexes later; on the connection that writes.

They lie anywhere in their index: one alone would change a page of it for itself. So a message brings them in its own
row, and those of many messages are sorted in together. Whoever looks for one looks into both (``search.py``,
``absent.py``): the messages behind the last that was sorted in are few.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from engine.store import keeping
from engine.store.crypto import SHORT_HASH, Crypto
from engine.store.stored import bucket_of
from engine.values import dataclass

#: Messages that are sorted in by one operation: some milliseconds of the event loop.
_LOT = 1024


@dataclass(frozen=True, slots=True)
class IndexMessages:
    """Sort in the patients and control ids of the messages that wait for it, where there are so many."""

    least: int


class LateWriter:
    """Tells what a message's row holds of them, and executes ``IndexMessages``."""

    def __init__(self, cursor: sqlite3.Cursor, crypto: Crypto) -> None:
        self._cursor, self._crypto = cursor, crypto
        #: The last message that was sorted in: a message that comes with an earlier id waits for nobody.
        self.up_to = self._indexed()
        #: Messages that wait, as far as is known on this connection: further ones are found with them.
        self._waiting = self._next(self.up_to)[1]
        self.handlers: dict[type[Any], Callable[[Any], None]] = {IndexMessages: self._index}

    def begin_anew(self) -> None:
        """Somebody else may have sorted in further ones, or what was done here was rolled back."""
        self.up_to = self._indexed()

    def hashes(self, message_id: int, patients: tuple[str, ...]) -> bytearray | None:
        """What the row of a message that is about to be written holds of its patients."""
        self._waiting += 1
        if not patients:
            return None
        hashes = bytearray().join(map(self._crypto.patient_hash, patients))
        if message_id <= self.up_to:  # its id was given out long ago: nobody comes by again
            found = {bytes(hashes[at : at + SHORT_HASH]) for at in range(0, len(hashes), SHORT_HASH)}
            bucket = bucket_of(message_id)
            self._cursor.executemany(keeping.PUT_PATIENT, [(bucket, hashed, message_id) for hashed in found])
        return hashes

    def _index(self, index: IndexMessages) -> None:
        if self._waiting < index.least:
            return
        # What is on disk counts: a unit that was rolled back has indexed nothing.
        before = self._indexed()
        up_to, count = self._next(before)
        # Behind so many there may be more, which others have written: the next upkeep goes on.
        self._waiting = max(index.least, self._waiting - count) if count == _LOT else 0
        if not count:
            return
        self._cursor.execute(keeping.INDEX_PATIENTS, (before, up_to))
        self._cursor.execute(keeping.INDEX_FURTHER_PATIENTS, (before, up_to))
        self._cursor.execute(keeping.INDEX_CONTROL_IDS, (before, up_to))
        self._cursor.execute(keeping.NOTE_INDEXED, (up_to,))
        self.up_to = up_to

    def _next(self, after: int) -> tuple[int, int]:
        """The last message of the next lot, and how many are in it."""
        ((up_to, count),) = self._cursor.execute(keeping.TO_INDEX, (after, _LOT)).fetchall()
        return up_to or 0, count

    def _indexed(self) -> int:
        ((up_to,),) = self._cursor.execute(keeping.INDEXED_UP_TO).fetchall()
        return int(up_to)
