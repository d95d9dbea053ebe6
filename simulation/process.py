"""The engine's process in a world: it boots on the disk, runs the real code, and ends in one of three ways."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.config.plan import ChannelPlan, DestinationPlan, Order, Retry, SitePlan
from engine.config.settings import AdminSettings, RestSettings, SiteSettings
from engine.destinations.base import Building as DestinationBuilding
from engine.destinations.mllp import MllpDestination, MllpDestinationConfig
from engine.envelope import Envelope
from engine.errors import StepFailed, StoreError
from engine.hl7.path import Path as HL7Path
from engine.runtime.supervisor import Supervisor
from engine.sources.base import Building as SourceBuilding
from engine.sources.mllp import MllpSource, MllpSourceConfig
from engine.store.sqlite import SqliteStore
from engine.transforms.base import Chain, Context, Step, Verdict
from simulation.disk import Disk
from simulation.loop import SimulatedLoop
from simulation.network import Network
from simulation.sqlite import SimulatedMachine
from simulation.workload import ACK_DEADLINE, Channel, Death, To, Workload
from simulation.world import World

KEY = bytes(range(32))
DATA = Path("/simulated/data")


class _Clock:
    """The engine's clock is the world's."""

    def __init__(self, world: World) -> None:
        self.time = world.time

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)


class _ByEvent(Step):
    """S99 is filtered, S66 fails."""

    Config = dict

    def __init__(self) -> None:
        """Nothing to configure."""

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        if envelope.body.event == "S66":
            raise StepFailed("simulated", "told_to")
        return Verdict.DROP if envelope.body.event == "S99" else Verdict.CONTINUE


class _NoHttp:
    """No channel of a simulation listens to HTTP."""

    address = ""

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class Shown:
    """What the store shows at one moment."""

    #: Message id → (control id, state)
    messages: dict[int, tuple[str, str]]
    #: Delivery id → (message id, destination, state, key, may be duplicated, cause)
    deliveries: dict[int, tuple[int, str, str, str, bool, str]]


_MESSAGES = "SELECT id, control_id, state FROM message"
_DELIVERIES = "SELECT id, message_id, destination, state, key, may_be_duplicated, cause FROM delivery"


class Engine:
    """One engine through all of its lives."""

    def __init__(self, world: World, network: Network, disk: Disk, machine: SimulatedMachine, work: Workload) -> None:
        self.world, self.network, self.disk, self.machine, self.work = world, network, disk, machine, work
        self.life = 0
        self.boots = 0
        self.ends: dict[str, int] = {}
        self.store: SqliteStore | None = None
        self.loop: SimulatedLoop | None = None
        #: What the store showed when the last life ended.
        self.last_shown: Shown | None = None
        self.problems: list[str] = []
        self.after_boot: Any = lambda: None
        self._stop: asyncio.Event | None = None
        self._restarting = False
        self._deaths = list(work.deaths)

    # -- life ------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """A process starts."""
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
        store = SqliteStore(self.machine.folder, KEY, now=self.world.time, machine=self.machine)  # type: ignore[arg-type]
        try:
            await store.open()
        except (StoreError, OSError):
            return "could not open"
        self.store, self.boots = store, self.boots + 1
        self.after_boot()
        supervisor = Supervisor(self._site(), store, _Clock(self.world))
        supervisor.http = _NoHttp()  # type: ignore[assignment]
        try:
            await supervisor.start()
        except StoreError:
            return "could not start"  # who runs these files could not be written into the audit trail
        await stop.wait()
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
        self.store = None
        self.network.die(power=power)
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
            {row_id: (control_id, state) for row_id, control_id, state in messages},
            {
                row_id: (message_id, destination, state, key, bool(mark), cause)
                for row_id, message_id, destination, state, key, mark, cause in deliveries
            },
        )

    def integrity(self) -> str:
        """SQLite's own opinion of its file."""
        assert self.store is not None
        assert self.store._state is not None
        rows = self.store._state.reader.execute("PRAGMA integrity_check").fetchall()
        return "; ".join(text for (text,) in rows)

    # -- what it runs ----------------------------------------------------------------------------------------------

    def _site(self) -> SitePlan:
        channels = {channel.name: self._channel(channel) for channel in self.work.channels}
        settings = SiteSettings(rest=RestSettings(port=0), admin=AdminSettings(port=0))
        return SitePlan(DATA.parent, DATA, settings, channels, {}, ())

    def _channel(self, channel: Channel) -> ChannelPlan:
        clock = _Clock(self.world)
        source = MllpSource(
            MllpSourceConfig(port=channel.port), SourceBuilding(channel.name, DATA.parent, DATA), now=clock.now
        )
        order = Order("key", (HL7Path.parse("PID-3.1"),)) if channel.order == "key" else Order(channel.order)
        return ChannelPlan(
            channel.name,
            f"channels/{channel.name}.yaml",
            source,
            tuple(self._destination(channel, to, order, clock) for to in channel.destinations),
            ack=channel.ack,
            ack_deadline=ACK_DEADLINE,
            order=order,
            on_error=channel.on_error,
            transform=Chain([_ByEvent()]),
        )

    def _destination(self, channel: Channel, to: To, order: Order, clock: _Clock) -> DestinationPlan:
        config = MllpDestinationConfig(
            host="partner", port=to.port, timeout=to.timeout, connect_timeout=1.0, keep=to.keep, idle_timeout=30.0
        )
        building = DestinationBuilding(channel.name, to.name, DATA.parent, DATA, to.connections)
        return DestinationPlan(
            to.name,
            MllpDestination(config, building, now=clock.now),
            connections=to.connections,
            retry=Retry((0.5, 2.0, 5.0), attempts=to.attempts),
            on_unanswered=to.on_unanswered,
            order=order,
        )
