"""Watches the space that is left where the data folder is, so that a person hears of it long before the disk is full.

Looked at every half a minute and whenever somebody asks for the engine's health; messages cost nothing.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from engine.config.settings import DiskSettings
from engine.runtime.background import Background

log = structlog.get_logger("engine.disk")

#: Seconds between two looks.
LOOK = 30.0
#: It is enough again when there is so much more than the least: nobody is told twice of one gigabyte.
_MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class Space:
    """A file system, in bytes."""

    free: int
    total: int


class DiskWatch:
    """One engine's look at its disk."""

    def __init__(self, folder: Path, settings: DiskSettings) -> None:
        """``folder``: the data folder."""
        self.folder, self.settings = folder, settings
        #: Less is left than the site wants.
        self.low = False
        self._background = Background("disk", self._run)

    def begin(self) -> None:
        """Look, and go on looking."""
        self._background.begin()

    async def end(self) -> None:
        """Look no more."""
        await self._background.end()

    def look(self) -> Space | None:
        """What is left now, None where it cannot be seen. The log hears when it is too little, or enough."""
        try:
            found = os.statvfs(self.folder)
        except OSError:
            return None
        # Of what is free the last few percent may be the system's alone.
        space = Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
        least = self.least(space)
        if not self.low and space.free < least:
            self.low = True
            log.warning("disk.low", free_bytes=space.free, total_bytes=space.total, least_bytes=least)
        elif self.low and space.free >= least * _MARGIN:
            self.low = False
            log.warning("disk.enough", free_bytes=space.free, total_bytes=space.total)
        return space

    def least(self, space: Space) -> int:
        """Bytes that must be free."""
        share: float = self.settings.warn_below_percent
        return max(self.settings.warn_below, int(space.total * share / 100))

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK)
