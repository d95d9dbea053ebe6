"""The owner of all channels of a site: starts them, starts a crashed one again, stops them in order.

Also the one place where a person acts on the running engine (stop, start, resend, discard, ask): the admin API calls
this and nothing below it.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from engine.config.plan import ChannelPlan, SitePlan
from engine.config.store_keys import StoreKeys
from engine.destinations.base import DestinationContext
from engine.envelope import Origin, Receipt, Reply
from engine.errors import Problem, Refused, StepFailed, StoreError, Unavailable
from engine.runtime.auditor import Auditor
from engine.runtime.channel import RunningChannel
from engine.runtime.clearing import Clearing
from engine.runtime.clock import Clock, SystemClock
from engine.runtime.control_ids import ControlIds
from engine.runtime.disk import DiskWatch
from engine.runtime.exchange import Exchange
from engine.runtime.housekeeping import Housekeeping
from engine.runtime.orphans import Counts, left_behind, lost_channels
from engine.runtime.parts import Parts
from engine.runtime.pausing import set_paused
from engine.runtime.pruning import Pruning, Run
from engine.runtime.receive import Receiver
from engine.runtime.reload import Change, Reload, restart_needed
from engine.runtime.resealing import Resealing
from engine.runtime.resend import Resender
from engine.runtime.status import ChannelStatus, channel_status
from engine.runtime.supervised import Supervised
from engine.runtime.unbroken import unbroken
from engine.sources.base import SourceContext
from engine.sources.serving.http_head import Limits
from engine.sources.serving.listener import Keys, RestListener
from engine.store.audit import Act, Who
from engine.store.base import Operation, Store
from engine.transforms.base import ForgetKeys, ResolveExchange

log = structlog.get_logger("engine.supervisor")

#: Seconds that a channel gets to finish what is under way when it stops.
DRAIN = 20.0


class Supervisor:
    """Starts, watches and stops the channels of one site."""

    def __init__(
        self, plan: SitePlan, store: Store, clock: Clock | None = None, load: Callable[[], SitePlan] | None = None
    ) -> None:
        """``load`` reads the site's files again (in a thread); without it there is no reload."""
        self.plan, self.store = plan, store
        self._load = load
        #: Held while channels are started, stopped or replaced by hand.
        self._steering = asyncio.Lock()
        zone = plan.settings.timezone
        self.clock = clock or SystemClock(ZoneInfo(zone) if zone is not None else None)
        self.ready = False
        self.started_at = self.clock.time()
        self.auditor = Auditor(store, self.clock)
        self.pruning = Pruning(store, self.clock, lambda: self.plan)
        self.housekeeping = Housekeeping(store, self.clock, plan.settings.audit.keep, self.pruning, lambda: self.plan)
        self.http = _listener(plan, self.auditor)
        self.make_control_id = ControlIds(self.clock.time)
        self._channels = {name: self._supervised(channel) for name, channel in plan.channels.items()}
        self._salt = plan.env.get("PHONE_SALT", "").encode()
        self._resealing = Resealing(store)
        self.disk = DiskWatch(plan.data, plan.settings.disk)

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the REST listener and every valid channel; one that cannot start does not stop the others.

        Nothing runs before the audit trail says which files do: a disk that does not take that is waited for.
        """
        await self.auditor.begin(Who.command(os.getuid()), self.plan.files, tuple(sorted(self.plan.channels)))
        self.disk.begin()
        self.housekeeping.start()
        await self.http.start()
        for channel in self._channels.values():
            channel.begin()
        for channel in self._channels.values():
            await channel.attempted()
        self.ready = True
        self._resealing.begin()
        self._tell_lost()
        log.info("engine.ready", channels=len(self._channels), broken=len(self.plan.broken))

    async def stop(self, deadline: float = DRAIN) -> None:
        """Stop all channels at once, each in its own order; what is unfinished stays in the store."""
        self.ready = False
        await self._resealing.end()
        await self.disk.end()
        async with self._steering:
            await asyncio.gather(*(channel.end(deadline) for channel in self._channels.values()))
        await self.http.stop()
        self.auditor.end_window()
        await self.housekeeping.stop()
        log.info("engine.stopped")

    def _supervised(self, plan: ChannelPlan) -> Supervised:
        self.http.expect(plan.source.claims())
        return Supervised(plan, self._make, self._refusals, self.clock)

    def _refusals(self, plan: ChannelPlan) -> tuple[Problem, ...]:
        return left_behind(plan, self.store.open_counts())

    def _lost(self, counts: Counts) -> dict[str, Problem]:
        """Channels that have no file any more, and in which something waits."""
        return lost_channels({*self._channels, *self.plan.broken}, counts)

    def _tell_lost(self) -> None:
        try:
            lost = self._lost(self.store.open_counts())
        except StoreError as error:  # the channels run: a look that fails must not end them
            log.error("engine.counts_unreadable", error=str(error))
            return
        for name, problem in lost.items():
            log.error("channel.removed", channel=name, problem=str(problem))

    def _make(self, plan: ChannelPlan) -> RunningChannel:
        resolves = {pair for channel in self.plan.channels.values() for pair in channel.resolves}
        found_by = frozenset(member for name, member in resolves if name == plan.name)
        parts = Parts(self.store, self.clock, self.make_control_id, self._ask_step, self._settled, found_by)
        return RunningChannel(plan, parts, self._source_context(plan), DestinationContext(self._hand_over), self._salt)

    def _source_context(self, plan: ChannelPlan) -> Any:
        rows = plan.reply.rows if plan.reply is not None else {}

        def lend(receiver: Receiver | Exchange) -> SourceContext:
            late = receiver.late if isinstance(receiver, Exchange) else None
            return SourceContext(receiver, self.http, self.make_control_id, rows, late, plan.ack_to is not None)

        return lend

    # -- between channels ------------------------------------------------------------------------------------------

    def _receiver(self, name: str) -> Receiver | Exchange | None:
        channel = self._channels.get(name)
        return channel.running.receiver if channel is not None and channel.running is not None else None

    def _hand_over(self, channel: str, body: bytes, origin: Origin) -> Receipt:
        receiver = self._receiver(channel)
        if receiver is None:
            raise Unavailable("stopped")
        return receiver(body, origin)

    async def _ask_step(self, name: str, request: Mapping[str, Any], correlation_id: str) -> Reply:
        receiver = self._receiver(name)
        if not isinstance(receiver, Exchange):
            raise StepFailed("ask", "channel_stopped", name)
        return await receiver.ask(request, correlation_id)

    def _settled(self, effect: ResolveExchange | ForgetKeys) -> list[Operation]:
        receiver = self._receiver(effect.channel)
        return receiver.settled(effect) if isinstance(receiver, Exchange) else []

    # -- what a person does ----------------------------------------------------------------------------------------

    def channels(self) -> list[ChannelStatus]:
        """State of every channel, broken ones included."""
        counts = self.store.open_counts()
        lost = self._lost(counts)
        names = sorted({*self._channels, *self.plan.broken, *lost})
        return [
            channel_status(name, self._channels.get(name), self.plan, counts, self.store.paused(name), lost.get(name))
            for name in names
        ]

    @property
    def supervised(self) -> Mapping[str, Supervised]:
        """The channels that have a valid file, by name."""
        return self._channels

    @property
    def states(self) -> dict[str, str]:
        """The state of every channel alone. What waits is not counted: a monitor may ask at any time."""
        known = {*self._channels, *self.plan.broken}
        return self.states_where({} if known >= set(self.store.stored_channels()) else self.store.open_counts())

    def states_where(self, counts: Counts) -> dict[str, str]:
        """The same for whoever has counted what waits."""
        return {
            **dict.fromkeys(self._lost(counts), "removed"),
            **dict.fromkeys(self.plan.broken, "broken"),
            **{name: channel.state for name, channel in self._channels.items()},
        }

    @unbroken
    async def reload(self, who: Who, *names: str) -> list[Change]:
        """Read the site's files again and bring the named channels, or all, to what they say.

        Raises ConfigError when site.yaml cannot be used (nothing is touched then), ValueError for an unknown channel.
        """
        if self._load is None:
            raise ValueError("this engine cannot read its files again")
        async with self._steering:
            self._check_ready()
            fresh = await asyncio.to_thread(self._load)
            await self.auditor.config(who, fresh.files, tuple(sorted(fresh.channels)))
            self._salt = fresh.env.get("PHONE_SALT", "").encode()
            reload = Reload(self._channels, fresh, self._supervised, self.store.open_counts, DRAIN)
            changes = await asyncio.gather(*(reload.channel(name) for name in reload.names(names)))
            self.http.let_in(_callers(fresh))
            broken = {name: why for name, why in fresh.broken.items() if name not in self._channels}
            settings = restart_needed(self.plan.settings, fresh.settings)
            problems = (*fresh.problems, *(problem for change in changes for problem in change.problems), *settings)
            plans = {name: channel.plan for name, channel in self._channels.items()}
            kept = self.plan.settings.model_copy(update={"retention": fresh.settings.retention})
            self.plan = replace(
                fresh,
                settings=kept,
                channels=plans,
                broken=broken,
                problems=tuple(dict.fromkeys(problems)),
            )
        counted = Counter(change.what for change in changes)
        log.info("engine.reloaded", **counted)
        return list(changes)

    @unbroken
    async def start_channel(self, name: str, who: Who) -> None:
        """Start a stopped channel; nothing happens to a running one. KeyError for an unknown name."""
        async with self._steering:
            self._check_ready()
            channel = self._channels[name]
            await self.auditor.note(Act.CHANNEL_STARTED, who, channel=name)
            if not channel.active:
                channel.begin()
                await channel.attempted()

    @unbroken
    async def stop_channel(self, name: str, who: Who) -> None:
        """Stop a channel in order; it stays stopped until it is started. KeyError for an unknown name."""
        async with self._steering:
            channel = self._channels[name]
            await self.auditor.note(Act.CHANNEL_STOPPED, who, channel=name)
            await channel.end(DRAIN)

    @unbroken
    async def pause_destination(self, channel: str, destination: str, who: Who) -> None:
        """Send nothing to a destination until it is resumed, across restarts too. KeyError, ValueError."""
        await set_paused(self.store, self.clock, self._channels[channel], destination, True, who)

    @unbroken
    async def resume_destination(self, channel: str, destination: str, who: Who) -> None:
        """Go on sending to a destination. KeyError, ValueError."""
        await set_paused(self.store, self.clock, self._channels[channel], destination, False, who)

    async def ask(self, channel: str, request: dict[str, Any], correlation_id: str | None, who: Who) -> Reply:
        """Send a request through a request/response channel. KeyError, ValueError (the channel answers nobody)."""
        plan = self._channels[channel].plan
        if plan.reply is None:
            raise ValueError(f"channel {channel} has no reply")
        receiver = self._receiver(channel)
        if not isinstance(receiver, Exchange):
            raise Refused("channel_stopped")
        await self.auditor.note(Act.CHANNEL_ASKED, who, channel=channel)
        return await receiver.ask(request, correlation_id)

    @unbroken
    async def resend_message(self, message_id: int, who: Who) -> str:
        """Route a failed message again, or send its unfinished deliveries again; says what was done."""
        return await self._resender(who).message(message_id)

    @unbroken
    async def resend_delivery(self, delivery_id: int, who: Who) -> str:
        """Send one delivery again: the same bytes, the same MSH-10."""
        return await self._resender(who).delivery(delivery_id)

    @unbroken
    async def discard_delivery(self, delivery_id: int, who: Who) -> str:
        """Give a delivery up; a lane it held goes on."""
        return await self._resender(who).discard(delivery_id)

    @unbroken
    async def discard_waiting(self, channel: str, destination: str | None, states: Collection[str], who: Who) -> int:
        """Give up what waits for a destination, or in a channel that has no file any more; how many. ValueError."""
        return await self._clearing(channel, who).discard(destination, states)

    @unbroken
    async def rename_destination(self, channel: str, old: str, new: str, who: Who) -> int:
        """Give what waits for ``old`` to ``new``, at the place its id gives it; says how many. ValueError."""
        async with self._steering:
            self._check_ready()
            clearing = self._clearing(channel, who)
            supervised = self._channels.get(channel)
            if supervised is None or supervised.running is None or self._load is None:
                return await clearing.rename(old, new)
            plan = (await asyncio.to_thread(self._load)).channels.get(channel)
            clearing.check_rename(plan, old, new)
            async with supervised.paused(DRAIN):
                supervised.plan = plan or supervised.plan
                return await clearing.rename(old, new)

    def _check_ready(self) -> None:
        """Nobody starts a channel of an engine that stops. Raises ValueError."""
        if not self.ready:
            raise ValueError("the engine is starting or stopping")

    def _clearing(self, channel: str, who: Who) -> Clearing:
        return Clearing(self.store, self.clock, channel, self._channels.get(channel), channel in self.plan.broken, who)

    @unbroken
    async def rotate_key(self, who: Who) -> int:
        """Seal what is stored with a further key; gives its number. Raises StoreError, with a sentence."""
        async with self._steering:
            keys = StoreKeys(self.plan.folder, self.plan.settings.store)
            ring = await asyncio.to_thread(keys.with_next, self.store.store_keys()[-1].number)
            await self.auditor.note(Act.KEY_ROTATED, who, numbers={"key": max(ring)})
            number = await self.store.use_keys(ring)
        self._resealing.begin()
        log.info("store.key_rotated", key=number)
        return number

    @unbroken
    async def prune(self, who: Who, dry_run: bool) -> Run:
        """Remove at once what is old enough, or count it. Raises StoreError."""
        if not dry_run:
            await self.auditor.note(Act.PRUNED, who)
        return await self.pruning.run(dry_run)

    @unbroken
    async def back_up(self, who: Who, to: Path) -> Mapping[str, Any]:
        """Copy the store into a new folder; its manifest. Raises StoreError, with a sentence."""
        await self.auditor.note(Act.BACKUP_BEGUN, who)
        try:
            manifest = await self.store.back_up(to)
        except StoreError:
            self.auditor.record(Act.BACKUP_FAILED, who)
            raise
        counted = {name: int(manifest[name]) for name in ("messages", "deliveries", "bytes")}
        self.auditor.record(Act.BACKUP_MADE, who, numbers=counted)
        return manifest

    def _resender(self, who: Who) -> Resender:
        return Resender(self.store, self.clock, self._channels, who)


def _listener(plan: SitePlan, auditor: Auditor) -> RestListener:
    """The site's shared REST listener, from ``site.yaml``."""
    rest = plan.settings.rest
    contexts = rest.tls.contexts(plan.folder, plan.data) if rest.tls is not None else None
    limits = Limits(
        connections=rest.max_connections, per_address=rest.max_connections_per_address, memory=rest.max_memory
    )

    def refused(peer: str, api_key: str, channel: str) -> None:
        auditor.refused(peer, Who.api_key(api_key) if api_key else None, channel)

    return RestListener(rest.host, rest.port, _callers(plan), contexts, limits=limits, refused=refused)


def _callers(plan: SitePlan) -> Keys:
    """``api_keys:`` of ``site.yaml``."""
    keys = plan.settings.api_keys
    return {name: (entry.key.get_secret_value(), frozenset(entry.channels)) for name, entry in keys.items()}
