"""Load that must not hurt, counted and not timed: a long queue for a partner that is away costs others no statement,
a start and a stop no more than a short one, and nobody any memory for each message that waits.

What it comes to in seconds is in ``docs/figures.md``, measured by ``make soak``.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from engine.config.plan import Order, Retry
from engine.destinations.base import Outgoing, Response
from engine.envelope import Envelope, Origin
from engine.errors import Unavailable
from engine.runtime.channel import RunningChannel
from engine.runtime.window import PAGE, ROOM
from engine.store.base import DeliveryRow
from engine.store.sqlite import SqliteStore
from engine.transforms.base import Context

from .conftest import Bench, Scripted, by, siu, to

#: It is not tried again while a test runs.
LATER = Retry(backoff=(3600.0,))


class Away(Scripted):
    """A partner that nobody reaches."""

    async def send(self, outgoing: Outgoing) -> Response:
        self.sent.append(outgoing)
        raise Unavailable("refused")


class Silent(Scripted):
    """A partner that takes everything and says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()


class Begins:
    """A condition: MSH-10 begins so."""

    variables: Mapping[str, frozenset[str]] = {}
    opens = True

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __call__(self, envelope: Envelope, _context: Context) -> bool:
        return envelope.body.control_id.startswith(self.prefix)


ORDERS = pytest.mark.parametrize("order", [Order("received"), by("PID-3")], ids=["received", "key"])
#: Statements that come by the clock or by the number of ids, whoever sends.
WHEN_DUE = (
    "SELECT id FROM cache",
    "SELECT id, member_hashes FROM",
    "UPDATE meta SET value",
    "SELECT value FROM meta",  # what is indexed late
    "SELECT max(id), count(*) FROM",
    "UPDATE message SET control_id",
    "INSERT OR IGNORE INTO",
)
#: More than there is room for in memory.
MANY = ROOM + 3 * PAGE


async def send(bench: Bench, prefix: str, first: int, number: int) -> None:
    """So many messages of 100 patients, with 64 under way at once; all are acknowledged and routed."""
    assert bench.source.context is not None
    for at in range(first, first + number, 64):
        numbers = range(at, min(at + 64, first + number))
        bodies = [siu(f"{prefix}{one}", f"P{one % 100}") for one in numbers]
        answers = [bench.source.context.receive(body, Origin("hand")).answer for body in bodies]
        assert all(ack.positive for ack in await asyncio.gather(*answers))
    await running(bench).router.drained()


def running(bench: Bench) -> RunningChannel:
    found = bench.supervisor._channels["bench"].running
    assert found is not None
    return found


@contextmanager
def statements(store: SqliteStore) -> Iterator[Counter[str]]:
    """Statements that the block executes, by their first words; what begins and ends transactions is left out."""
    found: Counter[str] = Counter()

    def note(statement: str) -> None:
        words = " ".join(statement.split()[:4])
        if not words.startswith(("BEGIN", "COMMIT", "PRAGMA wal_checkpoint")):
            found[words] += 1

    connections = (store._state.group._transaction._connection, store._state.reader)
    for connection in connections:
        connection.set_trace_callback(note)
    try:
        yield found
    finally:
        for connection in connections:
            connection.set_trace_callback(None)


@ORDERS
@pytest.mark.parametrize("partner", [Away, Silent])
async def test_what_waits_for_a_partner_that_is_away_costs_others_no_statement(
    bench: Bench, partner: type[Scripted], order: Order
) -> None:
    dead, live = partner(), Scripted()
    plans = (
        to(dead, "dead", where=Begins("D"), order=order, connections=4, retry=LATER),
        to(live, "live", where=Begins("L"), order=order, connections=4),
    )
    found: list[Counter[str]] = []
    async with bench.running(*plans, order=order):
        for waiting in (1, MANY):
            await send(bench, "D", waiting, waiting)
            await bench.until(lambda: dead.sent and (partner is Silent or not running(bench).lanes["dead"].sending))
            before = len(live.sent)
            with statements(bench.store) as executed:
                await send(bench, "L", before, 300)
                await bench.until(lambda before=before: running(bench).lanes["live"].counts.delivered == before + 300)
            found.append(executed)
        dead.gate.set()
    for name in WHEN_DUE:
        found[0].pop(name, None), found[1].pop(name, None)
    assert sum(found[0].values()) >= 300 * 4, "statements are counted"
    assert found[1] == found[0]


