"""The engine's end of the process that writes: starts it while much is to be written, and hands over what it is asked.

It is started when batches have come without a break for a while, is there a moment later, and ends when none has come
for a minute: an engine at rest is one process. Without it, and whatever it cannot do, the engine writes by itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any, cast

import structlog

from engine.store.absent import Absent
from engine.store.checkpoint import Moved
from engine.store.crypto import Crypto
from engine.store.faults import reason_of
from engine.store.known_keys import KnownKeys
from engine.store.machine import MACHINE, Child, Machine
from engine.store.operations import Accept, OpenKey
from engine.store.process.carried import carried
from engine.store.process.files import files
from engine.store.process.state import ProcessNow, ProcessState
from engine.store.process.wire import BATCH, IN_DOUBT, LENGTH, MOVE, NOTED, Beginning, Written, heard, told
from engine.store.stored import key_hash
from engine.store.transaction import Unit
from engine.values import dataclass

log = structlog.get_logger("engine.store")

#: It is started when so many batches came …
_MANY = 100
#: … within so many seconds,
_SOON = 2.0
#: and ends when none has come for so many.
_IDLE = 60.0
#: Seconds in which none is started again after one that died.
_AFTER_DEATH = 30.0
#: Seconds after which one that has not begun is killed: no other one comes while it is there.
_TO_BEGIN = 60.0
#: Seconds after which one that still works when the engine ends is killed.
_AT_THE_END = 10.0
#: Seconds without an answer to what it was asked after which it counts as silent.
_SILENT = 5.0
#: Seconds between two looks whether one whose socket is closed is gone.
_GONE = 0.005
#: Seconds after which a disk that could not be read is read again.
_AGAIN = 1.0

_MODULE = "engine.store.process"


@dataclass(frozen=True, slots=True)
class _Died:
    """What comes in place of an answer when the process died before it gave one."""

    #: The number of the last batch that was committed; None where it had not begun, or where the number could not be
    #: read and nobody waits any longer.
    noted: int | None


#: Takes an answer, or ``_Died``.
_Done = Callable[[Any], None]


class WritingProcess:
    """At most one process at a time. Belongs to the loop."""

    def __init__(
        self,
        folder: Path,
        crypto: Crypto,
        writer: sqlite3.Connection,
        absent: Absent,
        known: KnownKeys,
        held: Sequence[int] = (),
        machine: Machine = MACHINE,
    ) -> None:
        """``writer``: the engine's own connection that writes. ``absent`` is told which control ids are written,
        ``known`` which keys.
        ``held``: descriptors that stay open as long as a process lives. Raises sqlite3.Error.
        """
        self._machine = machine
        self._folder, self._crypto, self._execute = folder, crypto, writer.execute
        self._absent, self._known_keys, self._held = absent, known, tuple(held)
        self._loop = asyncio.get_running_loop()
        #: There from the start of a process until it is gone.
        self._life: asyncio.Task[None] | None = None
        self._end: _End | None = None
        self._starting: Child | None = None
        #: The one that there is, from its start until it is gone; what ends it when the engine cannot wait for it.
        self._child: Child | None = None
        self._last_call: asyncio.TimerHandle | None = None
        #: Batches that came lately, since when they are counted, and when a process may be started.
        self._came, self._since, self._not_before = 0, 0.0, 0.0
        self._used = self._unwanted = self._closing = False
        #: Why the disk does not say what the last one has committed; empty while it does. All commits wait for that.
        self.trouble = ""
        #: Processes that died.
        self.deaths = 0
        #: Of the last batch: no two have the same, also not those of two processes.
        self._number = self._noted()
        #: The last batch of which it is known here what became of it.
        self._known = self._number
        self._files = files()

    def write(self, batch: Sequence[Unit], done: Callable[[Written | None], None]) -> bool:
        """Have units committed, and ``done`` called then, with None when what became of them cannot be found out.
        False when the process cannot do it, and nothing happens.
        """
        if self._end is None:
            self._want()
            return False
        self._used = True
        if (operations := carried(operations for operations, _ in batch)) is None:
            return False
        ids = 0
        for unit, _ in batch:
            for operation in unit:
                if type(operation) is Accept and operation.control_id:
                    self._absent.written(operation.control_id, operation.message_id)
                    ids += 1
                elif type(operation) is OpenKey:
                    self._known_keys.opened(key_hash(self._crypto, operation.scope, operation.key))
        number = self._number = self._number + 1

        def answered(answer: Any) -> None:
            written: Written | None = answer
            if isinstance(answer, _Died):
                written = None if answer.noted is None else self._left(number, answer.noted)
            if isinstance(written, tuple):
                self._absent.visible(ids)
            self._known = number
            done(written)

        self._end.ask((BATCH, number, self._known, operations), answered)
        return True

    def _left(self, number: int, noted: int) -> Written:
        """What a process that died has left of a batch. The frames of the one that it died in may all stand in the log,
        uncommitted: only what is written over them makes sure that no crash brings them back.
        """
        return (0, 0.0) if number <= noted else IN_DOUBT

    def move(self, done: Callable[[Moved | None], None]) -> bool:
        """Have the log moved into the database (``checkpoint.py``); ``done`` is called with what came of it, if that
        is known. False when there is no process, and nothing happens.
        """
        if self._end is None:
            return False
        self._end.ask((MOVE,), lambda answer: done(None if isinstance(answer, _Died) else answer))
        return True

    async def without(self, change: Callable[[], object]) -> None:
        """Do ``change`` while there is no process; the next one begins with what is so then."""
        self._unwanted = True
        try:
            await self._stop()
            change()
        finally:
            self._unwanted = False

    def retire(self) -> None:
        """The engine ends: none is started any more, what the disk does not say by itself is not waited for, and one
        that hangs is not waited for as long as else.
        """
        self._closing = True
        self._last_call = self._loop.call_later(_AT_THE_END, self._kill)

    @property
    def now(self) -> ProcessNow:
        """How it is."""
        pid = None if self._child is None else self._child.pid
        if self._end is not None:
            silent = self._end.asked and self._loop.time() - self._end.since > _SILENT
            return ProcessNow(ProcessState.SILENT if silent else ProcessState.RUNNING, pid)
        if self._life is not None:
            begins = self._child is None or self._starting is not None
            return ProcessNow(ProcessState.STARTING if begins else ProcessState.ENDING, pid)
        if self._not_before == inf:
            return ProcessNow(ProcessState.OUTDATED)
        return ProcessNow(ProcessState.DIED if self._loop.time() < self._not_before else ProcessState.RESTING)

    async def close(self) -> None:
        """End it, and wait until it is gone."""
        self._closing = True
        await self._stop()
        if self._last_call is not None:
            self._last_call.cancel()

    def _kill(self) -> None:
        if self._child is not None:
            log.error("store.process_hangs")
            self._child.kill()

    async def _stop(self) -> None:
        self._leave()
        if self._starting is not None:
            self._starting.kill()  # it has nothing to do yet, and may never begin
        if self._life is not None:
            await asyncio.wait([self._life])

    def _leave(self) -> None:
        if self._end is not None:
            self._end.leave()
            self._end = None

    def _want(self) -> None:
        """There would be something to do."""
        now = self._loop.time()
        if now - self._since > _SOON:
            self._came, self._since = 0, now
        self._came += 1
        if self._came < _MANY or self._life is not None or now < self._not_before:
            return
        if self._unwanted or self._closing:
            return
        if files() != self._files:
            self._never("the engine's files were replaced: it wants a restart")
            return
        self._life = self._loop.create_task(self._live())

    def _never(self, reason: str) -> None:
        """None is started any more."""
        log.warning("store.process_not_started", reason=reason)
        self._not_before = inf

    async def _live(self) -> None:
        """From the start of a process until it is gone, and what it was asked last is known."""
        end = _End()
        try:
            child = await self._start(end)
        except Exception as error:  # noqa: BLE001  # no memory, no descriptor: whatever it is, the engine writes
            end.leave()
            log.warning("store.process_not_started", reason=reason_of(error))
            self._not_before = self._loop.time() + _AFTER_DEATH
        else:
            await self._gone(child, end)
        self._life = self._child = None
        self._came = 0

    async def _gone(self, child: Child, end: _End) -> None:
        """Wait until a process is gone; kill one that has done nothing else for as long as others may be idle."""
        at_work: _Done | None = None
        while not await end.lost(_IDLE):
            if end.begun and end.asked and end.asked[0] is at_work:
                log.error("store.process_hangs")
                child.kill()
            elif not self._used:
                self._leave()
            self._used, at_work = False, end.asked[0] if end.asked else None
        self._end = None
        # No thread waits for it: those may all have much to do.
        while (status := child.ended()) is None:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(_GONE)
        if not (end.left or self._unwanted or self._closing):
            self.deaths += 1
            log.warning("store.process_died", status=status)
            self._not_before = self._loop.time() + _AFTER_DEATH
        if end.asked:  # nothing of it goes on any more, and what it has committed is there
            # Before it begins it has committed nothing, and the engine may be writing: its connection is in use.
            died = _Died(await self._last() if end.begun else None)
            while end.asked:
                end.asked.popleft()(died)

    async def _last(self) -> int | None:
        """The number of the last batch that was committed."""
        try:
            while True:
                try:
                    return self._noted()
                except sqlite3.Error as error:
                    if self._closing:
                        return None
                    if not self.trouble:
                        log.error("store.refuses", reason=reason_of(error))
                    self.trouble = reason_of(error)
                    await asyncio.sleep(_AGAIN)
        finally:
            if self.trouble and not self._closing:
                log.warning("store.takes_again")
            self.trouble = ""

    def _noted(self) -> int:
        return next((int(number) for (number,) in self._execute(NOTED)), 0)

    async def _start(self, end: _End) -> Child:
        child = await self._machine.start(_MODULE, end, self._held)
        self._starting = self._child = child
        if self._unwanted or self._closing:
            child.kill()

        late = self._loop.call_later(_TO_BEGIN, self._kill)

        def begun(answer: Any) -> None:
            late.cancel()
            self._starting = None
            if self._unwanted or self._closing:
                end.leave()
            elif isinstance(answer, _Died):
                pass  # told by whoever waits for its end
            elif answer != self._files:  # replaced in this very moment, or found elsewhere
                end.leave()
                self._never("it runs other files than the engine")
            else:
                self._end, end.begun = end, True

        self._used = True
        keys = self._crypto
        beginning = Beginning(str(self._folder), keys.keys, keys.current, keys.hash_key, keys.encrypt)
        end.ask(tuple(beginning), begun)
        return child


class _End(asyncio.Protocol):
    """The engine's end of the socket to one process."""

    def __init__(self) -> None:
        #: Who waits for the answers, in their order.
        self.asked: deque[_Done] = deque()
        #: The loop's time, and since when the first of them waits.
        self._time = asyncio.get_running_loop().time
        self.since = 0.0
        #: Whether it has begun to take batches; whether the engine has ended it.
        self.begun = self.left = False
        self._transport: asyncio.Transport | None = None
        self._came = b""
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, message: Sequence[Any], done: _Done) -> None:
        """Ask something; ``done`` takes the answer."""
        assert self._transport is not None  # noqa: S101 - made before anything is asked
        written = told(message)
        if not self.asked:
            self.since = self._time()
        self.asked.append(done)
        if not self._transport.is_closing():  # else it is dead, and ``done`` is told so when it is gone
            self._transport.write(written)

    def data_received(self, data: bytes) -> None:
        came = self._came + data
        while len(came) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(came)[0]
            if len(came) < end:
                break
            answer, came = heard(came[:end]), came[end:]
            self.since = self._time()
            self.asked.popleft()(answer)
        self._came = came

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()

    def leave(self) -> None:
        """Ask nothing any more: the process answers what it was asked, and ends."""
        self.left = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    async def lost(self, seconds: float) -> bool:
        """Wait for the end of the connection; whether it came within so many seconds."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._lost.wait(), seconds)
        return self._lost.is_set()
