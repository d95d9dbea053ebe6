"""What may be removed from a store: messages that are old enough, contents of others, and what these leave behind.

Reads only, in lots: each is one unit's worth of work, bounded in rows and in bytes. Whatever is found is looked at
again by the operation that removes it (``pruning.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.delivery import MessageState
from engine.store import keeping
from engine.store.parts import PARTS
from engine.store.pruning import spare_pages

Rows = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Lot:
    """Messages that one unit may remove, or whose contents it may."""

    ids: tuple[int, ...]
    #: Bytes of their contents as they are stored, parts of large ones left out.
    size: int
    #: The last that is old enough, of those that were looked at; 0 when there was none.
    up_to: int
    #: Nothing behind it is old enough.
    ended: bool


@dataclass(frozen=True, slots=True)
class LeftRow:
    """A message that was passed by, and whose contents are there still."""

    message_id: int
    channel: str
    state: MessageState
    #: Since when it is finished; None while it is not.
    finished_at: float | None
    size: int


class Retained:
    """Reads on a connection that ``rows`` executes queries on."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def messages(self, channel: str, state: MessageState, before: float, after_id: int, limit: int, size: int) -> Lot:
        """Messages behind ``after_id`` that may be removed: ``limit`` at most, of ``size`` bytes and a little more."""
        rows = self._rows(keeping.PRUNABLE, before, before, channel, state.value, after_id, limit)
        ids: list[int] = []
        taken = up_to = 0
        for message_id, received_at, may, length in rows:
            if received_at < before:
                up_to = message_id
            if may:
                ids.append(message_id)
                taken += length
            if taken >= size:
                return Lot(tuple(ids), taken, up_to, ended=False)
        # Ids rise with time: behind one that is too young there is none that is old enough.
        return Lot(tuple(ids), taken, up_to, ended=len(rows) < limit or rows[-1][1] >= before)

    def bodies_after(self, channel: str, state: MessageState) -> int:
        """The message behind which contents have not been removed yet; 0 before the first."""
        return next((int(after) for (after,) in self._rows(keeping.BODY_CURSOR, channel, state.value)), 0)

    def bodies_left(self, after_id: int, limit: int) -> list[LeftRow]:
        """Messages that earlier runs passed by, in order of id."""
        return [
            LeftRow(
                message_id, channel, MessageState(state), None if waits else max(received_at, settled_at or 0.0), size
            )
            for message_id, channel, state, received_at, settled_at, waits, size in self._rows(
                keeping.BODIES_LEFT, after_id, limit
            )
        ]

    def dropped_parts(self, limit: int) -> int | None:
        """Bytes of the next ``limit`` parts that nothing refers to; None when there are none."""
        run = self._rows(keeping.DROPPED_RUN)[0][0]
        if run is None:
            return None
        parts = self._rows(keeping.DROPPED_PARTS, run * PARTS, (run + 1) * PARTS, limit)
        return sum(int(length) for _, length in parts)

    def orphaned_hashes(self) -> bool:
        """Whether patient hashes of removed messages may be left."""
        return self._rows(keeping.PRUNED_BUCKET)[0][0] is not None

    def page_bytes(self) -> int:
        """Bytes of a page: a data folder keeps what it was made with."""
        return int(self._rows("PRAGMA page_size")[0][0])

    def spare_pages(self) -> int:
        """How many free pages can be given back."""
        return spare_pages(self._rows)