@ORDERS
async def test_a_message_for_a_long_queue_costs_as_many_statements_as_for_a_short_one(
    bench: Bench, order: Order
) -> None:
    dead = Away()
    found: list[Counter[str]] = []
    async with bench.running(to(dead, order=order, connections=4, retry=LATER), order=order):
        for first, number in ((0, 100), (1000, MANY)):
            await send(bench, "D", first, number)
            await bench.until(lambda: dead.sent and not running(bench).lanes["emr"].sending)
            with statements(bench.store) as executed:
                await send(bench, "N", first, 300)
            found.append(executed)
    for name in WHEN_DUE:
        found[0].pop(name, None), found[1].pop(name, None)
    assert found[1] == found[0]


@ORDERS
async def test_a_stop_and_a_start_cost_as_much_with_a_long_queue_as_with_a_longer_one(
    bench: Bench, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = to(Away(), order=order, connections=4, retry=LATER)
    stops, pages = [], []
    queued = SqliteStore.queued

    def reading(store: SqliteStore, *asked: Any) -> Sequence[DeliveryRow]:
        rows = queued(store, *asked)
        pages.append(len(rows))
        return rows

    for turn in range(2):
        async with bench.running(plan, order=order):
            await send(bench, f"D{turn}-", 0, MANY)
            with statements(bench.store) as executed:
                await bench.supervisor.stop(5.0)
            stops.append(sum(executed.values()))
    assert stops[1] <= stops[0] < 20
    monkeypatch.setattr(SqliteStore, "queued", reading)
    async with bench.running(plan, order=order):
        await bench.until(lambda: bool(pages))
        await asyncio.sleep(0.1)  # what is read beyond that would be read by now
        assert sum(pages) <= ROOM + PAGE, "no more is read than there is room for"


async def test_what_waited_over_a_stop_comes_whole_in_order_and_once(bench: Bench) -> None:
    order = by("PID-3")
    async with bench.running(to(Away(), order=order, connections=4, retry=LATER), order=order):
        await send(bench, "D", 0, MANY)
    bench.clock.at += 2 * LATER.backoff[0]
    emr = Scripted()
    async with bench.running(to(emr, order=order, connections=4), order=order):
        await bench.until(lambda: running(bench).lanes["emr"].counts.delivered == MANY)
    assert len(emr.ids) == MANY
    for patient in range(100):
        own = [f"D{one}" for one in range(patient, MANY, 100)]
        assert [name for name in emr.ids if int(name[1:]) % 100 == patient] == own


async def test_a_monitor_that_asks_for_health_has_nothing_counted(bench: Bench) -> None:
    found = []
    async with bench.running(to(Away(), connections=4, retry=LATER)):
        for waiting in (10, 300):
            await send(bench, f"D{waiting}-", 0, waiting)
            with statements(bench.store) as executed:
                assert bench.supervisor.states == {"bench": "running"}
            found.append(executed)
    assert found[0] == found[1]
    assert sum(found[0].values()) <= 1, "the names of the channels"
    # A channel whose file is gone is told of, as long as something waits there.
    async with bench.running(to(Scripted()), name="other"):
        assert bench.supervisor.states == {"bench": "removed", "other": "running"}


@ORDERS
@pytest.mark.parametrize("partner", [Away, Silent])
async def test_what_waits_takes_no_memory(bench: Bench, partner: type[Scripted], order: Order) -> None:
    dead, number, sizes = partner(), 400, []
    async with bench.running(to(dead, order=order, connections=4, retry=LATER), order=order, duplicates=None):
        await send(bench, "D", 0, MANY)
        tracemalloc.start()
        try:
            for turn in range(5):
                await send(bench, f"T{turn}-", 0, number)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        dead.gate.set()
    # A turn may fill what is kept of statements, log lines, texts and the like; what waits would come with every one.
    least = min(after - before for before, after in pairwise(sizes))
    assert least / number < 64, f"bytes for each message that waits: {sizes}"
