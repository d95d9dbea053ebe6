"""How often points were passed, and SIGKILL at one: nothing else, since the process that writes must start quickly."""

import mmap
import os
import signal
import struct
import time
from collections.abc import Sequence
from pathlib import Path

#: How points inside of the process that writes begin.
WRITER = "writer."
#: Variable in which that process finds its order: ``counters``, ``points``, ``point``, ``nth``.
ORDER = "CRASH_WRITER"

_COUNT = struct.Struct("<I")


class Counters:
    """How often each point was passed, in a file that outlives the process."""

    def __init__(self, path: Path, points: Sequence[str]) -> None:
        if not path.exists():
            path.write_bytes(bytes(_COUNT.size * len(points)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._places = {point: place * _COUNT.size for place, point in enumerate(points)}

    def __getitem__(self, point: str) -> int:
        return int(_COUNT.unpack_from(self._map, self._places[point])[0])

    def count(self, point: str) -> None:
        """One more."""
        _COUNT.pack_into(self._map, self._places[point], self[point] + 1)


class Killer:
    """Passes points, and dies at one."""

    def __init__(self, counters: Counters, point: str, nth: int) -> None:
        self._counters, self._point, self._left = counters, point, nth

    def passed(self, point: str) -> None:
        """This moment has come."""
        self._counters.count(point)
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)  # another thread may have been the one to be stopped first
