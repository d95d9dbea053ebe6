"""Kills an engine again and again under load, and accounts for every message after each round.

A round is a number of kills with the clients working on through them; at its end every partner is there, a person sends
what is held again, and when nothing moves any more the account is drawn up. Then the clients go on, on the same data.
"""

import asyncio
import contextlib
import http.client
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import plan, senders
from .account import Account, account
from .errands import Errands
from .journal import Journal
from .keeping import look_at_disk
from .machine import Machine
from .partners import Partners
from .person import Person
from .plan import Kill
from .shim import Disk
from .site import PARTNERS, Site
from .stock import Row, Stock

#: All but ``moving``, which is refused while a renaming that was broken off is not ended.
CHANNELS = 8
#: Seconds until nothing moves any more after a round.
SETTLE = 120.0
#: Seconds that a person waits between looks, while the engine is being killed.
LOOK = 0.25
#: Failures of a request to an engine that is being killed.
GONE = (OSError, http.client.HTTPException, ValueError, KeyError)


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    seed: int
    kills: int = 0
    rounds: int = 0
    seconds: float = 0.0
    total: Account = field(default_factory=Account)
    #: How the deaths came about: point, disk, moment, start, stop, empty.
    how: Counter[str] = field(default_factory=Counter)
    #: Named point → deaths there.
    died_at: Counter[str] = field(default_factory=Counter)
    #: Named point → how often it was passed.
    passed: dict[str, int] = field(default_factory=dict)
    #: Messages that the engine removed because they were finished and old.
    removed: int = 0
    #: What a person did besides, by errand.
    errands: Counter[str] = field(default_factory=Counter)
    #: Named points at which the plan let an engine die.
    planned: frozenset[str] = frozenset()
    #: Faults in the engine's log, ends that nobody caused, what did not come back.
    faults: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """Everything that must never be."""
        return [*self.total.violations, *self.faults]


