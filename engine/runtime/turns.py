"""So many at once, the others in their order, each for so long at most: the connections of a partner who is asked."""

from __future__ import annotations

import asyncio
from collections import deque

from engine.runtime.running import Tell, Wait


class Turns:
    """Hands out turns."""

    def __init__(self, at_once: int, seconds: float) -> None:
        """``seconds``: how long one waits for a turn."""
        self._free, self.seconds = at_once, seconds
        self.waiting: deque[_Waiting] = deque()

    def take_free(self) -> bool:
        """Take a turn that nobody has; False when there is none."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def take(self) -> bool:
        """Wait for a turn (of a ``Running``); False when it did not come in time."""
        return self.take_free() or await _Waiting(self)

    def give_back(self) -> None:
        """A turn has ended: the next one's begins."""
        if self.waiting:
            self.waiting.popleft().take()
        else:
            self._free += 1


class _Waiting(Wait[bool]):
    """One who waits for a turn."""

    __slots__ = ("_has_it", "_tell", "_timer", "_turns")

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns, self._has_it = turns, False

    def begin(self, tell: Tell) -> None:
        """Wait; ``tell`` says whether it came."""
        self._tell = tell
        self._timer = asyncio.get_running_loop().call_later(self._turns.seconds, self._late)
        self._turns.waiting.append(self)

    def take(self) -> None:
        """It has come. Told in the next turn of the loop: many who fail at once must not do so within each other."""
        self._has_it = True
        self._timer.cancel()
        asyncio.get_running_loop().call_soon(self._tell, True)

    def give_up(self) -> None:
        """Wait no longer."""
        if self._has_it:
            self._turns.give_back()
        else:
            self._timer.cancel()
            self._turns.waiting.remove(self)

    def _late(self) -> None:
        self.give_up()
        self._tell(False)
