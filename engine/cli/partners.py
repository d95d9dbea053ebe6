"""The simulators as a child process of ``hl7engine run --simulators``.

The child is ``hl7engine simulate`` with its stdin tied to this process: it ends when that pipe closes, so also when
the engine is killed. It says on stdout, in one JSON line each, where it listens and when the simulated RIS's orders
have been acknowledged. It has a session of its own: Ctrl-C goes to the engine, which drains before its partners go
away.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from engine.errors import HL7EngineError

log = structlog.get_logger("engine.partners")

#: Seconds for the simulators to listen and for their orders to be acknowledged.
PATIENCE = 60.0
#: Seconds to end by itself.
GRACE = 10.0


class PartnersFailed(HL7EngineError):
    """The simulators did not start."""


class Partners:
    """Starts and stops the child."""

    def __init__(self, site: Path, data: Path, env: Mapping[str, str]) -> None:
        self.command = [sys.executable, "-m", "engine.cli", "simulate", str(site), "--data", str(data), "--child"]
        self.env = {**os.environ, **env}
        #: Name → address, as the child printed them.
        self.addresses: dict[str, str] = {}
        self.orders_acknowledged = False
        self._child: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the child and wait until its orders are acknowledged. Raises PartnersFailed when it ends before."""
        child = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self.env,
            start_new_session=True,
        )
        self._child = child
        try:
            async with asyncio.timeout(PATIENCE):
                while not self.orders_acknowledged:
                    self.hear(await self.line())
        except TimeoutError:
            log.warning("partners.orders_not_acknowledged", seconds=PATIENCE)
        self._watch = asyncio.create_task(self._until_end(child), name="simulators")

    async def line(self) -> dict[str, Any]:
        """What the child says next."""
        if self._child is None or self._child.stdout is None:
            raise PartnersFailed("the simulators are not running")
        text = await self._child.stdout.readline()
        if not text:
            code = await self._child.wait()
            raise PartnersFailed(f"the simulators ended with exit code {code}; see the lines above")
        said: dict[str, Any] = json.loads(text)
        return said

    def hear(self, said: Mapping[str, Any]) -> None:
        """Take in one line of the child."""
        if said["event"] == "listening":
            self.addresses = dict(said["addresses"])
        elif said["event"] == "ready":
            self.orders_acknowledged = True

    async def stop(self) -> None:
        """Let the child end; kill it when it does not."""
        child = self._child
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        try:
            async with asyncio.timeout(GRACE):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
        if self._watch is not None:
            await self._watch

    async def _until_end(self, child: asyncio.subprocess.Process) -> None:
        """Read on, so that the child never waits for this process, and say when it is gone."""
        while child.stdout is not None and await child.stdout.readline():
            pass
        log.info("partners.ended", code=await child.wait())
