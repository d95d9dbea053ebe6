"""The engine as a process that is started, watched and killed; it dies by itself only at the point it was given."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import points, shim
from .counters import Counters
from .plan import Kill
from .shim import Disk
from .site import Site

REPOSITORY = Path(__file__).parents[2]
#: Seconds in which an engine must be ready, or gone after a signal to stop.
PATIENCE = 30.0
#: Events of the log that are a fault of the engine whatever was done to it.
FAULTS = re.compile(r'"event": "(loop\.fault|(rest|route|delivery|exchange)\.internal_error)"|Traceback')


class Machine:
    """One engine at a time, forked from a launcher."""

    def __init__(self, site: Site, folder: Path, disk: Disk | None) -> None:
        self.site, self.folder, self.disk = site, folder, disk
        self.counters = Counters(folder / "points", points.POINTS)
        self.log = folder / "engine.log"
        #: What the engine removed, a line each.
        self.witness = folder / "removed.jsonl"
        #: Seconds by which the engine's wall clock is ahead.
        self.ahead = 0
        self.pid = 0
        self.starts = 0
        self._launcher: asyncio.subprocess.Process | None = None
        self._ended: asyncio.Future[int] | None = None
        self._channels = self._writers = 0

    async def open(self) -> None:
        """Start the launcher."""
        disk = self.disk.environment if self.disk is not None else {}
        own = re.compile(r"HL7ENGINE_|.*_(PORT|HOST)$")
        kept = {name: value for name, value in os.environ.items() if not own.match(name)}
        self._launcher = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.crash.launcher",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=REPOSITORY,
            env={**kept, **self.site.environment(), **disk},
        )

    async def close(self) -> None:
        """End the launcher and whatever runs."""
        if self._launcher is None or self._launcher.stdin is None:
            return
        if self.is_running:
            await self.kill()
        self._launcher.stdin.close()
        await self._launcher.wait()

    @property
    def is_running(self) -> bool:
        """Whether there is an engine."""
        return self._ended is not None and not self._ended.done()

    def turn_clock(self, seconds: int) -> None:
        """Set the engine's wall clock ahead, or back when negative."""
        assert self.disk is not None
        self.ahead += seconds
        self.disk.set_clock(self.ahead)

    async def start(self, kill: Kill | None = None, site: Site | None = None) -> None:
        """Begin an engine on ``site``, else on its own one; it may be dead before it is ready."""
        point, nth = (kill.point, kill.nth) if kill is not None else ("", 0)
        apart = kill is not None and kill.apart
        site = site or self.site
        folder = site.data
        if self.disk is not None:
            self.disk.watch(folder)
            self.disk.live()
            if point in shim.POINTS:
                self.disk.kill_at(point, nth)
        self.starts += 1
        self._channels = self.counters["start.channel.after"]
        self._writers = self.counters["writer.start.after"]
        words = ["run", str(site.folder), "--data", str(folder), "--log-level", "warning"]
        await self._tell({"arguments": words, "log": str(self.log), "point": point, "nth": nth, "apart": apart})
        self.pid = (await self._hear())["pid"]
        self._ended = asyncio.ensure_future(self._end())

    async def ready(self, channels: int) -> bool:
        """Wait until so many channels have started; False when the engine died before."""
        deadline = time.monotonic() + PATIENCE
        while self.is_running:
            if self.counters["start.channel.after"] - self._channels >= channels:
                return True
            if time.monotonic() > deadline:
                problems = [line for line in self.log.read_text().splitlines() if not line.startswith("{")]
                raise AssertionError(f"the engine is not ready after {PATIENCE} s: {problems[-40:]} … {self.told()}")
            await asyncio.sleep(0.005)
        return False

    async def died(self, seconds: float) -> bool:
        """Wait until the engine is gone, at most so long; whether it is."""
        assert self._ended is not None
        await asyncio.wait({self._ended}, timeout=seconds)
        return self._ended.done()

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._ended is not None
        if not self._ended.done():
            os.kill(self.pid, signal.SIGKILL)
        await self._ended

    async def writes_apart(self) -> None:
        """Wait until the process that writes is there, or the engine is gone."""
        deadline = time.monotonic() + PATIENCE
        while self.is_running and self.counters["writer.start.after"] == self._writers and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def kill_writer(self) -> bool:
        """SIGKILL for the process that writes; whether there was one."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return False
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
        return bool(children)

    def writers_died(self) -> int:
        """How often the engine noticed that the process that writes was gone."""
        return self.log.read_text(errors="replace").count('"store.process_died"') if self.log.exists() else 0

    def terminate(self) -> None:
        """SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    @property
    def signal(self) -> int:
        """The signal that ended the last run, or minus its exit code."""
        assert self._ended is not None
        status = self._ended.result()
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)

    def passed(self, point: str) -> int:
        """How often a point was passed, in all runs."""
        if point in points.POINTS:
            return self.counters[point]
        return self.disk.passed(point) if self.disk is not None else 0

    def told(self) -> str:
        """The end of what the engine wrote."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def faults(self) -> list[str]:
        """What the engine's log must not hold."""
        if not self.log.exists():
            return []
        return [line for line in self.log.read_text(errors="replace").splitlines() if FAULTS.search(line)]

    async def _tell(self, order: dict[str, Any]) -> None:
        assert self._launcher is not None
        assert self._launcher.stdin is not None
        order = {**order, "counters": str(self.folder / "points"), "witness": str(self.witness)}
        self._launcher.stdin.write(json.dumps(order).encode() + b"\n")
        await self._launcher.stdin.drain()

    async def _hear(self) -> dict[str, int]:
        assert self._launcher is not None
        assert self._launcher.stdout is not None
        line = await self._launcher.stdout.readline()
        assert line, f"the launcher ended: {self.told()}"
        heard: dict[str, int] = json.loads(line)
        return heard

    async def _end(self) -> int:
        return (await self._hear())["ended"]
