"""How long things took: how many of them there were up to each of a few bounds, as a monitor wants to have it."""

from __future__ import annotations

from bisect import bisect_left

#: Seconds. What took longer than the last is counted as well, beyond all of them.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0)


class Spread:
    """The durations of one thing since it began."""

    __slots__ = ("numbers", "seconds")

    def __init__(self) -> None:
        #: How many there were from one bound (not included) to the next.
        self.numbers = [0] * (len(BOUNDS) + 1)
        #: Of all of them.
        self.seconds = 0.0

    @property
    def number(self) -> int:
        """How many there were."""
        return sum(self.numbers)

    def add(self, seconds: float) -> None:
        """One more. A clock that was set back makes none of less than nothing."""
        self.numbers[bisect_left(BOUNDS, seconds)] += 1
        if seconds > 0.0:
            self.seconds += seconds
