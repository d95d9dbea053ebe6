"""When the next send to a destination may begin: its rate, its fixed delay, and its rest while the partner is away.

Pure: times are the event loop's, in seconds. A partner that cannot be reached is no fault of one message, so all lanes
of the destination rest, and not each of them tries in vain; so they do when nothing gets a definite answer for long.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Sends in a row without a definite answer after which the partner counts as away.
SILENCE = 20


class Pace:
    """The pace of one destination. ``interval`` and ``delay`` are seconds, 0 for none."""

    def __init__(self, interval: float, delay: float, backoff: Sequence[float]) -> None:
        self._interval, self._delay, self._backoff = interval, delay, backoff
        self._next = self._free = self._rest = self._clear = 0.0
        self._failures = self._silent = 0
        #: A person has paused the destination: nothing leaves until it is resumed.
        self.paused = False
        #: There is neither a rate nor a delay.
        self._free_running = not interval and not delay
        #: Nothing needs to be asked, nor told of a send that was answered: any may begin at any time.
        self.easy = self._free_running

    def wait(self, now: float) -> float:
        """Seconds until a send may begin; 0 when it may now."""
        self.easy = self._free_running and now >= self._rest and not (self._failures or self._silent)
        return max(0.0, self._next - now, self._free - now, self._rest - now)

    def begun(self, now: float) -> None:
        """A send begins."""
        if self._interval:
            # From the moment it was due, so that late timers do not add up; after a pause from now.
            due = self._next if now - self._next < self._interval else now
            self._next = due + self._interval

    def leaves(self, now: float) -> float:
        """Seconds until the first byte of a send that has begun may leave, where something was committed in between; 0
        when it may now.

        That may have taken long: those that have waited for it leave one by one, and others begin behind them. One may
        be late by half an interval, and the next one be on time.
        """
        if not self._interval:
            return 0.0
        wait = max(0.0, self._clear - now)
        self._clear = max(now - self._interval / 2, self._clear) + self._interval
        if wait:
            self._next = max(self._next, self._clear)
        return wait

    def ended(self, now: float) -> None:
        """A send has ended, however."""
        if self._delay:
            self._free = max(self._free, now + self._delay)

    def answered(self) -> None:
        """The partner gave a definite answer."""
        self._failures = self._silent = 0

    def away(self, now: float) -> None:
        """The partner could not be reached."""
        self.easy = False
        if now >= self._rest:  # else the others that were under way tell the same
            self._failures += 1
            self._rest = now + self._backoff[min(self._failures, len(self._backoff)) - 1]

    def silent(self, now: float) -> None:
        """A send is to be repeated although it reached the partner."""
        self.easy = False
        self._silent += 1
        if self._silent >= SILENCE:
            self.away(now)
