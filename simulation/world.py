"""Virtual time and everything that happens in it. One seed, one course of events; ``trace`` proves it."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

#: Seconds since the epoch at which every world begins.
EPOCH = 1_767_268_800.0
#: Seconds one step of the engine's loop takes: the rest of the world moves on meanwhile.
STEP_SECONDS = 20e-6


class Event:
    """Something that will happen unless it is cancelled."""

    __slots__ = ("arguments", "callback", "cancelled")

    def __init__(self, callback: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.callback, self.arguments, self.cancelled = callback, arguments, False

    def cancel(self) -> None:
        """It does not happen."""
        self.cancelled = True


class World:
    """Time, chance, and what happens next."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        #: Seconds since the beginning.
        self.now = 0.0
        #: Seconds by which the wall clock is wrong.
        self.skew = 0.0
        #: What went wrong on purpose, and what people did: how often.
        self.counts = Counter[str]()
        #: What went wrong inside of the engine: exceptions nobody caught, tasks that ended badly.
        self.failures: list[str] = []
        #: Runs one step of the engine; None while it is down.
        self.engine: Any = None
        self.steps = 0
        self._events: list[tuple[float, int, Event]] = []
        self._sequence = 0
        self._trace = hashlib.blake2b(digest_size=16)
        #: Kept only when somebody wants to read it.
        self.story: list[str] | None = None

    def random(self, name: str) -> Random:
        """Chance of its own for everything with a name: one more draw here changes nothing there."""
        return Random(f"{self.seed}/{name}")

    def time(self) -> float:
        """Seconds since the epoch, as the machine's clock has it."""
        return EPOCH + self.now + self.skew

    def set_clock(self, seconds: float) -> None:
        """The wall clock is set forwards, or back."""
        self.note("clock", seconds)
        self.counts["clock forwards" if seconds > 0 else "clock back"] += 1
        self.skew += seconds

    def at(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Event:
        """Let something happen ``delay`` seconds from now."""
        event = Event(callback, arguments)
        self._sequence += 1
        heapq.heappush(self._events, (self.now + delay, self._sequence, event))
        return event

    def note(self, what: str, *facts: Any) -> None:
        """Write something down; two runs of a seed write the same."""
        self._trace.update(f"{self.now:.9f} {what} {facts!r}\n".encode())
        if self.story is not None:
            self.story.append(f"{self.now:12.6f}  {what} {' '.join(map(str, facts))}")

    @property
    def trace(self) -> str:
        """The hash of everything noted so far."""
        return self._trace.hexdigest()

    def run(self, until: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until ``until`` holds; whether it did within ``seconds``."""
        end = self.now + seconds
        while not until():
            if not self._next(end):
                return until()
        return True

    def _next(self, end: float) -> bool:
        events, engine = self._events, self.engine
        while events and events[0][2].cancelled:
            heapq.heappop(events)
        due = events[0][0] if events else float("inf")
        if engine is not None:
            if engine.is_ready and due > self.now:
                self.steps += 1
                engine.step()
                self.now += STEP_SECONDS
                return True
            timer = engine.next_timer()
            if timer < due:
                if timer > end:
                    self.now = end
                    return False
                self.now = max(self.now, timer)
                engine.wake_timers()
                return True
        if due > end:
            self.now = max(self.now, end)
            return False
        _, _, event = heapq.heappop(events)
        self.now = max(self.now, due)
        event.callback(*event.arguments)
        return True
