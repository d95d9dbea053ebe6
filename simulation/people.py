"""What people do with a running engine: at any moment, through the door that the admin API uses, and some hang up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import ConfigError, StoreError
from engine.store.audit import Who
from simulation.ledger import Ledger, Silence, Touched
from simulation.site import Site
from simulation.workload import ACKS, Act, Channel, Workload
from simulation.world import World

if TYPE_CHECKING:
    from engine.runtime.supervisor import Supervisor
    from simulation.process import Engine

WHO = Who.unknown()
_UNFINISHED = ("held", "parked")

Doing = Callable[["Supervisor"], Awaitable[Any]]


class People:
    """Everybody who acts on the engine by hand."""

    def __init__(self, world: World, ledger: Ledger, work: Workload, site: Site, engine: Engine) -> None:
        self.world, self.ledger, self.work, self.site, self.engine = world, ledger, work, site, engine
        self.problems: list[str] = []
        self._under_way: set[asyncio.Task[Any]] = set()
        #: Of each reload that is under way, the channels that ran when it began and that nobody has stopped since.
        self._reloads: list[set[str]] = []
        #: How often somebody has begun to resume what goes to a port.
        self._resumed = Counter[int]()
        self._ports = {(channel.name, to.name): to.port for channel in work.channels for to in channel.outlets}
        self._kinds: dict[str, Callable[[Act, Random], Doing | None]] = {
            "resend delivery": self._resend_delivery,
            "resend message": self._resend_message,
            "discard delivery": self._discard_delivery,
            "discard waiting": self._discard_waiting,
            "pause": self._pause,
            "resume": self._resume,
            "stop": self._stop,
            "start": self._start,
            "mend": self._mend,
            "prune": self._prune,
            "edit": self._edit,
            "reload": self._reload,
        }

    def begin(self) -> None:
        """Everybody does what is chosen, when its time comes."""
        for number, act in enumerate(self.work.acts):
            self.world.at(act.at, self._act, act, self.world.random(f"act {number}"))

    @property
    def busy(self) -> bool:
        """Whether something that a person began has not ended."""
        return any(not task.done() for task in self._under_way)

    def died(self) -> None:
        """The process is gone, and whatever was asked of it."""
        self._under_way.clear()
        now = self.world.now
        for silence in self.ledger.silences:
            if not silence.lasts:
                silence.end = min(silence.end, now)

    # -- one act ---------------------------------------------------------------------------------------------------

    def _act(self, act: Act, random: Random) -> None:
        engine = self.engine
        supervisor = engine.supervisor
        if supervisor is None or not supervisor.ready or engine.loop is None or self.world.engine is None:
            return
        doing = self._kinds[act.what](act, random)
        if doing is None:
            return
        self.world.counts[f"act {act.what}"] += 1
        task = engine.loop.create_task(self._do(supervisor, act, doing), name=f"somebody: {act.what}")
        self._under_way.add(task)
        task.add_done_callback(partial(self._ended, act))
        if act.patience is not None:
            engine.loop.call_later(act.patience, task.cancel)

    async def _do(self, supervisor: Supervisor, act: Act, doing: Doing) -> None:
        try:
            await doing(supervisor)
        except (ValueError, KeyError, StoreError, ConfigError) as error:
            self.world.note("act", act.what, "not done", type(error).__name__)
        else:
            self.world.note("act", act.what, "done")

    def _ended(self, act: Act, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if task.cancelled():
            self.world.counts["act hung up"] += 1
            self.world.note("act", act.what, "hung up")
        elif error := task.exception():
            self.problems.append(f"{act.what} by hand: {type(error).__name__}: {error}")

    # -- deliveries and messages -----------------------------------------------------------------------------------

    def _delivery(self, act: Act, random: Random, states: tuple[str, ...]) -> int | None:
        """One of those that there are, rather one in ``states``."""
        shown = self.engine.shown()
        if shown is None or not shown.deliveries:
            return None
        wanted = [row_id for row_id, row in shown.deliveries.items() if row.state in states]
        found = wanted if wanted and random.random() < 0.8 else list(shown.deliveries)
        return sorted(found)[int(act.pick * len(found))]

    def _touch(self, delivery_id: int, what: Literal["resend", "discard"]) -> None:
        shown = self.engine.shown()
        if shown is not None and (row := shown.deliveries.get(delivery_id)) is not None:
            control_id = shown.messages[row.message_id].control_id
            self.ledger.touched.append(Touched(delivery_id, what, row.state, control_id, row.destination))

    def _resend_delivery(self, act: Act, random: Random) -> Doing | None:
        found = self._delivery(act, random, _UNFINISHED)
        if found is None:
            return None
        delivery_id = found

        async def resend(supervisor: Supervisor) -> None:
            self._touch(delivery_id, "resend")
            self.ledger.wanted.add(delivery_id)
            await supervisor.resend_delivery(delivery_id, WHO)

        return resend

    def _resend_message(self, act: Act, random: Random) -> Doing | None:
        shown = self.engine.shown()
        if shown is None or not shown.messages:
            return None
        failed = [row_id for row_id, row in shown.messages.items() if row.state == "failed"]
        found = sorted(failed if failed and random.random() < 0.8 else shown.messages)
        message_id = found[int(act.pick * len(found))]

        async def resend(supervisor: Supervisor) -> None:
            self.ledger.reopened.add(message_id)
            now = self.engine.shown()
            for delivery_id, row in now.deliveries.items() if now is not None else ():
                if row.message_id == message_id:
                    self._touch(delivery_id, "resend")
                    self.ledger.wanted.add(delivery_id)
            await supervisor.resend_message(message_id, WHO)

        return resend

    def _discard_delivery(self, act: Act, random: Random) -> Doing | None:
        found, shown = self._delivery(act, random, ("held", "parked", "queued")), self.engine.shown()
        if found is None or shown is None or shown.deliveries[found].destination == ACKS:
            return None  # who gives an acknowledgement up has a sender that asks for ever
        delivery_id = found

        async def discard(supervisor: Supervisor) -> None:
            self._touch(delivery_id, "discard")
            await supervisor.discard_delivery(delivery_id, WHO)
            self.ledger.discarded[delivery_id] = self.world.now

        return discard

    def _discard_waiting(self, act: Act, random: Random) -> Doing | None:
        channel = self._channel(act)
        destination = random.choice(channel.destinations).name
        states = random.choice(((), ("held",), ("parked", "held")))

        async def discard(supervisor: Supervisor) -> None:
            self.ledger.cleared.add((channel.name, destination))
            await supervisor.discard_waiting(channel.name, destination, states, WHO)

        return discard

    # -- destinations and channels ---------------------------------------------------------------------------------

    def _channel(self, act: Act) -> Channel:
        return self.work.channels[int(act.pick * len(self.work.channels))]

    def _pause(self, act: Act, random: Random) -> Doing | None:
        channel = self._channel(act)
        to = random.choice(channel.destinations)

        async def pause(supervisor: Supervisor) -> None:
            resumed = self._resumed[to.port]
            await supervisor.pause_destination(channel.name, to.name, WHO)
            if self._resumed[to.port] != resumed:  # perhaps by somebody who has hung up since: it is done all the same
                return
            now, life = self.world.now, self.engine.life
            start = self.ledger.starts[to.port]
            self.ledger.silences.append(Silence(to.port, to.connections, now, life, lasts=True, start=start))

        return pause

    def _resume(self, act: Act, random: Random) -> Doing | None:
        channel = self._channel(act)
        to = random.choice(channel.destinations)

        async def resume(supervisor: Supervisor) -> None:
            self._resumed[to.port] += 1
            self._loud(to.port, lasting=True)
            await supervisor.resume_destination(channel.name, to.name, WHO)
            self._loud(to.port, lasting=True)  # a pause that was under way came first

        return resume

    def _stop(self, act: Act, random: Random) -> Doing | None:
        channel = self._channel(act)

        async def stop(supervisor: Supervisor) -> None:
            await supervisor.stop_channel(channel.name, WHO)
            for running in self._reloads:  # whose file is gone may leave something behind: it does not run any more
                running.discard(channel.name)
            now, life = self.world.now, self.engine.life
            if not supervisor._channels[channel.name].active:  # nobody has started it since
                starts = self.ledger.starts
                self.ledger.silences += [
                    Silence(to.port, 0, now, life, lasts=False, start=starts[to.port]) for to in channel.outlets
                ]

        return stop

    def _start(self, act: Act, random: Random) -> Doing | None:
        channel = self._channel(act)

        async def start(supervisor: Supervisor) -> None:
            for to in channel.outlets:
                self._loud(to.port, lasting=False)
            await supervisor.start_channel(channel.name, WHO)
            for to in channel.outlets:
                self._loud(to.port, lasting=False)

        return start

    def _loud(self, port: int, *, lasting: bool) -> None:
        """From here on things may leave for it again."""
        for silence in self.ledger.silences:
            if silence.port == port and silence.lasts is lasting:
                silence.end = min(silence.end, self.world.now)

    # -- the site --------------------------------------------------------------------------------------------------

    def _mend(self, act: Act, random: Random) -> Doing | None:
        self.ledger.mended = True
        return None

    def _prune(self, act: Act, random: Random) -> Doing | None:
        return lambda supervisor: supervisor.prune(WHO, dry_run=random.random() < 0.2)

    def _edit(self, act: Act, random: Random) -> Doing | None:
        self.world.note("edited", self.site.edit(random))
        return self._reload(act, random) if random.random() < 0.9 else None

    def _reload(self, act: Act, random: Random) -> Doing | None:
        async def reload(supervisor: Supervisor) -> None:
            before = {name for name, channel in supervisor._channels.items() if channel.running is not None}
            for channel in self.work.channels:
                if channel.name not in supervisor._channels:  # its file may be back: it starts
                    for to in channel.outlets:
                        self._loud(to.port, lasting=False)
            self._reloads.append(before)
            try:
                changes = await supervisor.reload(WHO)
            finally:
                self._reloads = [running for running in self._reloads if running is not before]
            self.world.note("reloaded", *(f"{change.channel} {change.what}" for change in changes))
            self._orphans(supervisor, before)

        return reload

    def _orphans(self, supervisor: Supervisor, ran_before: set[str]) -> None:
        """A reload leaves nothing behind that waits for a name that is gone."""
        counts = supervisor.store.open_counts()
        for (channel, destination, state), number in counts.items():
            known = supervisor._channels.get(channel)
            if known is None:
                if channel in ran_before:
                    self.problems.append(f"a reload removed {channel}, where {number} are {state}")
            elif destination and known.running is not None and destination not in known.running.lanes:
                self.problems.append(f"{channel} runs without {destination}, for which {number} are {state}")

    async def put_right(self, supervisor: Supervisor) -> None:
        """Undo whatever keeps the engine from coming to rest. Raises StoreError."""
        self.site.put_right()
        await self._reload(Act(0.0, "", 0.0), Random(0))(supervisor)  # type: ignore[misc]
        for channel in self.work.channels:
            for to in channel.outlets:
                self._loud(to.port, lasting=False)
            await supervisor.start_channel(channel.name, WHO)
            for to in channel.destinations:
                self._loud(to.port, lasting=True)
                await supervisor.resume_destination(channel.name, to.name, WHO)
