"""The engine's process in a world: it boots on the disk, runs the real code, and ends in one of three ways."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import StoreError
from engine.runtime.supervisor import Supervisor
from engine.store.sqlite import SqliteStore
from simulation.disk import Disk
from simulation.loop import SimulatedLoop
from simulation.network import Network
from simulation.site import Clock, Site
from simulation.sqlite import SimulatedMachine
from simulation.workload import Death, Workload
from simulation.world import World

KEY = bytes(range(32))


class _NoHttp:
    """No channel of a simulation listens to HTTP."""

    address = ""

    def expect(self, claims: object) -> None:
        """Nothing will be served."""

    def let_in(self, keys: object) -> None:
        """Nobody calls."""

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""


class ShownMessage(NamedTuple):
    """A message as the store shows it."""

    control_id: str
    state: str
    cause: str
    ack: str
    channel: str
    received_at: float

    @property
    def is_taken(self) -> bool:
        """It was neither refused, nor known again as one that came before."""
        return self.state != "refused" and not self.cause.startswith("duplicate ")


class ShownDelivery(NamedTuple):
    """A delivery as the store shows it."""

    message_id: int
    destination: str
    state: str
    key: str
    may_be_duplicated: int
    cause: str
    control_id: str
    channel: str


class Shown(NamedTuple):
    """What the store shows at one moment, by id."""

    messages: dict[int, ShownMessage]
    deliveries: dict[int, ShownDelivery]


_CONTROL_ID = "coalesce(late_control_id, control_id)"
_MESSAGES = f"SELECT id, {', '.join((_CONTROL_ID, *ShownMessage._fields[1:]))} FROM message"
_DELIVERIES = f"SELECT id, {', '.join(ShownDelivery._fields)} FROM delivery"
_TAKEN = f"SELECT 1 FROM message WHERE {_CONTROL_ID} = ? AND state <> 'refused' LIMIT 1"


class Engine:
    """One engine through all of its lives."""

    def __init__(
        self, world: World, network: Network, disk: Disk, machine: SimulatedMachine, work: Workload, site: Site
    ) -> None:
        self.world, self.network, self.disk, self.machine, self.site = world, network, disk, machine, site
        self.work = work
        self.life = 0
        self.boots = 0
        self.ends: dict[str, int] = {}
        self.store: SqliteStore | None = None
        self.supervisor: Supervisor | None = None
        self.loop: SimulatedLoop | None = None
        #: What the store showed when the last life ended.
        self.last_shown: Shown | None = None
        self.problems: list[str] = []
        self.after_boot: Any = lambda: None
        self.after_death: Any = lambda: None
        self._stop: asyncio.Event | None = None
        self._restarting = False
        self._deaths = list(work.deaths)

    # -- life ------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """A process starts, once nothing is left of the one before."""
        if self.machine.is_held:
            self.world.at(0.01, self.boot)
            return
        self._restarting = False
        self.life += 1
        self.world.note("boot", self.life)
        loop = self.loop = self.world.engine = SimulatedLoop(self.world, self.network)
        asyncio._set_running_loop(loop)
        self._stop = asyncio.Event()
        self._prepare(loop)
        main = loop.create_task(self._run(self._stop))
        main.add_done_callback(lambda task: self._ended(task))

    async def _run(self, stop: asyncio.Event) -> str:
        machine: Any = self.machine
        apart = self.work.writing is not None
        store = SqliteStore(machine.folder, KEY, apart=apart, now=self.world.time, machine=machine)
        try:
            await store.open()
        except (StoreError, OSError):
            return "could not open"
        self.store, self.boots = store, self.boots + 1
        self.after_boot()
        supervisor = Supervisor(self.site.load(), store, Clock(self.world), self.site.load)
        supervisor.http = _NoHttp()  # type: ignore[assignment]
        self.supervisor = supervisor
        starting = asyncio.create_task(supervisor.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
        else:
            starting.result()
            await stopping
        await supervisor.stop(20.0)
        self.last_shown = self.shown()
        await store.close()
        return "stop"

    def _ended(self, task: asyncio.Task[str]) -> None:
        if self.world.engine is not self.loop:
            return
        if error := task.exception():
            at = traceback.extract_tb(error.__traceback__)
            where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(at))
            self.problems.append(f"the process ended by itself: {type(error).__name__}: {error} at {where}")
        how = "broke" if task.exception() else task.result()
        self.world.note("ended", how)
        self._end(how, power=False, pause=1.0)

    def die(self, how: str, pause: float) -> None:
        """The process ends without a word."""
        if self.world.engine is None:
            return
        self.world.note("dies", how)
        if self.store is not None:
            self.last_shown = self.shown() or self.last_shown
        self._end(how, power=how == "power", pause=pause)

    def _end(self, how: str, *, power: bool, pause: float) -> None:
        self.ends[how] = self.ends.get(how, 0) + 1
        loop = self.loop
        self.world.engine = None
        self.store = self.supervisor = None
        self.after_death()
        self.network.die(power=power)
        self.machine.engine_died(power=power)
        if power:
            self.disk.lose_power()
        else:
            self.disk.process_died()
        self._restarting = True
        self.world.at(0.0, self._bury, loop)
        self.world.at(pause + 1e-6, self.boot)

    def _bury(self, loop: SimulatedLoop) -> None:
        loop.abandon()
        self.machine.die()
        asyncio._set_running_loop(None)

    def stop(self) -> None:
        """SIGTERM."""
        if self.world.engine is not None and self._stop is not None:
            self._stop.set()

    def will_die(self, deaths: list[Death]) -> None:
        """How its lives end, in place of what the seed chose; an empty list lets it live."""
        self._deaths = deaths

    # -- how it will end -------------------------------------------------------------------------------------------

    def _prepare(self, loop: SimulatedLoop) -> None:
        if not self._deaths:
            return
        death = self._deaths.pop(0)
        if death.operation is not None:
            self.disk.strike_at = self.disk.operations + death.operation
            self.disk.strike = lambda: self._strike(loop, death)
        elif (delay := death.after_failure) is not None:
            self.disk.failed = lambda: self.world.at(delay, self._strike, loop, death) and None
        elif death.step is not None:
            loop.call_at_step(death.step, lambda: self._strike(loop, death))
        else:
            self.world.at(death.after, self._strike, loop, death)

    def _strike(self, loop: SimulatedLoop, death: Death) -> None:
        if self.world.engine is not loop:
            return
        if death.how == "stop" and death.operation is None:
            self.stop()
        else:
            self.die("power" if death.how == "power" else "kill", death.pause)

    # -- what it shows ---------------------------------------------------------------------------------------------

    def shown(self) -> Shown | None:
        """What anybody who asks the store sees; None when it cannot be read."""
        if self.store is None or self.store._state is None:
            return None
        reader = self.store._state.reader
        trouble, self.disk.trouble = self.disk.trouble, type(self.disk.trouble)()
        try:
            messages = reader.execute(_MESSAGES).fetchall()
            deliveries = reader.execute(_DELIVERIES).fetchall()
        finally:
            self.disk.trouble = trouble
        return Shown(
            {row_id: ShownMessage._make(row) for row_id, *row in messages},
            {row_id: ShownDelivery._make(row) for row_id, *row in deliveries},
        )

    def has(self, control_id: str) -> bool:
        """Whether the store shows a message that was not refused."""
        assert self.store is not None
        assert self.store._state is not None
        trouble, self.disk.trouble = self.disk.trouble, type(self.disk.trouble)()
        try:
            return self.store._state.reader.execute(_TAKEN, (control_id,)).fetchone() is not None
        finally:
            self.disk.trouble = trouble

    def integrity(self) -> str:
        """SQLite's own opinion of its file."""
        assert self.store is not None
        assert self.store._state is not None
        rows = self.store._state.reader.execute("PRAGMA integrity_check").fetchall()
        return "; ".join(text for (text,) in rows)
