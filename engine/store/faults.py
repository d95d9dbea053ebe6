"""What an error says of the transaction that it ended: whose fault it was, and what may be left of it on the disk."""

from __future__ import annotations

import sqlite3

from engine.errors import StoreError

#: The fault lies outside the unit: disk, file, memory. (Primary result codes; everything else is the unit's own fault.)
_OUTSIDE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


class InDoubt(StoreError):
    """The fsync of a commit failed, and so did the cut: a crash may find the batch in the log, or nothing of it."""


def is_outside(error: Exception) -> bool:
    """Whether it is no fault of the unit that was being executed."""
    return isinstance(error, OSError | MemoryError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE


def may_be_kept(error: Exception) -> bool:
    """Whether the transaction may stand in the log although its COMMIT failed: a full disk never took all of it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR


def reason_of(error: Exception) -> str:
    """What may be said of it."""
    # The text of a foreign exception may hold what it was raised about; its type or its code never does.
    return str(error) if isinstance(error, StoreError) else getattr(error, "sqlite_errorname", type(error).__name__)
