"""Which deliveries of one destination are in memory, and which of them may go: lanes without I/O and without a clock.

A delivery stands in the lane of each of its keys and may go when it is the first in all of them. Lanes are in order of
delivery ids, which is the order of commit 1; so of two that wait for each other the older one is always first
somewhere, and nothing can wait in a circle.

The store has everything; memory has a window. It is read in order, page by page, and reading stops while there is
enough. ``_missing`` says for a key from which id on its deliveries are in the store alone: behind a held one, or behind
so many others of its key that other keys would not get their turn. Such a key is read again, from there, when its lane
here has run empty.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from engine.runtime.item import Item

#: Deliveries in memory per destination, beside those that are being sent or wait for their next attempt.
ROOM = 2000
#: Deliveries read at once: a few milliseconds of the loop.
PAGE = 200

_OWN = "\0"
_BY_ID = attrgetter("delivery_id")


class Window:
    """The lanes of one destination, as far as they are in memory.

    ``read(after, limit)`` gives what waits (queued and held) in order of ids; ``ready`` is told of each delivery that
    has become the first of its lanes.
    """

    def __init__(
        self,
        read: Callable[[int, int], Sequence[Item]],
        ready: Callable[[Item], None],
        *,
        parallel: bool = True,
        room: int = ROOM,
        page: int = PAGE,
    ) -> None:
        self._read, self._ready = read, ready
        self._parallel, self._room, self._page = parallel, room, page
        #: The store may have more behind what was looked at.
        self.behind = True
        #: Deliveries that wait for their next attempt; the owner counts them.
        self.resting = 0
        #: By id.
        self.items: dict[int, Item] = {}
        #: What was offered before may have lost its place since; the owner looks at it anew, and says so here.
        self.stirred = False
        self._lanes: dict[str, list[Item]] = {}
        self._busy: set[str] = set()
        self._missing: dict[str, int] = {}
        #: Sent ahead of the commit of their outcome: their lanes have gone on. And how many of each key.
        self._passed: dict[int, Item] = {}
        self._ahead: dict[str, int] = {}
        #: Everything that waits up to this id is in memory or missing.
        self._seen = 0

    def __len__(self) -> int:
        return len(self.items)

    def wants(self, idle: bool) -> bool:
        """Whether ``fill`` would read a page now, and there is room for more than one, or nothing to do (``idle``)."""
        return self._may_fill(idle) and (idle or len(self.items) < self._room * 3 // 4 + self.resting)

    def find(self, delivery_id: int) -> Item | None:
        """A delivery that is in memory."""
        return self.items.get(delivery_id) or self._passed.get(delivery_id)

    # -- what comes in ---------------------------------------------------------------------------------------------

    def push(self, item: Item) -> bool:
        """Take in a delivery that was just committed; calls come in the order of ids. Whether it may go: its owner is
        not told so as of others.
        """
        number, items, lanes = item.delivery_id, self.items, self._lanes
        if self.behind or number <= self._seen:
            return False  # it is read in its turn, or has been
        if len(items) >= self._room + self.resting:
            self.behind = True
            return False
        self._seen = number
        if item.held or self._missing:
            self._append(item)
            return False
        items[number] = item
        first = True
        for key in item.keys:
            if key in lanes:
                lanes[key].append(item)
                first = False
            else:
                lanes[key] = [item]
                if key in self._busy:
                    first = False
        item.offered = first
        return first

    def push_late(self, item: Item) -> bool:
        """As ``push``, perhaps after one with a higher id: it takes the place that its own gives it."""
        if item.delivery_id > self._seen:
            return self.push(item)
        self.insert(item)
        return False

    def fill(self, idle: bool) -> bool:
        """Read a page, when there is need and room; whether something was read. ``idle``: nothing here may go."""
        if not self._may_fill(idle):
            return False
        if self._full:
            self._sweep(spare=True)
        rows = self._read(self._seen, self._page)
        for row in rows:
            self._seen = row.delivery_id
            if row.delivery_id not in self.items and row.delivery_id not in self._passed:
                self._append(row)
        self.behind = len(rows) == self._page
        return True

    def insert(self, item: Item) -> None:
        """A person sends a delivery again, which the store has as queued: it takes the place that its id gives it."""
        present = self.items.get(item.delivery_id)
        if present is not None:
            if not present.sending:
                self.stirred = True
                present.next_at, present.offered, present.stuck, present.body = 0.0, False, False, None
                present.control_id, present.content_type = item.control_id, item.content_type
                self._offer(present)
            return
        if self.behind and item.delivery_id > self._seen:
            return  # it is read in its turn
        if any(self._missing.get(key, item.delivery_id) < item.delivery_id for key in item.keys):
            self._leave_out(item)
            self._sweep()
            return
        for key in item.keys:
            if self._missing.get(key) == item.delivery_id:
                self._missing[key] = item.delivery_id + 1
        self._put(item)
        self._offer(item)

    # -- what becomes of one ---------------------------------------------------------------------------------------

    def may_go(self, item: Item) -> bool:
        """Whether it is the first in each of its lanes and nobody sends another of them."""
        if item.sending or item.stuck or self.items.get(item.delivery_id) is not item:
            return False
        for key in item.keys:  # noqa: SIM110 - most have one key, for which a generator is a long way round
            if self._lanes[key][0] is not item or key in self._busy:
                return False
        return True

    def begin(self, item: Item) -> None:
        """It is being sent: its lanes are nobody else's."""
        item.sending = True
        for key in item.keys:
            self._busy.add(key)

    def together(self, first: Item, most: int, may: Callable[[Item], bool]) -> list[Item]:
        """``first``, which has begun, and what may go in one send with it, in order of ids: so many at most.

        Each stands behind all that its lanes have before it. ``may``: whether one may go by itself.
        """
        chosen = [first]
        blocked = self._busy.difference(first.keys)
        for item in sorted(self.items.values(), key=_BY_ID):
            if len(chosen) == most:
                break
            if item is first:
                continue
            if item.sending or item.stuck or not blocked.isdisjoint(item.keys) or not may(item):
                blocked.update(item.keys)
            else:
                chosen.append(item)
        return sorted(chosen, key=_BY_ID)

    def may_pass(self, item: Item, most: int) -> bool:
        """Whether its lanes may go on before its outcome is committed; ``most`` of a key may be so at once."""
        for key in item.keys:  # noqa: SIM110 - as above
            if self._ahead.get(key, 0) + 1 >= most:
                return False
        return True

    def has_passed(self, item: Item) -> bool:
        """Whether its lanes have gone on."""
        return item.delivery_id in self._passed

    def pass_by(self, item: Item) -> None:
        """The partner has it, and its outcome is being committed: its lanes go on meanwhile."""
        self._passed[item.delivery_id] = item
        for key in item.keys:
            self._ahead[key] = self._ahead.get(key, 0) + 1
        self._leave(item)

    def _unpass(self, item: Item) -> bool:
        if self._passed.pop(item.delivery_id, None) is None:
            return False
        for key in item.keys:
            self._ahead[key] -= 1
            if not self._ahead[key]:
                del self._ahead[key]
        return True

    def end(self, item: Item) -> None:
        """It has settled for good: its lanes go on."""
        if not self._passed or not self._unpass(item):
            self._leave(item)
        item.sending = False

    def _leave(self, item: Item) -> None:
        """It was under way: its lanes go on without it."""
        number, keys, lanes, busy, others = item.delivery_id, item.keys, self._lanes, self._busy, False
        if self.items.get(number) is not item:  # a person took it away while it was under way
            busy.difference_update(keys)
            self.remove(number, keys)
            return
        del self.items[number]
        for key in keys:
            busy.discard(key)
            lane = lanes[key]
            if len(lane) == 1:
                del lanes[key]
            else:
                lane.remove(item)  # the first, unless a person put an older one before it while it was under way
                others = True
        if others or self._missing:
            self._without(keys)

    def again(self, item: Item) -> None:
        """It stays where it is, for its next attempt."""
        self._rest(item)
        self._go_on(item.keys)

    def hold(self, item: Item) -> None:
        """Nothing of its keys passes until a person acts; what is behind it stays in the store."""
        self._rest(item)
        self._drop(item)
        self._leave_out(item)
        self._sweep()
        self._go_on(item.keys)

    def remove(self, delivery_id: int, keys: Iterable[str]) -> None:
        """It waits no more (the store knows, or is about to); its lanes go on without it."""
        item = self.items.get(delivery_id)
        if item is not None:
            self._drop(item)
        self._without(keys)

    def _without(self, keys: Iterable[str]) -> None:
        """One of these lanes is gone from memory: what is behind it goes, or is read again."""
        for key in keys:
            if key not in self._lanes and key in self._missing:
                self._read_again(self._missing[key])
        self._go_on(keys)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _may_fill(self, idle: bool) -> bool:
        """Whether there is more to read, and room: in a full window only where others may go in place of what waits."""
        if not self.behind or (not self._parallel and self._missing):
            return False
        return (idle and self._parallel) or not self._full

    @property
    def _full(self) -> bool:
        return len(self.items) >= self._room + self.resting

    def _append(self, item: Item) -> None:
        """Put the next one in order of ids at the end of its lanes."""
        if item.held or any(key in self._missing for key in item.keys):
            self._leave_out(item)
            return
        self.items[item.delivery_id] = item
        for key in item.keys:
            self._lanes.setdefault(key, []).append(item)
        self._offer(item)

    def _offer(self, item: Item) -> None:
        if not item.offered and self.may_go(item):
            item.offered = True
            self._ready(item)

    def _go_on(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._lanes:
                self._offer(self._lanes[key][0])

    def _rest(self, item: Item) -> None:
        item.sending = item.offered = False
        if self._unpass(item):
            self._put(item)  # the place that its id gives it; its lanes had gone on, and are busy with a later one
        else:
            self._busy.difference_update(item.keys)

    def _drop(self, item: Item) -> None:
        self.stirred = True
        del self.items[item.delivery_id]
        for key in item.keys:
            lane = self._lanes[key]
            lane.remove(item)
            if not lane:
                del self._lanes[key]

    def _put(self, item: Item) -> None:
        self.stirred = True
        for key in item.keys:
            insort(self._lanes.setdefault(key, []), item, key=_BY_ID)
        self.items[item.delivery_id] = item

    def _leave_out(self, item: Item) -> None:
        """Keep it in the store alone, and with it whatever of its keys comes later."""
        for key in item.keys:
            if not key.startswith(_OWN):
                self._missing[key] = min(self._missing.get(key, item.delivery_id), item.delivery_id)

    def _read_again(self, first: int) -> None:
        """Look anew at everything from this id on."""
        self._seen = min(self._seen, first - 1)
        self.behind = True
        self._missing = {key: missing for key, missing in self._missing.items() if missing < first}

    def _sweep(self, *, spare: bool = False) -> None:
        """Forget what must not be here: what stands behind a missing one; ``spare``: also what only takes up room.

        Of a lane that moves a part stays, so that it is not read again for each; of one that waits, its head.
        """
        self.stirred = True
        kept: list[Item] = []
        count: Counter[str] = Counter()
        share = max(1, self._room // (2 * max(1, len(self._busy))))
        for item in sorted(self.items.values(), key=_BY_ID):
            if not item.sending and (
                any(self._missing.get(key, item.delivery_id + 1) <= item.delivery_id for key in item.keys)
                or (spare and any(count[key] > (share if key in self._busy else 0) for key in item.keys))
            ):
                self._leave_out(item)
                continue
            kept.append(item)
            count.update(item.keys)
        self.items = {item.delivery_id: item for item in kept}
        self._lanes = {}
        for item in kept:
            for key in item.keys:
                self._lanes.setdefault(key, []).append(item)
