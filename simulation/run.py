"""One seed: make its world, let the storm pass, let everything calm down, and judge."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog

from engine.destinations.connections import mllp as mllp_connections
from engine.envelope import new_correlation_id
from engine.sources import mllp as mllp_source
from engine.store import absent, checkpoint, group_commit, late, sqlite
from engine.store.process import under_way, writing
from simulation import checks
from simulation.checks import History, account, searches
from simulation.checks_acks import acks
from simulation.checks_pace import paces
from simulation.choose import choose
from simulation.disk import Disk, File, Trouble
from simulation.ledger import Ledger
from simulation.network import ListeningSocket, Network, Weather
from simulation.partners import CALM, Partner
from simulation.people import People
from simulation.process import Engine
from simulation.senders import Sender
from simulation.site import Site
from simulation.sqlite import FileSystem, SimulatedMachine
from simulation.workload import Workload
from simulation.world import World

#: Seconds (of the world) in which everything must have come to rest once it is calm.
PATIENCE = 900.0
#: In what part of the worlds what is indexed late is indexed after a few messages.
INDEXED_SOON = 0.5


@dataclass
class Outcome:
    """What came of a seed."""

    seed: int
    trace: str
    violations: list[str]
    messages: int = 0
    #: How a life ended → how often.
    ends: dict[str, int] = field(default_factory=dict)
    #: What went wrong on purpose, and what people did: how often.
    counts: Counter[str] = field(default_factory=Counter)
    taken: int = 0
    steps: int = 0
    seconds: float = 0.0
    story: list[str] = field(default_factory=list)


#: Changes a world before it begins; the broken engines of the tests are made with it.
Change = Callable[["Simulation"], None]


class _Stage:
    """The real folder and the SQLite file system that all worlds of this process use in turn."""

    def __init__(self) -> None:
        where = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self._folder = tempfile.TemporaryDirectory(prefix="hl7engine-simulation-", dir=where)
        self.folder = Path(self._folder.name)
        (self.folder / "engine.db").touch()
        self.file_system = FileSystem(f"simulated-{os.getpid()}", Disk(World(0)))

    def machine(self, world: World, disk: Disk) -> SimulatedMachine:
        self.file_system.disk = disk
        return SimulatedMachine(world, disk, self.folder, f"simulated-{os.getpid()}")

    @cached_property
    def prepared(self) -> bytes:
        """A database that was just made: most worlds begin with it, for making it takes longer than using it."""
        simulation = Simulation(0, Workload(), prepared=False)
        with _everything_replaced(simulation):
            simulation.engine.boot()
            simulation.world.run(lambda: simulation.engine.boots > 0, 1.0)
            simulation.engine.stop()
            simulation.world.run(lambda: "stop" in simulation.engine.ends, 1.0)
            simulation.world.engine = None
        return bytes(simulation.disk.files["engine.db"].cached)


_stage: _Stage | None = None


def stage() -> _Stage:
    global _stage
    if _stage is None:
        _stage = _Stage()
    return _stage


class Simulation:
    """Everything of one seed."""

    def __init__(self, seed: int, work: Workload | None = None, *, prepared: bool = True) -> None:
        content = stage().prepared if prepared else b""
        self.world = World(seed)
        self.work = work or choose(self.world.random("workload"))
        self.ledger = Ledger()
        self.network = Network(self.world, self.ledger, self.work.weather)
        self.disk = Disk(self.world)
        if content and not self.work.first_run:
            self.disk.files["engine.db"] = File(content)
        self.machine = stage().machine(self.world, self.disk)
        ledger = self.ledger
        self.site = Site(self.world, ledger, self.work)
        self.engine = Engine(self.world, self.network, self.disk, self.machine, self.work, self.site)
        self.people = People(self.world, ledger, self.work, self.site, self.engine)
        self.history = History(self.work, ledger)
        self.violations: list[str] = []
        self._look_at = 0.0
        self._righting: Any = None
        self._righted = False
        ledger.now, ledger.life = lambda: self.world.now, lambda: self.engine.life
        ledger.on_positive = self._is_committed
        ledger.ack_ports = {channel.acks.port for channel in self.work.channels if channel.acks is not None}
        self.engine.after_boot = self._booted
        self.engine.after_death = self._died
        ledger.messages = {message.control_id: message for feed in self.work.feeds for message in feed.messages}
        self.partners = {
            to.partner: Partner(self.world, self.network, ledger, to.partner, to.port, to.temper, to.timeout)
            for to in self.work.outlets
        }
        self.senders = [
            Sender(self.world, self.network, ledger, feed.name, feed.port, feed.messages, feed.window, feed.ack_timeout)
            for feed in self.work.feeds
        ]
        for partner in self.partners.values():
            partner.acknowledged = self._told

    def _told(self, control_id: str, code: str) -> None:
        for sender in self.senders:
            sender.told(control_id, code)

    # -- the course of events --------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """All of it."""
        if self.work.writing is not None:
            self.machine.writing = self.work.writing
        with _everything_replaced(self):
            try:
                self._run()
            except sqlite3.DatabaseError as error:
                self.violations.append(f"the store cannot be read: {error}")
            finally:
                if self.engine.loop is not None:
                    self.world.engine = None
                    self.engine._bury(self.engine.loop)
                self.machine.leave()
        return Outcome(
            self.world.seed,
            self.world.trace,
            self.violations,
            self.work.messages,
            self.engine.ends,
            self.world.counts,
            len(self.ledger.taken),
            self.world.steps,
            self.world.now,
            self.world.story or [],
        )

    def _run(self) -> None:
        world = self.world
        for begin, length, trouble in self.work.troubles:
            world.at(begin, self._trouble, trouble)
            world.at(begin + length, self._trouble, Trouble())
        for begin, length, name in self.work.outages:
            world.at(begin, self.partners[name].down)
            world.at(begin + length, self.partners[name].up)
            world.counts["partner down"] += 1
        for at, seconds in self.work.jumps:
            world.at(at, self._set_clock, seconds)
        self.people.begin()
        self.engine.boot()
        world.run(lambda: bool(self.violations), self.work.storm)
        if not self.violations:
            self._calm()
            if not world.run(self._at_rest, PATIENCE):
                self._stuck()
        self._judge()

    def _set_clock(self, seconds: float) -> None:
        self.world.set_clock(seconds)
        self.ledger.forwards += max(0.0, seconds)

    def _trouble(self, trouble: Trouble) -> None:
        self.world.note("disk", trouble)
        self.disk.trouble = trouble

    def _calm(self) -> None:
        self.world.note("calm")
        self.network.weather = Weather()
        self.disk.trouble = Trouble()
        self.machine.calm()
        self.engine.will_die([])
        for partner in self.partners.values():
            partner.temper = CALM
            partner.up()
        self.world.at(0.0, self._put_right)

    def _died(self) -> None:
        self.people.died()
        self._righting = None

    def _put_right(self) -> None:
        """People undo what they did, as soon as the engine is there and takes it."""
        engine, righting = self.engine, self._righting
        if righting is not None and righting.done() and not righting.cancelled() and righting.exception() is None:
            self._righted = True
            return
        ready = engine.supervisor is not None and engine.supervisor.ready and self.world.engine is not None
        if ready and not self.people.busy and (righting is None or righting.done()):
            assert engine.loop is not None
            if righting is not None and not righting.cancelled():
                self.world.note("not put right", type(righting.exception()).__name__, righting.exception())
            self._righting = engine.loop.create_task(self.people.put_right(engine.supervisor))
            self._righting.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.world.at(0.5, self._put_right)

    def _at_rest(self) -> bool:
        """Looked at now and then: everything acknowledged or given up, and nothing left that could go."""
        if self.violations:
            return True
        if self.world.now < self._look_at or not self._righted or not all(sender.done for sender in self.senders):
            return False
        self._look_at = self.world.now + 0.5
        shown = self.engine.shown()
        if shown is None or any(row.state == "received" or row.ack == "owed" for row in shown.messages.values()):
            return False
        return not any(True for _ in checks.blocked(shown))

    def _stuck(self) -> None:
        waiting = [sender.name for sender in self.senders if not sender.done]
        shown = self.engine.shown()
        if shown is None:
            self.violations.append(f"the engine is not there {PATIENCE:.0f} s after all is calm")
            return
        received = [row.control_id for row in shown.messages.values() if row.state == "received"]
        owed = [shown.deliveries[row_id][:3] for row_id in checks.blocked(shown)]
        self.violations.append(
            f"not at rest: senders {waiting}, put right {self._righted}, not routed {received}, owed {owed}"
        )

    # -- judging ---------------------------------------------------------------------------------------------------

    def _booted(self) -> None:
        after = self.engine.shown()
        assert after is not None
        if self.engine.last_shown is not None:
            self.violations.extend(self.history.kept(self.engine.last_shown, after))
        self.violations.extend(self.history.acknowledged(after))
        if (opinion := self._integrity()) != "ok":
            self.violations.append(f"integrity_check after a restart: {opinion}")

    def _integrity(self) -> str:
        trouble, self.disk.trouble = self.disk.trouble, Trouble()
        try:
            return self.engine.integrity()
        finally:
            self.disk.trouble = trouble

    def _is_committed(self, control_id: str) -> None:
        if self.engine.store is None or self.engine.has(control_id) or self.history.may_be_pruned(control_id):
            return
        self.violations.append(f"{control_id} was acknowledged before it was committed")

    def _judge(self) -> None:
        self.violations.extend(self.engine.problems)
        self.violations.extend(self.people.problems)
        self.violations.extend(self.world.failures)
        shown = self.engine.shown()
        if self.violations or shown is None:
            return
        for check in (account, acks, paces):
            self.violations.extend(check(self.work, self.ledger, shown))
        if self.work.jumps and self.engine.store is not None:
            self.violations.extend(searches(self.engine.store, shown))
        if (opinion := self._integrity()) != "ok":
            self.violations.append(f"integrity_check at the end: {opinion}")
        for row_id in sorted(shown.deliveries):
            self.world.note("delivery", row_id, *shown.deliveries[row_id])


# -- what the engine asks the machine for ---------------------------------------------------------------------------


class _Log:
    """Log lines that mean a fault in the engine become violations; the others cost nothing."""

    faults: dict[str, None]

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing is bound."""

    def bind(self, **_: Any) -> _Log:
        return self

    new = bind

    def is_enabled_for(self, _level: int) -> bool:
        return True

    def info(self, event: str, **facts: Any) -> None:
        if current.world.story is not None:
            current.world.story.append(f"{'':14}{event} {facts}")

    debug = warning = info

    def error(self, event: str, **facts: Any) -> None:
        self.info(event, **facts)
        if event in ("route.internal_error", "delivery.internal_error"):
            current.violations.append(f"{event}: {facts.get('error')} {facts.get('at', '')}")

    def log(self, level: int, event: str, **facts: Any) -> None:
        self.info(event, **facts)


