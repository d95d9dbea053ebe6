"""What one more destination costs a message, counted and not timed: what is done for each of them, and what once.

The site is that of the benchmarks' fan-out: the destinations have no steps of their own, over real sockets.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.rows.paths import FAN, OUTLET, SITE
from engine.runtime.supervisor import Supervisor
from engine.store.sqlite import SqliteStore
from engine.testing import load_for_tests

from .test_costs import ENGINE, MESSAGES, answer, siu
from .test_load import statements

#: Calls of functions of the engine for one more delivery of the same message, from its routing to its settlement.
CALLS = 39


@asynccontextmanager
async def site(folder: Path, destinations: int) -> AsyncIterator[tuple[Supervisor, SqliteStore]]:
    """The site with so many destinations, and its store."""
    partner = await asyncio.start_server(answer, "127.0.0.1", 0)
    ports = {"IN_PORT": 0, "REST_PORT": 0, "ADMIN_PORT": 0, "OUT_PORT": partner.sockets[0].getsockname()[1]}
    (folder / "channels").mkdir(parents=True)
    (folder / "site.yaml").write_text(SITE)
    outlets = "".join(OUTLET.format(number=number) for number in range(destinations))
    (folder / "channels" / "fan.yaml").write_text(FAN + outlets)
    plan = load_for_tests(folder, {name: str(port) for name, port in ports.items()})
    store = SqliteStore(folder / "data", bytes(range(32)))
    await store.open()
    supervisor = Supervisor(plan, store)
    await supervisor.start()
    try:
        yield supervisor, store
    finally:
        await supervisor.stop(5.0)
        await store.close()
        partner.close()


async def send(supervisor: Supervisor, first: int) -> None:
    """Messages one by one, until each has been delivered everywhere."""
    port = int(supervisor.channels()[0].source.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    counts = [lanes.counts for lanes in supervisor._channels["fan"].running.lanes.values()]  # type: ignore[union-attr]
    before = counts[0].delivered
    for number in range(MESSAGES):
        writer.write(b"\x0b%b\x1c\r" % siu(first + number))
        assert b"MSA|CA|" in await reader.readuntil(b"\x1c\r")
        while any(count.delivered < before + number + 1 for count in counts):  # noqa: ASYNC110 - each is by itself
            await asyncio.sleep(0)
    writer.close()


async def costs(folder: Path, destinations: int) -> tuple[Counter[str], Counter[str]]:
    """Calls and statements of so many messages."""
    calls: Counter[str] = Counter()

    def note(seen: FrameType, event: str, argument: Any) -> None:
        if event == "call" and seen.f_code.co_filename.startswith(ENGINE):
            calls[seen.f_code.co_qualname] += 1

    async with site(folder, destinations) as (supervisor, store):
        await send(supervisor, 0)  # what is made once is made
        with statements(store) as executed:
            await send(supervisor, MESSAGES)
        sys.setprofile(note)
        try:
            await send(supervisor, 2 * MESSAGES)
        finally:
            sys.setprofile(None)
    return calls, Counter({words: number for words, number in executed.items() if number >= MESSAGES // 2})


async def test_one_more_destination_costs_so_much_and_no_more(tmp_path: Path) -> None:
    calls, executed = await costs(tmp_path / "one", 1)
    more_calls, more_executed = await costs(tmp_path / "five", 5)
    more_executed.subtract(executed)
    more_calls.subtract(calls)
    assert {words: number / MESSAGES for words, number in more_executed.items() if number} == {
        "INSERT INTO delivery (id,": 4,
        "UPDATE delivery SET state": 4,
    }
    assert more_calls.total() // (4 * MESSAGES) <= CALLS, "\n".join(
        f"{number / MESSAGES / 4:6.2f} {name}" for name, number in more_calls.most_common(60)
    )
