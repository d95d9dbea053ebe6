"""Which control ids are in no message of the store: known without asking the database.

Senders number their messages upwards. Between an id that is not stored and the next higher one that is there is a gap
with nothing in it; the sender's next id falls into it, and the one after. A gap begins behind the last id that was
written into it, so each sender costs one, and a look into the index when its numbers come to the end of it. Numbers
without leading zeros come to an end with every tenth (1109 is followed by 111, which is there, and not by 1110): a look
tells of the gaps behind the first one as well, as far as the same sender's next numbers fall into them.
Ids are compared as they are in the index: texts byte by byte, in UTF-8, and blobs behind them. No gap begins with a
long one, nor with one that is not ASCII, of which nothing is known. What is said here is certain; of an id in no gap
nothing is known.

An id comes into the index some time after its message (``late.py``). Until then it is kept here, or for some longer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Protocol

from engine.errors import StoreError
from engine.remembered import LONGEST

#: Gaps that are remembered; all are found anew then.
_GAPS = 4096
#: So many characters at its end tell an id from the next ones of its sender.
_COUNTED = 2
#: Behind every text.
_END = "\U0010ffff"
#: Ids that one look tells of at most, of those in the index and of those that are not yet there.
_TOLD = 10
#: So many that may not be in the index, and then so many more, before it is asked which of them are.
_MANY = 2048
#: Ids that are put in order one by one, each into its place.
_FEW = 256


class Index(Protocol):
    """What a reader sees. Each raises StoreError."""

    def control_ids(self, least: str) -> Sequence[str | bytes]:
        """The first ten ids in the index from ``least`` on, in order; less where there are less."""
        ...

    def indexed_up_to(self) -> int:
        """The last message whose id is there."""
        ...

    def late_control_ids(self) -> Sequence[tuple[str, int]]:
        """The ids of the messages behind it, with these messages."""
        ...


class Absent:
    """Gaps between the control ids of a store. Belongs to the loop; ``visible`` may be called beside it."""

    def __init__(self, index: Index) -> None:
        """Raises StoreError."""
        self._index = index
        #: Those that may not be in the index, with their messages, as they came: what a reader may not see yet is last.
        self._late = [(message_id, _kept(control_id)) for control_id, message_id in index.late_control_ids()]
        self._unseen, self._many = 0, len(self._late) + _MANY
        #: The first of them in the order of the index, as far as it was asked for, and how many these are.
        self._ordered: list[str] = []
        self._in_order = 0
        #: From and to which id, neither of them included: in order, and apart.
        self._lows: list[str] = []
        self._highs: list[str] = []

    def knows(self, control_id: str) -> bool:
        """Whether no message with this id is committed. Raises StoreError when that cannot be looked up."""
        if not control_id.isascii():
            return False
        at = bisect_left(self._lows, control_id) - 1
        return (at >= 0 and control_id < self._highs[at]) or self._look(control_id)

    def may_be_late(self, control_id: str) -> bool:
        """Whether a message with this id may be one whose id is not in the index."""
        if not control_id.isascii():
            return True
        late, kept = self._order(), _kept(control_id)
        at = bisect_left(late, kept)
        return at < len(late) and late[at] == kept

    def written(self, control_id: str, message_id: int) -> None:
        """A message with this id has been written, and will be committed or not."""
        self._late.append((message_id, control_id if len(control_id) <= LONGEST else _kept(control_id)))
        self._unseen += 1
        self._end(control_id)
        if len(self._late) >= self._many:
            self._let_go()

    def visible(self, number: int | None = None) -> None:
        """What was written has been committed, or so many ids of it: whoever reads from here on sees them."""
        self._unseen = 0 if number is None else self._unseen - number

    def _look(self, control_id: str) -> bool:
        stored = self._index.control_ids(control_id)
        if stored and stored[0] == control_id:
            return False
        late = self._order()
        at = bisect_left(late, kept := _kept(control_id))
        if near := late[at : at + _TOLD]:
            if near[0] == kept:
                return False
            stored = _merged(stored, near)
        low, stem = control_id, control_id[:-_COUNTED]
        for high in stored or (_END,):
            if not isinstance(high, str):
                self._remember(low, _END)
                break
            self._remember(low, high)
            # Where a text is not ASCII no gap begins: one that is known may lie over it.
            if not high.isascii() or not high.startswith(stem):
                break
            low = high
        return True

    def _remember(self, low: str, stored: str) -> None:
        """No reader sees an id between these two."""
        high = stored[:LONGEST]  # what a long one begins with comes before it
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

    def _order(self) -> list[str]:
        """Those that may not be in the index, in its order."""
        new = [control_id for _, control_id in self._late[self._in_order :] if control_id.isascii()]
        self._in_order = len(self._late)
        if len(new) > _FEW:
            self._ordered = sorted(self._ordered + new)
        else:
            for control_id in new:
                insort(self._ordered, control_id)
        return self._ordered

    def _let_go(self) -> None:
        """Forget those that are in the index by now."""
        late = self._late
        try:
            up_to = self._index.indexed_up_to()
        except StoreError:
            up_to = 0  # asked again when there are more
        seen = len(late) - self._unseen
        at = next((at for at, (message_id, _) in enumerate(late[:seen]) if message_id > up_to), seen)
        self._late, self._many = late[at:], len(late) - at + _MANY
        self._ordered, self._in_order = [], 0


def _kept(control_id: str) -> str:
    """What is kept of an id until it is in the index: of a long one its beginning, with which no gap can begin."""
    return control_id[: LONGEST + 1]


def _merged(indexed: Sequence[str | bytes], late: Sequence[str]) -> list[str | bytes]:
    """Those that come first in both, as far as it is known that there are no others between them."""
    first = sorted([*indexed, *(control_id for control_id in late if control_id not in indexed)], key=_place)[:_TOLD]
    if len(late) == _TOLD:  # there may be more behind the last
        last = _place(late[-1])
        return [control_id for control_id in first if _place(control_id) <= last]
    return first


def _place(control_id: str | bytes) -> tuple[bool, str | bytes]:
    """Where an id is in the index: a text that is no valid UTF-8 is a blob there, behind all texts."""
    return isinstance(control_id, bytes), control_id
