"""The begin of a run: what the run before left is put where it belongs, and ids go on above every one given out.

One transaction, before anything else is written. How a run ends is ``upkeep.py``'s ``EndRun``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.delivery import DeliveryState, MessageState
from engine.store import keeping, queries, ring
from engine.store.base import Recovered
from engine.store.crypto import Crypto
from engine.store.parts import drop_open_runs
from engine.store.reseal import Resealer
from engine.store.search import SLACK

#: There while an engine runs on this folder: found at a start, the run before did not end in order.
_RUNNING = "SELECT 1 FROM meta WHERE name = 'running'"
_BEGIN_RUN = "INSERT OR REPLACE INTO meta (name, value) VALUES ('running', 1)"
#: The last id of the latest run that did not end in order, while something waits that it may have been sending: a run
#: that came after it and ended in order need not have sent that.
_IN_DOUBT = "SELECT value FROM meta WHERE name = 'in_doubt'"
_NOTE_DOUBT = "INSERT OR REPLACE INTO meta (name, value) VALUES ('in_doubt', ?)"
_END_DOUBT = "DELETE FROM meta WHERE name = 'in_doubt'"


@dataclass(frozen=True, slots=True)
class Begun:
    """What was found, and where this run goes on."""

    at: float
    #: Deliveries found in ``sending`` and what became of them.
    interrupted: Mapping[str, int]
    #: The run before did not end in order.
    crashed: bool
    #: See ``Store.in_doubt_up_to``.
    in_doubt_up_to: int
    #: No id up to this one is given out again.
    last_id: int


def begin(writer: sqlite3.Connection, crypto: Crypto, now: float, reserved: int) -> Begun:
    """Put what a crash interrupted where it belongs; reserve ids. Raises StoreError when the keys do not fit."""
    writer.execute("BEGIN IMMEDIATE")
    ring.unlock(writer, crypto, now)
    if not crypto.encrypt:
        writer.execute(keeping.NOTE_PLAIN)
    Resealer(writer.cursor(), crypto).begin(crypto.current, anew=False)
    drop_open_runs(writer)
    interrupted = dict(writer.execute(queries.INTERRUPTED).fetchall())
    writer.execute(queries.RECOVER_INTERRUPTED, (now,))
    (last_id,) = writer.execute(queries.LAST_ID).fetchone()
    crashed, in_doubt = _begin_run(writer.execute, last_id)
    writer.execute(queries.RESERVE_IDS, (last_id + reserved,))
    if (last := writer.execute(queries.LAST_RECEIVED).fetchone()) and now < last[0] - SLACK:
        writer.execute(queries.NOTE_CLOCK_STEP, (last_id + 1,))
    writer.execute("COMMIT")
    return Begun(now, interrupted, crashed, in_doubt, last_id)


def recovered(begun: Begun, counts: Mapping[tuple[str, str, str], int], durability: str) -> Recovered:
    """What a store says of it: ``counts`` are its ``open_counts``."""
    return Recovered(
        received=sum(count for (_, _, state), count in counts.items() if state == MessageState.RECEIVED),
        queued=sum(count for (_, _, state), count in counts.items() if state == DeliveryState.QUEUED),
        interrupted=begun.interrupted,
        crashed=begun.crashed,
        durability=durability,
    )


def _begin_run(execute: Callable[..., sqlite3.Cursor], last_id: int) -> tuple[bool, int]:
    crashed = execute(_RUNNING).fetchone() is not None
    execute(_BEGIN_RUN)
    if crashed:
        execute(_NOTE_DOUBT, (last_id,))
        return True, last_id
    (noted,) = execute(_IN_DOUBT).fetchone() or (0,)
    if noted and execute(queries.QUEUED_UP_TO, (noted,)).fetchone() is None:
        execute(_END_DOUBT)
        noted = 0
    return False, int(noted)