current: Simulation


@contextmanager
def _everything_replaced(simulation: Simulation) -> Iterator[None]:
    """Clock, chance, log and sockets of this process, for as long as a world lasts."""
    global current
    current = simulation
    world = simulation.world
    chance = world.random("secrets")

    async def listen(host: str, port: int) -> ListeningSocket:
        return ListeningSocket(simulation.network, asyncio.get_running_loop(), port)

    replacements: list[tuple[Any, str, Any]] = [
        (time, "time", world.time),
        (time, "time_ns", lambda: int(world.time() * 1e9)),
        (time, "monotonic", lambda: world.now),
        (time, "perf_counter", lambda: world.now),
        (secrets, "randbits", chance.getrandbits),
        (secrets, "randbelow", chance.randrange),
        (secrets, "token_bytes", chance.randbytes),
        (os, "urandom", chance.randbytes),
        (uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
        (checkpoint, "PAGES", simulation.work.log_pages),
        (mllp_source, "listen", listen),
        (mllp_connections, "ear", lambda transport: lambda _wait: transport.unread),
    ]
    indexing = world.random("indexing")
    if indexing.random() < INDEXED_SOON:  # else a world ends before anything is put into its index
        replacements += [
            (group_commit, "_UPKEEP_UNITS", indexing.choice((2, 10))),
            (sqlite, "_INDEXED_TOGETHER", indexing.choice((1, 4))),
            (late, "_LOT", indexing.choice((3, 1024))),
            (absent, "_MANY", indexing.choice((5, 2048))),
        ]
    if (process := simulation.work.writing) is not None:
        replacements += [
            (group_commit, "_INLINE_UNITS", process.inline),
            (under_way, "_LOT", process.lot),
            (group_commit, "_HALF_UNITS", process.lot),
            (writing, "_MANY", process.many),
            (writing, "_IDLE", process.idle),
            (writing, "_AFTER_DEATH", process.pause),
        ]
    kept = [(where, name, getattr(where, name)) for where, name, _ in replacements]
    log = structlog.get_config()
    structlog.configure(wrapper_class=_Log, cache_logger_on_first_use=False)
    for where, name, replacement in replacements:
        setattr(where, name, replacement)
    new_correlation_id.forget()  # what it made last is of another world
    try:
        yield
    finally:
        for where, name, original in kept:
            setattr(where, name, original)
        structlog.configure(**log)
        asyncio._set_running_loop(None)


def simulate(seed: int, change: Change | None = None, *, story: bool = False) -> Outcome:
    """Run one seed."""
    simulation = Simulation(seed)
    if story:
        simulation.world.story = []
    if change is not None:
        change(simulation)
    return simulation.run()
