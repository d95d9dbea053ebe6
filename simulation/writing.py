"""The process that writes for the engine, in a world: its real code on a connection of its own, at times of its own.

It dies at any moment: before it hears what it is asked, between two writes to the disk, between its commit and its
answer. What it has written until then stays in the system's hands, and the engine hears of it a little later.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.store.process.__main__ import Process
from engine.store.process.files import files
from engine.store.process.wire import BATCH, LENGTH, Beginning, heard, told
from simulation.disk import Disk
from simulation.workload import Writing
from simulation.world import World

#: Opens a database for the process.
Connect = Callable[[Path, str], Any]

_KILLED = -9
#: Operations of the disk in one batch, about: it dies before one of them, or lives if there are fewer.
_OPERATIONS = 24


class WritingChild:
    """One process, and the transport to it that the engine holds."""

    def __init__(self, world: World, disk: Disk, work: Writing, connect: Connect, end: asyncio.Protocol) -> None:
        self.world, self.disk, self.work = world, disk, work
        self._random = world.random(f"writing process {world.now}")
        self._connect, self._end = connect, end
        self._loop = asyncio.get_running_loop()
        #: See ``engine.store.machine.Child``.
        self.pid = self._number = disk.begin_process()
        self._connections: list[Any] = []
        self._process: Process | None = None
        self._came = b""
        #: When the last thing that was said to it, and that it said, arrives.
        self._arrives = self._answers = 0.0
        self._operations_left: int | None = None
        self._dead = self._hangs = False
        self._status: int | None = None
        world.counts["writing process"] += 1
        world.note("writing process", self._number)

    # -- what the engine does --------------------------------------------------------------------------------------

    def ended(self) -> int | None:
        """See ``engine.store.machine.Child``."""
        return self._status

    def kill(self) -> None:
        """See ``engine.store.machine.Child``."""
        self._exit(_KILLED)

    def write(self, data: bytes) -> None:
        """Say something to it."""
        self._arrive(self._heard, data)

    def write_eof(self) -> None:
        """Say that nothing more will be said."""
        self._arrive(self._left)

    def is_closing(self) -> bool:
        """The engine learns of its end when that is told."""
        return False

    # -- what happens to it ----------------------------------------------------------------------------------------

    def engine_died(self, *, power: bool) -> None:
        """The engine is gone; with the power so is this one, and sometimes who kills one kills both."""
        if power or self._hangs or self._random.random() < self.work.both:
            self._exit(_KILLED)
        else:
            self._arrive(self._exit, 0)

    def _left(self) -> None:
        if not self._hangs:
            self._exit(0)

    def _exit(self, status: int) -> None:
        """Its end. What has its files open lets go of them a moment later: they may be in use right now."""
        if self._dead:
            return
        self._dead = True
        self.world.note("writing process ends", status)
        if status:
            self.world.counts["writing process died"] += 1
        self.disk.end_process(self._number)
        self._say(self._end.connection_lost, None)
        self.world.at(self._random.expovariate(1 / 0.001), self._gone, status)

    def _gone(self, status: int) -> None:
        self.close()
        self._status = status

    def close(self) -> None:
        """Let go of the real files."""
        self.disk.end_process(self._number)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    # -- what it does ----------------------------------------------------------------------------------------------

    def _heard(self, data: bytes) -> None:
        if self._dead:
            return
        self._came += data
        while not self._dead and len(self._came) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._came)[0]
            if len(self._came) < end:
                return
            message, self._came = heard(self._came[:end]), self._came[end:]
            self._asked(message)

    def _asked(self, message: Any) -> None:
        if self._random.random() < self.work.hangs:
            self._hangs = True
            self.world.counts["writing process hangs"] += 1
        if self._hangs:
            return
        dies = self._random.random() < self.work.dies
        at = self._random.randrange(_OPERATIONS) if dies else None
        if at == 0:
            self._exit(_KILLED)
            return
        self._operations_left = at if at is None or at < _OPERATIONS * 3 // 4 else None
        try:
            with self._at_work():
                answer = self._answer(message)
        except sqlite3.Error:
            self._exit(1)
            return
        if dies and self._operations_left is None:
            self._exit(_KILLED)  # it is committed, and nobody is told
        elif not self._dead:
            self._say(self._end.data_received, told(answer))

    def _answer(self, message: Any) -> Any:
        if self._process is None:
            self._process = Process(Beginning(*message), self._opened, lambda: self.world.now)
            return files()
        kind, *of = message
        if kind != BATCH:
            return self._process.move()
        answer = self._process.write(*of)
        if not self._dead:
            self.world.counts[f"batch apart{'' if isinstance(answer, tuple) else ' not kept'}"] += 1
        return answer

    def _opened(self, path: Path, mode: str) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._connect(path, mode)
        self._connections.append(connection)
        return connection

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """What the disk is asked for now is this process's doing."""
        self.disk.at_work, self.disk.counted = self._number, self._count
        try:
            yield
        finally:
            self.disk.at_work, self.disk.counted = None, None

    def _count(self) -> None:
        if self._operations_left is not None:
            self._operations_left -= 1
            if self._operations_left <= 0:
                self._exit(_KILLED)

    # -- how long it takes -----------------------------------------------------------------------------------------

    def _arrive(self, callback: Callable[..., None], *arguments: Any) -> None:
        mean = 0.05 if self._process is None else 0.0005
        if self._random.random() < self.work.slow:
            mean = 0.5
        self._arrives = max(self.world.now, self._arrives) + self._random.expovariate(1 / mean)
        self.world.at(self._arrives - self.world.now, callback, *arguments)

    def _say(self, callback: Callable[..., object], *arguments: Any) -> None:
        self._answers = max(self.world.now, self._answers) + self._random.expovariate(1 / 0.0002)
        self._loop.call_at(self._answers, callback, *arguments)
