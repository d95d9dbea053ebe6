"""One channel of the site as its supervisor sees it: the plan, and what runs of it."""

from __future__ import annotations

import asyncio

from engine.config.plan import ChannelPlan
from engine.runtime.channel import RunningChannel


class Supervised:
    """One channel of the site, running or not."""

    def __init__(self, plan: ChannelPlan) -> None:
        self.plan = plan
        #: ``running`` | ``stopped`` (by a person) | ``failed`` (will be started again)
        self.state = "stopped"
        self.error = ""
        self.running: RunningChannel | None = None
        self.task: asyncio.Task[None] | None = None
        self.stop_wanted = asyncio.Event()
        #: Set when the first attempt to start has ended, well or not.
        self.attempted = asyncio.Event()
