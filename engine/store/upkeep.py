"""What the store writes of its own accord: ids in reserve, keys, sealing again, removal of what has expired."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, ClassVar

from engine.store import queries, ring
from engine.store.crypto import Crypto
from engine.store.key_writer import forget_key
from engine.store.reseal import Resealer
from engine.values import dataclass

#: There while an engine runs on this folder (``beginning.py``).
_END_RUN = "DELETE FROM meta WHERE name = 'running'"


@dataclass(frozen=True, slots=True)
class ReserveIds:
    """Ids up to this one may be given out: after a crash they are not given out again."""

    up_to: int


@dataclass(frozen=True, slots=True)
class EndRun:
    """The last unit of a run: nothing is under way, and ids above this one were not given out."""

    up_to: int


@dataclass(frozen=True, slots=True)
class PurgeExpired:
    """Remove a few expired cache entries and keys."""

    now: float
    limit: int


@dataclass(frozen=True, slots=True)
class AddKey:
    """A further key of the ring is about to seal; everything is to be sealed with it."""

    number: int


@dataclass(frozen=True, slots=True)
class Reseal:
    """One unit of sealing again: look at ``rows`` rows at most, seal about ``size`` bytes."""

    pages: ClassVar[int] = 50
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class NoteClockStep:
    """The clock was set back before this id was given out."""

    first_id: int


class Upkeep:
    """Executes these on the connection that writes."""

    def __init__(self, cursor: sqlite3.Cursor, crypto: Crypto, now: Callable[[], float]) -> None:
        self._execute, self._crypto, self._now = cursor.execute, crypto, now
        self._resealer = Resealer(cursor, crypto)
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            ReserveIds: self._reserve_ids,
            EndRun: self._end_run,
            PurgeExpired: self._purge_expired,
            AddKey: self._add_key,
            Reseal: self._reseal,
            NoteClockStep: self._note_clock_step,
        }

    def _reserve_ids(self, reserve: ReserveIds) -> None:
        self._execute(queries.RESERVE_IDS, (reserve.up_to,))

    def _end_run(self, end: EndRun) -> None:
        self._execute(queries.RESERVE_IDS, (end.up_to,))
        self._execute(_END_RUN)

    def _purge_expired(self, purge: PurgeExpired) -> None:
        for (cache_id,) in self._execute(queries.EXPIRED_CACHE, (purge.now, purge.limit)).fetchall():
            self._execute(queries.DELETE_CACHE, (cache_id,))
        for key_id, hashes in self._execute(queries.EXPIRED_KEYS, (purge.now, purge.limit)).fetchall():
            forget_key(self._execute, key_id, hashes)

    def _add_key(self, added: AddKey) -> None:
        ring.add(self._execute, self._crypto, added.number, self._crypto.hash_key, self._now())
        self._resealer.begin(added.number)

    def _reseal(self, reseal: Reseal) -> None:
        self._resealer.step(reseal.rows, reseal.size, self._now())

    def _note_clock_step(self, step: NoteClockStep) -> None:
        self._execute(queries.NOTE_CLOCK_STEP, (step.first_id,))
