"""Which control ids are in no message of the store: known without asking the database.

Senders number their messages upwards. Between an id that is not stored and the next higher one that is there is a gap
with nothing in it; the sender's next id falls into it, and the one after. A gap begins behind the last id that was
written into it, so each sender costs one, and a look into the index when its numbers come to the end of it. Numbers
without leading zeros come to an end with every tenth (1109 is followed by 111, which is there, and not by 1110): a look
tells of the gaps behind the first one as well, as far as the same sender's next numbers fall into them.
Ids are compared as they are in the index: ASCII texts byte by byte, before every other text. No gap begins with a long
one. What is said here is certain; of an id in no gap nothing is known.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from engine.remembered import LONGEST

#: Gaps that are remembered; all are found anew then.
_GAPS = 4096
#: So many characters at its end tell an id from the next ones of its sender.
_COUNTED = 2
#: Behind every text of ASCII.
_END = "\U0010ffff"


class Absent:
    """Gaps between the control ids of a store. Belongs to the loop; ``visible`` may be called beside it."""

    def __init__(self, stored: Callable[[str], Sequence[str | bytes]]) -> None:
        """``stored`` gives the first stored ids from an id on, in order, as far as a reader sees them; none where there
        is none. Raises StoreError.
        """
        self._stored = stored
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
        stored = self._stored(control_id)
        if stored and stored[0] == control_id:
            return False
        low, stem = control_id, control_id[:-_COUNTED]
        for high in stored or (_END,):
            self._remember(low, high)
            if not isinstance(high, str) or not high.startswith(stem):
                break
            low = high
        for written in unseen:
            self._end(written)
        return True

    def _remember(self, low: str, stored: str | bytes) -> None:
        """No reader sees an id between these two."""
        # Blobs come behind every text, and what a long one begins with before it.
        high = stored[:LONGEST] if isinstance(stored, str) else _END
        at = bisect_left(self._lows, low)
        if at < len(self._lows) and self._lows[at] < high:
            high = self._lows[at]  # a gap that is known begins there
        if low < high and len(low) <= LONGEST:
            if len(self._lows) >= _GAPS:
                self._lows, self._highs, at = [], [], 0
            self._lows.insert(at, low)
            self._highs.insert(at, high)

    def _end(self, written: str) -> None:
        """The gap that an id was written into begins behind it."""
        at = bisect_left(self._lows, written) - 1
        if at >= 0 and written < self._highs[at]:
            if len(written) <= LONGEST:
                self._lows[at] = written
            else:
                del self._lows[at], self._highs[at]
