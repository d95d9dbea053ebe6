"""MSH-10 of what the engine sends: unique across restarts and across data folders, at most 20 characters.

A partner de-duplicates on MSH-10, so an id must not come back even when the data folder was deleted: the id carries the
time in milliseconds (base 36), a per-process random part and a counter.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

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
    """Makes control ids: ``E`` + 8 digits of milliseconds + 3 of the process + 4 of a counter = 16 characters."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._process = base36(secrets.randbelow(36**3), 3)
        self._count = secrets.randbelow(36**3)
        #: The time but for its last two digits, which change every 1.3 s, and its text.
        self._era, self._era_text = -1, ""
        #: A millisecond, and what the ids made in it begin with.
        self._moment, self._beginning = -1, ""

    def __call__(self) -> str:
        """A new control id."""
        self._count = count = (self._count + 1) % 36**4
        moment = int(self._now() * 1000)
        if moment != self._moment:
            era, rest = divmod(moment, 36 * 36)
            if era != self._era:
                self._era, self._era_text = era, base36(era, 6)
            self._moment, self._beginning = moment, f"E{self._era_text}{_PAIRS[rest]}{self._process}"
        return self._beginning + _PAIRS[count // 1296] + _PAIRS[count % 1296]
