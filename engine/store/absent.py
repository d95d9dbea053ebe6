"""Which control ids are in no message of the store: known without asking the database.

Senders number their messages upwards. Between an id that is not stored and the next higher one that is there is a gap
with nothing in it; the sender's next id falls into it, and the one after. A gap begins behind the last id that was
written into it, so each sender costs one, and a look into the index when its numbers come to the end of it.
Ids are compared as they are in the index: ASCII texts byte by byte, before every other text. No gap begins with a long
one. What is said here is certain; of an id in no gap nothing is known.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from engine.remembered import LONGEST

#: Gaps that are remembered; all are found anew then.
_GAPS = 1024
#: Behind every text of ASCII.
_END = "\U0010ffff"


class Absent:
    """Gaps between the control ids of a store. Belongs to the loop; ``visible`` may be called beside it."""

    def __init__(self, first: Callable[[str], str | bytes | None]) -> None:
        """``first`` gives the first stored id from an id on, as far as a reader sees it. Raises StoreError."""
        self._first = first
        #: From and to which id, neither of them included: in order, and apart.
        self._lows: list[str] = []
        self._highs: list[str] = []
        #: Ids of transactions that a reader may not see yet, in the order in which they are committed.
        self._unseen: list[str] = []

    def knows(self, control_id: str) -> bool:
        """Whether no message with this id is committed. Raises StoreError when that cannot be looked up."""
        if not control_id.isascii():
            return False
        at = bisect_left(self._lows, control_id) - 1
        return (at >= 0 and control_id < self._highs[at]) or self._look(control_id)

    def written(self, control_id: str) -> None:
        """A message with this id has been written, and will be committed or not."""
        self._unseen.append(control_id)
        self._end(control_id)

    def visible(self, number: int | None = None) -> None:
        """What was written has been committed, or so many ids of it: whoever reads from here on sees them."""
        self._unseen = [] if number is None else self._unseen[number:]

    def _look(self, control_id: str) -> bool:
        unseen = self._unseen  # before the look: what is committed meanwhile is in it
        first = self._first(control_id)
        if first == control_id:
            return False
        # Blobs come behind every text, and what a long one begins with before it.
        high = first[:LONGEST] if isinstance(first, str) else _END
        at = bisect_left(self._lows, control_id)
        if at < len(self._lows) and self._lows[at] < high:
            high = self._lows[at]  # a gap that is known begins there
        if control_id < high and len(control_id) <= LONGEST:
            if len(self._lows) >= _GAPS:
                self._lows, self._highs, at = [], [], 0
            self._lows.insert(at, control_id)
            self._highs.insert(at, high)
            for written in unseen:
                self._end(written)
        return True

    def _end(self, written: str) -> None:
        """The gap that an id was written into begins behind it."""
        at = bisect_left(self._lows, written) - 1
        if at >= 0 and written < self._highs[at]:
            if len(written) <= LONGEST:
                self._lows[at] = written
            else:
                del self._lows[at], self._highs[at]
