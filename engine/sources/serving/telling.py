"""Warnings about peers: every one is counted, and of each kind only so many are logged in a second.

What a peer does must be visible, and a flood of peers must not become a flood of log lines.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

#: Lines of one kind in one second; what is left out is counted in the next line of its kind (``untold``).
LINES, SECONDS = 10, 1.0


class Telling:
    """The warnings of one listener."""

    def __init__(
        self,
        log: Any,
        event: str,
        facts: Mapping[str, Any],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``event`` is the first part of what is logged (``mllp``), ``facts`` stand in every line."""
        self._log, self.event, self._facts, self._monotonic = log, event, facts, monotonic
        #: Begin of the second, and lines in it, for each kind.
        self._lines: dict[tuple[str, Any], tuple[float, int]] = {}
        self._untold: Counter[tuple[str, Any]] = Counter()
        #: What happened since the start, by the last part of the event in the log.
        self.counts: Counter[str] = Counter()

    def tell(self, what: str, *, level: Literal["info", "warning", "error"] = "warning", **facts: Any) -> None:
        """Count ``what``, and log it with ``facts`` unless there was too much of its kind just now."""
        self.counts[what] += 1
        now = self._monotonic()
        kind = (what, facts.get("code"))
        begin, lines = self._lines.get(kind, (now, 0))
        if now - begin >= SECONDS:
            begin, lines = now, 0
        if lines >= LINES:
            self._untold[kind] += 1
            return
        self._lines[kind] = (begin, lines + 1)
        untold = self._untold.pop(kind, 0)
        more = {"untold": untold} if untold else {}
        getattr(self._log, level)(f"{self.event}.{what}", **self._facts, **facts, **more)
