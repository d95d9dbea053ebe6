"""Removes messages that are finished and old enough, with all that belongs to them; gives the disk space back.

Small units through the group commit like any other, so a kill at any moment leaves whole messages. Whether a message
may go is asked again in its unit: it may have been sent again since it was found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.delivery import MessageState
from engine.store import keeping
from engine.store.stored import bucket_of

#: Free pages that stay in the file for what comes: this share of it, and at least so many.
_RESERVE_SHARE = 0.05
_RESERVE_PAGES = 256


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove these messages, as far as they are still in ``state``, finished, and older than ``before``."""

    message_ids: tuple[int, ...]
    state: MessageState
    #: Seconds since the epoch; of receipt and of every settlement.
    before: float


@dataclass(frozen=True, slots=True)
class SweepPatients:
    """Remove up to ``limit`` patient hashes of messages that are gone."""

    limit: int


@dataclass(frozen=True, slots=True)
class Shrink:
    """Give up to ``pages`` free pages back to the file system."""

    pages: int


class PruneWriter:
    """Executes these on the connection that writes."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._execute = cursor.execute
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            Prune: self._prune,
            SweepPatients: self._sweep,
            Shrink: self._shrink,
        }

    def _prune(self, prune: Prune) -> None:
        for message_id in prune.message_ids:
            asked = (prune.before, prune.before, message_id, prune.state.value)
            if self._execute(keeping.MAY_PRUNE, asked).fetchone() is not None:
                self._remove(message_id)

    def _remove(self, message_id: int) -> None:
        for row in self._execute(keeping.DELIVERY_IDS, (message_id,)).fetchall():
            for query in (keeping.PRUNE_DELIVERY_BODY, keeping.PRUNE_DELIVERY_ANSWER, keeping.PRUNE_DELIVERY):
                self._execute(query, row)
        self._execute(keeping.PRUNE_MESSAGE_BODY, (message_id,))
        self._execute(keeping.PRUNE_MESSAGE, (message_id,))
        self._execute(keeping.NOTE_BUCKET, (bucket_of(message_id),))

    def _sweep(self, sweep: SweepPatients) -> None:
        (bucket,) = self._execute(keeping.PRUNED_BUCKET).fetchone()
        if bucket is None:
            return
        orphans = self._execute(keeping.ORPHANED_PATIENTS, (bucket, sweep.limit)).fetchall()
        for hashed, message_id in orphans:
            self._execute(keeping.PRUNE_PATIENT, (bucket, hashed, message_id))
        if len(orphans) < sweep.limit:
            self._execute(keeping.END_BUCKET, (bucket,))

    def _shrink(self, shrink: Shrink) -> None:
        # One at a time: Python takes only the first step of a statement without columns, whatever number it names.
        for _ in range(min(shrink.pages, spare_pages(self._execute))):
            self._execute("PRAGMA incremental_vacuum(1)").fetchall()


def spare_pages(execute: Callable[[str], sqlite3.Cursor]) -> int:
    """Free pages beyond the reserve."""
    (free,) = execute("PRAGMA freelist_count").fetchone()
    (all_pages,) = execute("PRAGMA page_count").fetchone()
    return int(free - max(_RESERVE_PAGES, all_pages * _RESERVE_SHARE))
