"""Removes messages that are finished and old enough, with all that belongs to them, or their contents alone; gives the
disk space back.

Small units through the group commit like any other, so a kill at any moment leaves whole messages. Whether a message
may go is asked again in its unit: it may have been sent again since it was found. Contents are removed in order of id,
once: a cursor of each channel and state says how far that has come, and what it passed by is noted one by one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from engine.delivery import MessageState
from engine.errors import DoesNotOpen
from engine.store import keeping
from engine.store.crypto import Crypto, row_place
from engine.store.parts import PARTS
from engine.store.stored import TELLING, bucket_of

#: Free pages that stay in the file for what comes: this share of it, and at least so many.
_RESERVE_SHARE = 0.05
_RESERVE_PAGES = 256
#: What removes the contents of a delivery.
_CONTENTS = (
    keeping.EMPTY_DELIVERY,
    keeping.PRUNE_DELIVERY_BODY,
    keeping.PRUNE_DELIVERY_ANSWER,
    keeping.PRUNE_LARGE_BODY,
)


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove these messages, as far as they are still in ``state``, finished, and older than ``before``."""

    message_ids: tuple[int, ...]
    state: MessageState
    #: Seconds since the epoch; of receipt and of every settlement.
    before: float


@dataclass(frozen=True, slots=True)
class RemoveBodies:
    """Remove the contents of these messages and of their deliveries, as ``Prune`` would remove all of them.

    What is known of them stays, but for what callers wrote: query and headers.
    """

    message_ids: tuple[int, ...]
    state: MessageState
    #: As of ``Prune``.
    before: float
    at: float


@dataclass(frozen=True, slots=True)
class PassBodies:
    """Contents up to message ``up_to`` of a channel and state are removed; those that are not are noted."""

    channel: str
    state: MessageState
    up_to: int


@dataclass(frozen=True, slots=True)
class SweepParts:
    """Remove up to ``limit`` parts of large bodies that nothing refers to."""

    heavy: ClassVar[bool] = True
    limit: int


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

    def __init__(self, cursor: sqlite3.Cursor, crypto: Crypto) -> None:
        self._execute, self._crypto = cursor.execute, crypto
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            Prune: self._prune,
            RemoveBodies: self._remove_bodies,
            PassBodies: self._pass_bodies,
            SweepParts: self._sweep_parts,
            SweepPatients: self._sweep,
            Shrink: self._shrink,
        }

    def _prune(self, prune: Prune) -> None:
        for message_id in self._may_go(prune):
            self._remove(message_id)

    def _may_go(self, asked: Prune | RemoveBodies) -> Iterator[int]:
        for message_id in asked.message_ids:
            parameters = (asked.before, asked.before, message_id, asked.state.value)
            if self._execute(keeping.MAY_PRUNE, parameters).fetchone() is not None:
                yield message_id

    def _remove(self, message_id: int) -> None:
        for row in self._execute(keeping.DELIVERY_IDS, (message_id,)).fetchall():
            for query in (keeping.PRUNE_DELIVERY_BODY, keeping.PRUNE_DELIVERY_ANSWER, keeping.PRUNE_DELIVERY):
                self._execute(query, row)
        self._execute(keeping.PRUNE_MESSAGE_BODY, (message_id,))
        self._execute(keeping.PRUNE_MESSAGE, (message_id,))
        self._execute(keeping.NOTE_BUCKET, (bucket_of(message_id),))

    def _remove_bodies(self, remove: RemoveBodies) -> None:
        for message_id in self._may_go(remove):
            for row in self._execute(keeping.DELIVERY_IDS, (message_id,)).fetchall():
                for query in _CONTENTS:
                    self._execute(query, row)
            for query in (keeping.PRUNE_MESSAGE_BODY, keeping.PRUNE_MESSAGE_ACK, keeping.PRUNE_LARGE_BODY):
                self._execute(query, (message_id,))
            self._execute(keeping.NOTE_BODIES_REMOVED, (remove.at, self._bare_origin(message_id), message_id))
            self._execute(keeping.NOT_LEFT, (message_id,))

    def _bare_origin(self, message_id: int) -> str:
        sealed, origin, _ = self._execute(keeping.ORIGIN, (message_id,)).fetchone()
        try:
            known = json.loads(self._crypto.open(sealed, origin, row_place("message", message_id)))
        except DoesNotOpen:
            return "{}"
        return json.dumps({name: value for name, value in known.items() if name not in TELLING}, separators=(",", ":"))

    def _pass_bodies(self, passed: PassBodies) -> None:
        place = (passed.channel, passed.state.value)
        found = self._execute(keeping.BODY_CURSOR, place).fetchone()
        self._execute(keeping.LEAVE_BODIES, (*place, found[0] if found else 0, passed.up_to))
        self._execute(keeping.MOVE_BODY_CURSOR, (*place, passed.up_to))

    def _sweep_parts(self, sweep: SweepParts) -> None:
        (run,) = self._execute(keeping.DROPPED_RUN).fetchone()
        if run is None:
            return
        found = self._execute(keeping.DROPPED_PARTS, (run * PARTS, (run + 1) * PARTS, sweep.limit)).fetchall()
        for part_id, _ in found:
            self._execute(keeping.PRUNE_PART, (part_id,))
        if len(found) < sweep.limit:
            self._execute(keeping.END_DROPPED_RUN, (run,))

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


def spare_pages(execute: Callable[[str], Iterable[tuple[int]]]) -> int:
    """Free pages beyond the reserve."""
    ((free,),) = execute("PRAGMA freelist_count")
    ((all_pages,),) = execute("PRAGMA page_count")
    return int(free - max(_RESERVE_PAGES, all_pages * _RESERVE_SHARE))
