"""Time as the runtime sees it, so that tests can hold it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo


class Clock(Protocol):
    """Wall-clock time."""

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def now(self) -> datetime:
        """The same moment, aware, in the site's zone."""
        ...


class SystemClock:
    """The machine's clock."""

    def __init__(self, zone: ZoneInfo | None = None) -> None:
        self.zone = zone
        #: Seconds since the epoch.
        self.time = time.time

    def now(self) -> datetime:
        """Aware, in the site's zone (the host's when the site names none)."""
        return datetime.now(UTC).astimezone(self.zone)
