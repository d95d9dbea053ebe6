"""When the write-ahead log goes back into the database.

Left to itself SQLite does that inside of a COMMIT, and where it fails the COMMIT reports it: as a failure of its own,
although what it committed is on disk and stays there. So it is done here, after the COMMIT and apart from it, when
those who waited for the COMMIT have been told. What could not be moved stays in the log, which every reader reads.

Nobody writes meanwhile, although SQLite lets a writer go on. A move during which something is committed ends without
an fsync of the database, and what it has copied counts as moved all the same. Should the fsync of a later one fail,
Linux takes those pages for clean: the one after that copies none of them again, succeeds, and the log begins anew over
the only copy. A move that nobody disturbs, and whose fsync fails, has moved nothing, and the next copies it all again.
"""

from __future__ import annotations

import sqlite3

import structlog

log = structlog.get_logger("engine.store")

#: Pages in the log, about, when they are moved (16 MiB). What comes meanwhile waits, so it should be rare; and a page
#: that is written again and again is moved once: of 4,000 about 800 differ, of 2,000 about 500. From 4,062 on every
#: reader would look twice for each page.
PAGES = 4000
#: The same while something large is written: others wait for each move, so these are small then, and many.
PAGES_OF_LARGE = 500
#: How far what is written may be from what was reckoned.
_LEAST, _MOST = 0.25, 8.0


#: Pages that were in the log, and those of them that are in the database now; or why none could be moved.
Moved = tuple[int, int] | str


def move(connection: sqlite3.Connection) -> Moved:
    """Move what can be moved; what cannot be is tried again after the next commit."""
    try:
        _, written, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        return str(getattr(error, "sqlite_errorname", type(error).__name__))
    return written, moved


class Checkpoints:
    """Keeps the log of the connection that writes small."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._reckoned = 0.0
        #: Pages written per page reckoned, as last seen.
        self._ratio = 1.0
        self._failing = False
        #: Pages that were moved, and those of them that the log still has.
        self.pages_moved = self._moved = 0

    def committed(self, pages: int, heavy: bool = False) -> bool:
        """A transaction of about so many pages has been committed; whether it is time to ``move``.

        ``heavy``: a part of something large.
        """
        self._reckoned += pages
        return self._reckoned * self._ratio >= (PAGES_OF_LARGE if heavy else PAGES)

    def move(self) -> None:
        """Do so on this connection."""
        self.moved(move(self._connection))

    def moved(self, moved: Moved) -> None:
        """What came of it where somebody else did so."""
        if isinstance(moved, str):
            if not self._failing:
                log.error("store.log_not_moved", reason=moved)
            self._failing = True
            return
        self._failing = False
        before, now = moved
        self.pages_moved += max(0, now - self._moved)
        self._moved = now if now < before else 0
        if now < before:
            return  # a reader still needs the old pages
        # The log has begun anew since the last time.
        self._ratio = min(_MOST, max(_LEAST, before / max(1.0, self._reckoned)))
        self._reckoned = 0.0