class Harness:
    """One run."""

    def __init__(self, folder: Path, seed: int, disk: Disk | None, say: Callable[[str], None]) -> None:
        self.folder, self.seed, self.say = folder, seed, say
        self.site = Site(folder)
        self.journal = Journal()
        self.partners = Partners(self.site, self.journal)
        self.machine = Machine(self.site, folder, disk)
        self.person = Person(self.site, self.journal)
        turn_clock = self.machine.turn_clock if disk is not None else None
        self.errands = Errands(self.site, self.person, folder / "backups", turn_clock)
        self.stock = Stock(self.person, self.machine.witness)
        self.outcome = Outcome(seed)
        self._crowd = senders.crowd(self.site, self.journal, seed)
        self._at_rest = asyncio.Event()

    async def run(self, kills: Sequence[Kill], each_round: int, deadline: float) -> Outcome:
        """Kill; ``deadline`` (monotonic) ends it early, after a whole round."""
        begun = time.monotonic()
        self.outcome.planned = frozenset(kill.point for kill in kills if kill.point)
        await self.machine.open()
        try:
            for start in range(0, len(kills), each_round):
                await self._round(kills[start : start + each_round])
                self.outcome.seconds = time.monotonic() - begun
                self._tell()
                if self.outcome.violations or time.monotonic() > deadline:
                    break
        finally:
            await self.machine.close()
            await self.partners.close()
        self.outcome.errands = self.errands.begun
        self.outcome.passed = {point: self.machine.passed(point) for point in plan.known(self.machine.disk is not None)}
        return self.outcome

    def _tell(self) -> None:
        outcome, total = self.outcome, self.outcome.total
        self.say(
            f"round {outcome.rounds}: {outcome.kills} kills in {outcome.seconds:.0f} s, {total.acknowledged}"
            f" acknowledged, lost {len(total.lost)}, out of order {len(total.out_of_order)},"
            f" unexplained {len(total.unexplained)}, wrong {len(total.wrong)}, faults {len(outcome.faults)}"
        )

    # -- a round ---------------------------------------------------------------------------------------------------

    async def _round(self, kills: Sequence[Kill]) -> None:
        for client in self._crowd:
            client.stopping = False
        clients = [asyncio.ensure_future(client.run()) for client in self._crowd]
        self._at_rest.clear()
        person = asyncio.ensure_future(self._look_after())
        for kill in kills:
            await self._weather(kill.down)
            self.errands.wanted = kill.errand
            await (self._empty(kill) if kill.how == "empty" else self._kill(kill))
        self._at_rest.set()
        await person  # what it has begun is ended, or broken off by the last kill
        await self._weather(())
        self.partners.healed = True
        await self._start()
        for client in self._crowd:
            client.stopping = True
        await asyncio.wait_for(asyncio.gather(*clients), SETTLE)
        await self._settled()
        await self._draw_up()
        await asyncio.to_thread(self._grow_old)
        retired = await asyncio.to_thread(self.errands.retired)
        await self._stop()
        for fault in await asyncio.to_thread(look_at_disk, self.site.data, self.errands):
            self._fault(fault)
        self.errands.take_out(retired)
        self.partners.healed = False
        self.outcome.rounds += 1

    async def _weather(self, down: tuple[str, ...]) -> None:
        for name in PARTNERS:
            await (self.partners.down(name) if name in down else self.partners.up(name))

    async def _look_after(self) -> None:
        while not self._at_rest.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._at_rest.wait(), LOOK)
            for act in (self.errands.look, lambda: self.person.act(3)):
                with contextlib.suppress(*GONE):
                    await asyncio.to_thread(act)

    async def _start(self) -> None:
        self.journal.epoch += 1
        await self.machine.start()
        if not await self.machine.ready(CHANNELS):
            self._fault(f"the engine did not start: signal {self.machine.signal}")

    async def _stop(self) -> None:
        self.machine.terminate()
        if not await self.machine.died(60):
            self._fault("SIGTERM did not end it within 60 s")
            await self.machine.kill()
        elif self.machine.signal != 0:
            self._fault(f"SIGTERM ended it with {self.machine.signal}")

    # -- a kill ----------------------------------------------------------------------------------------------------

    async def _kill(self, kill: Kill) -> None:
        self.journal.epoch += 1
        died = self.machine.writers_died()
        await self.machine.start(kill)
        if kill.how in ("writer", "both"):
            await self._kill_writer(kill, died)
            return
        if kill.apart and kill.how != "start" and await self.machine.ready(CHANNELS):
            await self.machine.writes_apart()
        if kill.how == "start":
            await self.machine.died(kill.seconds)
        elif kill.how in ("point", "disk", "apart"):
            if await self.machine.ready(CHANNELS):
                await self.machine.died(kill.reach)
        elif await self.machine.ready(CHANNELS):
            await self.machine.died(kill.seconds)
            if kill.how == "stop" and self.machine.is_running:
                self.machine.terminate()
                await self.machine.died(60)
        self._count(kill, self.machine.is_running)
        await self.machine.kill()

    async def _kill_writer(self, kill: Kill, died: int) -> None:
        """The process that writes dies, and the engine where it is; that dies soon afterwards, or at once."""
        if await self.machine.ready(CHANNELS):
            if not kill.point:
                await self.machine.writes_apart()
            deadline = time.monotonic() + (kill.reach if kill.point else 0.3 + kill.seconds)
            while self.machine.is_running and time.monotonic() < deadline and self.machine.writers_died() == died:
                await self.machine.died(0.02)
            if not kill.point:
                self.machine.kill_writer()
            await self.machine.died((kill.seconds or 0.5) if kill.number % 2 else 0.0)
        self.outcome.kills += 1
        if not self.machine.is_running:
            self._fault(f"{kill}: the engine ended by itself: {self.machine.signal}")
        if kill.point and self.machine.writers_died() > died:
            self.outcome.died_at[kill.point] += 1
        self.outcome.how[kill.how] += 1
        await self.machine.kill()

    async def _empty(self, kill: Kill) -> None:
        """A first start on a data folder of its own dies, and the next one works; clients know nothing of it."""
        site = Site(self.folder / f"empty-{kill.number}")
        await self.machine.start(kill, site)
        await self.machine.died(kill.reach)
        self._count(kill, self.machine.is_running)
        await self.machine.kill()
        await self.machine.start(None, site)
        if not await self.machine.ready(CHANNELS):
            self._fault(f"after {kill} the engine does not start on its folder")
        await self.machine.kill()
        self.outcome.kills += 1

    def _count(self, kill: Kill, by_harness: bool) -> None:
        self.outcome.kills += 1
        if by_harness:
            self.outcome.how["moment" if kill.how != "start" else "start"] += 1
            return
        ended = self.machine.signal
        if ended == signal.SIGKILL and kill.point:
            self.outcome.how[kill.how] += 1
            self.outcome.died_at[kill.point] += 1
        elif kill.how == "stop" and ended == 0:
            self.outcome.kills -= 1  # it ended in order before it came to the point
        else:
            self._fault(f"{kill}: the engine ended by itself: {ended}")

    def _fault(self, text: str) -> None:
        self.outcome.faults.append(text)
        self.say(text)

    # -- the account -----------------------------------------------------------------------------------------------

    async def _settled(self) -> None:
        """Wait until nothing moves any more; what is held is sent again."""
        deadline = time.monotonic() + SETTLE
        quiet = 0
        while quiet < 3:  # an ack that is owed follows what it waited for
            await asyncio.to_thread(self.errands.mend, True)
            going, held = await asyncio.to_thread(self.person.waiting)
            quiet = 0 if going or held else quiet + 1
            if time.monotonic() > deadline:
                self._fault(f"after {SETTLE} s {going} wait and {held} are held")
                return
            if held:
                await asyncio.to_thread(self.person.act, 500, ("held",))
            await asyncio.sleep(0.05)

    def _grow_old(self) -> None:
        """Let everything that is finished be removed: what is not must stay."""
        self.errands.set_clock_ahead()
        self.errands.prune()
        self.stock.look()
        self.outcome.removed = self.stock.removed
        self.outcome.faults.extend(self.stock.wrong)
        self.stock.wrong.clear()

    async def _draw_up(self) -> None:
        if not await asyncio.to_thread(self.person.is_well):
            self._fault("/health is not 200 when everything has settled")
        for channel in await asyncio.to_thread(self.person.channels):
            if channel["state"] != "running":
                self._fault(f"channel {channel['name']} is {channel['state']} when everything has settled")
        rows = await asyncio.to_thread(self.stock.rows)

        def details(destination: str, control_id: str) -> list[Row]:
            return [
                delivery
                for channel in rows.values()
                for message in channel.get(control_id, [])
                for delivery in self.stock.deliveries(message["id"], destination)
            ]

        self.outcome.total.add(await asyncio.to_thread(account, self.journal, rows, details))
        faults = self.machine.faults()
        self.outcome.faults.extend(faults)
        self.machine.log.unlink(missing_ok=True)
        self.journal.clear()
        self.partners.forget()
