"""What a backlog costs: memory, and the time to the first delivery after a start, with N messages queued.

``python benchmarks/backlog.py 100000`` fills a store with N messages of N/20 patients for a partner that is down,
starts a channel on it in a process of its own, and tells its resident memory before, while the partner is down and
while it drains. Bodies are small: what is measured is what the queue itself keeps in memory.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

import structlog
from pydantic import BaseModel

from engine.config.plan import ChannelPlan, DestinationPlan, Order, SitePlan
from engine.config.settings import RestSettings, SiteSettings
from engine.delivery import MessageState
from engine.destinations.base import Destination, Outgoing, Response
from engine.errors import Unavailable
from engine.hl7.path import Path as MessagePath
from engine.runtime.supervisor import Supervisor
from engine.sources.base import Source, SourceContext
from engine.store.base import Accept, NewDelivery, Route
from engine.store.sqlite import SqliteStore

KEY = bytes(range(32))
ORDERS = {"received": Order("received"), "key": Order("key", (MessagePath.parse("PID-3.1"),))}
UNIT = 500
DOWN, DRAINED = 5.0, 5_000


class Partner(Destination):
    """Is down, until it is told to be up."""

    def __init__(self) -> None:
        self.up, self.taken, self.began = False, 0, 0.0
        self.first, self.enough = asyncio.Event(), asyncio.Event()

    @property
    def address(self) -> str:
        """Nowhere."""
        return "nowhere"

    async def send(self, outgoing: Outgoing) -> Response:
        """Take it, or not."""
        self.first.set()
        if not self.up:
            raise Unavailable("refused")
        self.taken += 1
        if self.taken == 1:
            self.began = time.perf_counter()
        if self.taken == DRAINED:
            self.enough.set()
        return Response()


class Quiet(Source):
    """Nothing comes in."""

    Config = BaseModel

    def __init__(self) -> None:
        """See ``Quiet``."""

    @property
    def address(self) -> str:
        """Nowhere."""
        return "nowhere"

    async def start(self, context: SourceContext) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""


def resident() -> float:
    """MiB in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def fill(folder: Path, number: int) -> None:
    """N messages, routed and queued."""
    store = SqliteStore(folder, KEY)
    await store.open()
    for first in range(0, number, UNIT):
        units: list[Accept | Route] = []
        for at in range(first, min(first + UNIT, number)):
            body = f"MSH|^~\\&|A|B|C|D|20260101||ADT^A08|M{at}|P|2.5\rPID|1||P{at % (number // 20)}\r".encode()
            message_id, key = store.new_id(), store.lane_key(f"P{at % (number // 20)}")
            units.append(Accept(message_id, "bench", f"c{at}", time.time(), body, f"M{at}", "ADT^A08", key))
            made = NewDelivery(store.new_id(), "emr", key, body, f"M{at}")
            units.append(Route(message_id, "bench", f"c{at}", MessageState.ROUTED, time.time(), deliveries=(made,)))
        await store.submit(*units)
    await store.close()


async def run(folder: Path, order: Order) -> None:
    """Start on what is there, and tell."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    before, partner = resident(), Partner()
    emr = DestinationPlan("emr", partner, order=order, connections=4 if order.kind == "key" else 1)
    channel = ChannelPlan("bench", "bench.yaml", Quiet(), (emr,), order=order)
    settings = SiteSettings(rest=RestSettings(port=0))
    began = time.perf_counter()
    store = SqliteStore(folder, KEY)
    await store.open()
    supervisor = Supervisor(SitePlan(folder, folder, settings, {"bench": channel}, {}, ()), store)
    opened = time.perf_counter() - began
    await supervisor.start()
    await partner.first.wait()
    first = time.perf_counter() - began
    await asyncio.sleep(DOWN)
    down = resident()
    partner.up = True
    await partner.enough.wait()
    rate = partner.taken / (time.perf_counter() - partner.began)
    print(
        f"  order {order.kind:8}  store open {opened:.2f} s, first send {first:.2f} s, "
        f"memory {before:.0f} MiB before, {down:.0f} while down, {resident():.0f} while draining at {rate:.0f}/s"
    )
    await supervisor.stop(5.0)
    await store.close()


async def main() -> None:
    """Fill, then measure each order in a process of its own."""
    if len(sys.argv) == 4:
        await run(Path(sys.argv[2]), ORDERS[sys.argv[3]])
        return
    number = int(sys.argv[1])
    for order in ORDERS:
        with tempfile.TemporaryDirectory() as folder:
            await fill(Path(folder) / "data", number)
            command = (sys.executable, __file__, str(number), str(Path(folder) / "data"), order)
            await (await asyncio.create_subprocess_exec(*command)).wait()


if __name__ == "__main__":
    asyncio.run(main())
