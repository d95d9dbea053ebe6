"""Which deliveries may have been on their way when the run before was cut off: the first of each lane.

Of a lane as many are sent as may run ahead of the commits of their outcomes; so many of those that are left may have
arrived, and no other. Once so many of its key have settled, what comes next had not been sent before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from engine.runtime.item import Item


class Doubt:
    """Of one destination. ``up_to`` gives the last id of the run that was cut off, ``ahead`` is ``sends_ahead``."""

    def __init__(self, up_to: Callable[[], int], ahead: int, *, ordered: bool) -> None:
        self._up_to, self._ahead, self._ordered = up_to, ahead, ordered
        #: No later one was made by the run that was cut off; ``up_to`` may fall to 0 and never rises.
        self.last = up_to()
        #: How many of a key have settled since.
        self._moved: Counter[str] = Counter()

    def concerns(self, item: Item) -> bool:
        """Whether it, the first of its lanes, may have been sent before, and is not marked yet."""
        if item.delivery_id > self.last or item.may_be_duplicated or item.delivery_id > self._up_to():
            return False
        return all(self._moved[key] < self._ahead for key in item.keys)

    def moved(self, item: Item) -> None:
        """Its lanes go on. One that a person sends again tells nothing: it may stand before what was on its way."""
        if item.delivery_id > self.last:
            return
        if self._ordered and not item.out_of_turn and item.delivery_id <= self._up_to():
            self._moved.update(item.keys)
