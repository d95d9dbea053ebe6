"""Time as the runtime sees it, so that tests can hold it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, tzinfo
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
        self._quarter = -1
        self._host: tzinfo = UTC

    def now(self) -> datetime:
        """Aware, in the site's zone (the host's when the site names none)."""
        return datetime.now(self.zone or self._host_zone())

    def _host_zone(self) -> tzinfo:
        """As far from UTC as the host's zone is now: asked each quarter of an hour, within which none changes that."""
        quarter = int(self.time()) // 900
        if quarter != self._quarter:
            self._host = datetime.now(UTC).astimezone().tzinfo or UTC
            self._quarter = quarter
        return self._host
