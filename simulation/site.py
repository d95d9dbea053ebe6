"""The site's files in a world: what stands in them now, and the plans that come of reading them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from engine.config.plan import ACKS, AnswerRule, ChannelPlan, DestinationPlan, Duplicates, Order, Retry, SitePlan
from engine.config.settings import AdminSettings, RestSettings, SiteSettings
from engine.destinations.base import Building as DestinationBuilding
from engine.destinations.base import DestinationContext
from engine.destinations.mllp import MllpDestination, MllpDestinationConfig
from engine.envelope import Envelope
from engine.errors import Problem, StepFailed
from engine.hl7.path import Path as HL7Path
from engine.sources.base import Building as SourceBuilding
from engine.sources.mllp import MllpSource, MllpSourceConfig
from engine.transforms.base import Chain, Context, Step, Verdict
from simulation.ledger import Ledger
from simulation.workload import ACK_DEADLINE, CONNECT_TIMEOUT, Channel, To, Workload
from simulation.world import World

DATA = Path("/simulated/data")
#: What refuses an acknowledgement is no reason to keep others back.
_PARKED = (AnswerRule("park", ack=frozenset(("AE", "AR", "CE", "CR"))),)
#: Seconds in which what came before is known again: longer than any clock is set forwards.
_EVER = 1e9


class Clock:
    """The engine's clock is the world's."""

    def __init__(self, world: World) -> None:
        self.time = world.time

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)


class _ByEvent(Step):
    """S99 is filtered, S66 fails until somebody mends that."""

    Config = dict

    def __init__(self, is_mended: Callable[[], bool], *, pure: bool) -> None:
        self._is_mended = is_mended
        self.pure = pure  # type: ignore[misc]  # the class's word for all of a kind; here each channel has its own

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        if envelope.body.event == "S66" and not self._is_mended():
            raise StepFailed("simulated", "told_to")
        return Verdict.DROP if envelope.body.event == "S99" else Verdict.CONTINUE


class _Destination(MllpDestination):
    """Says when its channel starts."""

    started: Callable[[], None]

    async def start(self, context: DestinationContext) -> None:
        self.started()
        await super().start(context)


@dataclass(frozen=True)
class File:
    """What the file of one channel says at present."""

    #: Names of its destinations, in their order.
    names: tuple[str, ...]
    #: Something in it that is neither here nor there.
    detail: int = 0
    there: bool = True
    valid: bool = True


class Site:
    """The files."""

    def __init__(self, world: World, ledger: Ledger, work: Workload) -> None:
        self.world, self.ledger, self.work = world, ledger, work
        self._complete = {
            channel.name: File(tuple(to.name for to in channel.destinations)) for channel in work.channels
        }
        self.files = dict(self._complete)

    # -- what people write -----------------------------------------------------------------------------------------

    def edit(self, random: Random) -> str:
        """Somebody changes something; what it was."""
        channel = random.choice(self.work.channels)
        file = self.files[channel.name]
        what = random.choice(("detail", "detail", "order", "gone", "back", "invalid", "less", "less"))
        if what == "detail":
            file = replace(file, detail=file.detail + 1)
        elif what == "order":
            file = replace(file, names=tuple(random.sample(file.names, len(file.names))))
        elif what == "less" and len(file.names) > 1:
            gone = random.choice(file.names)
            file = replace(file, names=tuple(name for name in file.names if name != gone))
        elif what == "back":
            file = replace(self._complete[channel.name], detail=file.detail)
        else:
            file = replace(file, there=what != "gone", valid=what != "invalid")
        self.files[channel.name] = file
        missing = {to.name for to in channel.destinations} - set(file.names)
        self.ledger.absent |= {(channel.name, name) for name in missing}
        return f"{channel.name} {what}"

    def put_right(self) -> None:
        """Everything is as it was at the begin."""
        self.files = {name: replace(file, detail=self.files[name].detail) for name, file in self._complete.items()}

    # -- what the engine reads -------------------------------------------------------------------------------------

    def load(self) -> SitePlan:
        """The plans of what the files say now."""
        channels, broken = {}, {}
        for channel in self.work.channels:
            file = self.files[channel.name]
            if file.there and file.valid:
                channels[channel.name] = self._channel(channel, file)
            elif file.there:
                broken[channel.name] = (Problem(f"channels/{channel.name}.yaml", 1, "source", "is nothing"),)
        settings = SiteSettings(rest=RestSettings(port=0), admin=AdminSettings(port=0))
        return SitePlan(DATA.parent, DATA, settings, channels, broken, ())

    def _channel(self, channel: Channel, file: File) -> ChannelPlan:
        clock = Clock(self.world)
        source = MllpSource(
            MllpSourceConfig(port=channel.port), SourceBuilding(channel.name, DATA.parent, DATA), now=clock.time
        )
        order = Order(channel.order)
        if channel.order == "key":
            order = Order("key", (HL7Path.parse("PID-3.1"),), merges=(HL7Path.parse("MRG-1.1"),))
        by_name = {to.name: self._destination(channel, to, order, clock) for to in channel.destinations}
        acks = self._destination(channel, channel.acks, Order(), clock) if channel.acks is not None else None
        keep = dict.fromkeys(("delivered", "filtered", "failed", "refused"), channel.keep)
        return ChannelPlan(
            channel.name,
            f"channels/{channel.name}.yaml",
            source,
            tuple(by_name[name] for name in file.names),
            ack=channel.ack,
            ack_deadline=ACK_DEADLINE,
            ack_to=acks,
            duplicates=Duplicates(_EVER) if channel.duplicates else None,
            order=order,
            on_error=channel.on_error,
            transform=Chain([_ByEvent(lambda: self.ledger.mended, pure=channel.straight)]),
            retention=keep,
            fingerprint=repr(file),
        )

    def _destination(self, channel: Channel, to: To, order: Order, clock: Clock) -> DestinationPlan:
        config = MllpDestinationConfig(
            host="partner",
            port=to.port,
            timeout=to.timeout,
            connect_timeout=CONNECT_TIMEOUT,
            keep=to.keep,
            idle_timeout=30.0,
        )
        building = DestinationBuilding(channel.name, to.name, DATA.parent, DATA, to.connections)
        destination: Any = _Destination(config, building, now=clock.now)
        destination.started = lambda: self.ledger.starts.update((to.port,))
        return DestinationPlan(
            to.name,
            destination,
            connections=to.connections,
            sends_ahead=to.ahead,
            rate=to.rate,
            delay=to.delay,
            retry=Retry((0.5, 2.0, 5.0), attempts=to.attempts),
            on_unanswered=to.on_unanswered,
            on_answer=_PARKED if to.name == ACKS else (),
            order=order,
        )
