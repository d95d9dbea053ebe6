"""What an engine does by itself: hourly it removes messages that are finished and old enough, daily it looks for what
ends of its certificates, removes old audit entries, and then notes where the trail stands, so that the log on another
machine can show later that nothing was put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from engine.config.certificates import ending_soon
from engine.config.plan import SitePlan
from engine.errors import StoreError
from engine.runtime.background import Background
from engine.runtime.clock import Clock
from engine.runtime.pruning import Pruning
from engine.store.base import PurgeAudit, Store

log = structlog.get_logger("engine.housekeeping")

HOUR, DAY = 3600.0, 86400.0
#: Seconds between two looks at the clock: a machine that slept, or whose clock was set, is noticed soon.
LOOK = 60.0
#: Audit entries that are removed in one unit.
LOT = 500


class Housekeeping:
    """Runs beside the channels of one engine."""

    def __init__(
        self, store: Store, clock: Clock, audit_keep: float, pruning: Pruning, plan: Callable[[], SitePlan]
    ) -> None:
        """``audit_keep``: seconds."""
        self.plan = plan
        self.store, self.clock, self.audit_keep, self.pruning = store, clock, audit_keep, pruning
        self._next_daily = self._next_hourly = 0.0
        self._background = Background("housekeeping", self._run)

    @property
    def next_pruning(self) -> float:
        """When old messages are looked for next, seconds since the epoch; 0 before the first time."""
        return self._next_hourly

    def start(self) -> None:
        """Begin; the first daily work is done at once."""
        self._background.begin()

    async def stop(self) -> None:
        """End, and note where the audit trail stands."""
        await self._background.end()
        try:
            self.note_head()
        except StoreError as error:  # a disk that fails must not keep the engine from stopping in order
            log.error("housekeeping.failed", error=str(error))

    async def _run(self) -> None:
        while True:
            now = self.clock.time()
            if not self._next_daily - DAY <= now < self._next_daily:  # also after a jump of the clock
                self._next_daily = now + DAY
                await self.daily()
            if not self._next_hourly - HOUR <= now < self._next_hourly:
                self._next_hourly = now + HOUR
                await self.hourly()
            await asyncio.sleep(LOOK)

    async def daily(self) -> None:
        """Tell what ends of the site's certificates, purge the audit trail, then note its head."""
        self.tell_endings()
        try:
            await self._purge_audit()
            self.note_head()
        except StoreError as error:
            log.error("housekeeping.failed", error=str(error))

    async def hourly(self) -> None:
        """Remove messages that are old enough."""
        try:
            await self.pruning.run()
        except StoreError as error:
            log.error("housekeeping.failed", error=str(error))

    async def _purge_audit(self) -> None:
        now = self.clock.time()
        while True:
            before = self.store.audit_head()
            await self.store.submit(PurgeAudit(now - self.audit_keep, now, LOT))
            if self.store.audit_head() == before:
                return

    def tell_endings(self) -> None:
        """A line for each certificate, authority and revocation list that ends soon or has ended."""
        now = datetime.fromtimestamp(self.clock.time(), UTC)
        for item in ending_soon(self.plan(), now):
            facts = {"channel": item.channel, "destination": item.destination, "file": item.ending.path.name}
            day, days = item.ending.at.date().isoformat(), item.days(now)
            if days < 0:
                log.error("tls.certificate_ended", **facts, key=item.key, ended=day)
            else:
                log.warning("tls.certificate_ends", **facts, key=item.key, ends=day, days=days)

    def note_head(self) -> None:
        """Into the log: ``hl7engine audit verify --head`` takes it later."""
        log.info("audit.head", head=self.store.audit_head())
