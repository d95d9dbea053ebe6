"""MSH-10 of what the engine sends: unique across restarts and across data folders, at most 20 characters.

A partner de-duplicates on MSH-10, so an id must not come back even when the data folder was deleted: the id carries the
time in milliseconds (base 36), a per-process random part and a counter.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from itertools import count

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]


def base36(number: int, width: int) -> str:
    """``number`` in base 36, its last ``width`` digits."""
    text = ""
    while len(text) < width:
        number, pair = divmod(number, 36 * 36)
        text = _PAIRS[pair] + text
    return text[-width:]


class ControlIds:
    """Makes control ids: ``E`` + 8 digits of milliseconds + 3 of the process + 4 of a counter = 16 characters.

    The time is that of the first of each 1,296: whoever makes some later, begins later. Steps may ask in a thread.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._process = base36(secrets.randbelow(36**3), 3)
        self._blocks = count(secrets.randbelow(len(_PAIRS)))
        self._left: Iterator[str] = iter(())

    def __call__(self) -> str:
        """A new control id."""
        made = next(self._left, None)
        if made is None:
            moment, block = base36(int(self._now() * 1000), 8), _PAIRS[next(self._blocks) % len(_PAIRS)]
            self._left = left = map(f"E{moment}{self._process}{block}".__add__, _PAIRS)
            made = next(left)
        return made
