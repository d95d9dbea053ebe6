"""What the process that writes has been given and has not answered: two batches at most, so that it goes on with the
next at once, and whoever is told of the one before need not hurry.

The process answers in order. Behind a batch that it has not kept it keeps none, until it is told otherwise
(``wire.BATCH``): then all of them are done again, in their order, by the engine itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from sys import maxsize

from engine.store.checkpoint import Checkpoints, Moved
from engine.store.process.wire import NOT_KEPT, Written
from engine.store.process.writing import WritingProcess
from engine.store.transaction import Unit

#: Batches that it has at once.
_MOST = 2
#: It begins with a part of what there was in the last two batches, and with so many at least: both work at the same
#: time then, also where all who send wait for the same commit.
_LOT = 5
#: A third where that was no more than this (few send, and each waits), else five eighths: a commit for more costs less.
_LITTLE = 24

#: Called with a batch that is kept, and the seconds of its COMMIT.
Kept = Callable[[Sequence[Unit], float], None]
#: Called with all that is to be done again, and what is known of it; None when it cannot be found out.
Undone = Callable[[Sequence[Unit], int | None], None]


class UnderWay:
    """The batches of one engine."""

    def __init__(
        self, process: WritingProcess, checkpoints: Checkpoints, kept: Kept, undone: Undone, moved: Callable[[], None]
    ) -> None:
        """``moved``: the log has been moved, or that came to nothing."""
        self._process, self._checkpoints = process, checkpoints
        self._kept, self._undone, self._moved = kept, undone, moved
        self._batches, self._moves = 0, False
        #: What it has not kept, while answers are to come.
        self._failed: list[Unit] = []
        self._known: int | None = NOT_KEPT
        #: Units of the last batch, and how many are enough for the next.
        self._last, self.enough = 0, _LOT

    def __bool__(self) -> bool:
        """Whether anything is to be answered."""
        return self._batches > 0 or self._moves

    @property
    def has_room(self) -> bool:
        """Whether it takes another batch."""
        return self._batches < _MOST and not self._moves and not self._failed

    def hand_over(self, batch: Sequence[Unit]) -> bool:
        """Whether the process takes a batch, for which there is room."""
        if not self._process.write(batch, partial(self._answered, batch)):
            self.enough = maxsize  # it is not asked with each unit that comes: first it must have taken a batch
            return False
        self._batches += 1
        last, self._last = self._last, len(batch)
        lately = last + self._last
        self.enough = max(_LOT, lately // 3 if lately <= _LITTLE else lately * 5 // 8)
        return True

    def _answered(self, batch: Sequence[Unit], written: Written | None) -> None:
        self._batches -= 1
        if isinstance(written, tuple):
            rows, seconds = written
            if self._checkpoints.committed(rows) and not self._moves:
                self._moves = self._process.move(self._has_moved)
            self._kept(batch, seconds)
            return
        self._failed += batch
        if written != NOT_KEPT and self._known is not None:
            self._known = written
        self._do_again()

    def _has_moved(self, moved: Moved | None) -> None:
        self._moves = False
        if moved is not None:
            self._checkpoints.moved(moved)
        if self._failed:
            self._do_again()
        else:
            self._moved()

    def _do_again(self) -> None:
        if not self:
            failed, self._failed, known, self._known = self._failed, [], self._known, NOT_KEPT
            self._undone(failed, known)
