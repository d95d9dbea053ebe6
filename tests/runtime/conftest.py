"""A channel built by hand on a real store: scripted destinations, a clock that is held, no network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import BaseModel

from engine.config.plan import ChannelPlan, DestinationPlan, Order, SitePlan
from engine.config.settings import AdminSettings, RestSettings, SiteSettings
from engine.destinations.base import Destination, Outgoing, Response
from engine.envelope import Ack, Envelope, Origin, Reply
from engine.errors import DeliveryError, Evidence, StoreError
from engine.hl7.path import Path as HL7Path
from engine.runtime.supervisor import Supervisor
from engine.sources.base import Source, SourceContext
from engine.store.audit import Who
from engine.store.base import DeliveryRow, Find, MessageRow, Operation
from engine.store.sqlite import SqliteStore
from engine.transforms.base import Chain, Context, Step, Verdict

KEY = bytes(range(32))
#: Who acts in tests.
WHO = Who.local(0)


def siu(control_id: str, patient: str = "P1", event: str = "S12") -> bytes:
    """A small SIU as a RIS sends it."""
    return (
        f"MSH|^~\\&|RIS|DTI|ENGINE|SITE|20260101120000||SIU^{event}|{control_id}|P|2.3\r"
        f"SCH|O{control_id}|A{control_id}\rPID|1||{patient}||Doe^John\r"
    ).encode()


class HeldClock:
    """Time that passes when a test says so; sleeping is still real."""

    def __init__(self) -> None:
        self.at = 1_767_268_800.0

    def time(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


class HandSource(Source):
    """A source that a test calls itself."""

    Config = BaseModel
    can_reply = True

    def __init__(self, config: Any = None, building: Any = None) -> None:
        self.context: SourceContext | None = None
        self.start_error: Exception | None = None

    @property
    def address(self) -> str:
        return "hand"

    async def start(self, context: SourceContext) -> None:
        if self.start_error is not None:
            raise self.start_error
        self.context = context

    async def stop(self) -> None:
        self.context = None

    async def send(self, body: bytes, **origin: Any) -> Ack | Reply:
        assert self.context is not None
        return await self.context.receive(body, Origin("hand", **origin)).answer


class Scripted(Destination):
    """A destination that answers as its script says, and AA when the script is over."""

    Config = BaseModel
    answers = True

    def __init__(self, script: Sequence[DeliveryError | Response] = ()) -> None:
        self.script = list(script)
        self.sent: list[Outgoing] = []
        #: Cleared: sends wait here before they are answered.
        self.gate = asyncio.Event()
        self.gate.set()
        self.probes = 0
        self.under_way = 0
        self.most_under_way = 0

    @property
    def address(self) -> str:
        return "scripted"

    async def send(self, outgoing: Outgoing) -> Response:
        self.sent.append(outgoing)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        answer = self.script.pop(0) if self.script else Response(b"MSA|AA", Evidence("AA"))
        if isinstance(answer, DeliveryError):
            raise answer
        return answer

    async def probe(self) -> None:
        self.probes += 1

    @property
    def ids(self) -> list[str]:
        return [outgoing.control_id for outgoing in self.sent]


class Do(Step):
    """A step that calls a function of the test, which may do anything."""

    Config = dict
    pure = False

    def __init__(self, function: Callable[[Envelope, Context], Verdict | None]) -> None:
        self.function = function

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        return self.function(envelope, context) or Verdict.CONTINUE


@dataclass
class Bench:
    """A site under test: its store outlives any one supervisor."""

    folder: Path
    #: Whether messages of a channel without steps are routed by the commit that receives them.
    straight: bool = True
    clock: HeldClock = field(default_factory=HeldClock)
    source: HandSource = field(default_factory=HandSource)
    store: SqliteStore = field(init=False)
    supervisor: Supervisor = field(init=False)

    @asynccontextmanager
    async def running(
        self, *destinations: DestinationPlan, name: str = "bench", **channel: Any
    ) -> AsyncIterator[Supervisor]:
        if not self.straight:
            channel.setdefault("transform", in_turn())
        plan = ChannelPlan(name, f"channels/{name}.yaml", self.source, destinations, **channel)
        settings = SiteSettings(rest=RestSettings(port=0), admin=AdminSettings(port=0))
        site = SitePlan(self.folder, self.folder / "data", settings, {name: plan}, {}, ())
        self.store = SqliteStore(self.folder / "data", KEY, now=self.clock.time)
        await self.store.open()
        self.supervisor = Supervisor(site, self.store, self.clock)
        await self.supervisor.start()
        try:
            yield self.supervisor
        finally:
            await self.supervisor.stop(5.0)
            await self.store.close()

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until ``condition`` holds; it must within ``seconds``, which a busy machine does not come to."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - the conditions are about the store, which announces nothing
                await asyncio.sleep(0.002)

    def deliveries(self, state: str | None = None) -> list[DeliveryRow]:
        from engine.store.base import Find

        rows = [
            row for message in self.store.find(Find(limit=500)) for row in self.store.deliveries_of(message.message_id)
        ]
        return sorted((row for row in rows if state is None or row.state == state), key=lambda row: row.delivery_id)

    def messages(self) -> list[MessageRow]:
        return sorted(self.store.find(Find(limit=500)), key=lambda row: row.message_id)


def to(destination: Destination, name: str = "emr", **options: Any) -> DestinationPlan:
    """A destination plan."""
    return DestinationPlan(name, destination, **options)


def by(path: str) -> Order:
    """Order by a path."""
    return Order("key", (HL7Path.parse(path),))


def merging(path: str, prior: str) -> Order:
    """Order by a path, merges with both their keys."""
    return Order("key", (HL7Path.parse(path),), (), (HL7Path.parse(prior),))


def steps(*functions: Callable[[Envelope, Context], Verdict | None]) -> Chain:
    """A chain of functions."""
    return Chain([Do(function) for function in functions])


def in_turn() -> Chain:
    """Steps that change nothing, but are not pure: each message waits for its turn to be routed."""
    return steps(lambda _envelope, _context: None)


def refuse(patch: pytest.MonkeyPatch, store: Any, refused: Callable[[Sequence[Operation]], bool]) -> None:
    """``store`` (one, or all of a class) commits no unit that ``refused`` says yes to."""
    real = store.commit

    def commit(*args: Any) -> None:
        *whose, unit, told = args
        if refused(unit):  # in its turn, as the store refuses
            real(*whose, (), lambda _: told(StoreError("not committed: SQLITE_FULL")))
        else:
            real(*args)

    patch.setattr(store, "commit", commit)


@pytest.fixture(params=[True, False], ids=["straight", "in_turn"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    return Bench(tmp_path, request.param)


@pytest.fixture
def logged() -> list[dict[str, Any]]:
    """Every log line of the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines
