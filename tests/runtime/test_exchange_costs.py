"""What an exchange costs, counted and not timed: calls of functions, statements, commits, tasks.

The site is this repository's: open slots (REST, a query over MLLP, ten slots as JSON) and a booking (its intent first),
over real sockets, with a partner that gives one answer.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.rows.requests import BOOKING, ORDER, PATH, booking, booking_answer, slots_answer, weekday
from engine.runtime.supervisor import Supervisor
from engine.store.sqlite import SqliteStore
from engine.testing import load_for_tests

from .test_load import statements

ROOT = Path(__file__).parents[2]
OURS = (str(ROOT / "engine"), str(ROOT / "transforms"))
EXCHANGES = 50
KEY = "k" * 40
DAY = weekday()
#: Calls of functions of the engine and the site for one exchange, from the first byte of the request to the last of its
#: answer, rounded down: what comes with the clock and not with an exchange (ids turn every four seconds) is none of it.
#: What is added here is paid for by every caller; what is saved may be taken off.
SLOTS_CALLS, BOOKING_CALLS = 264, 388


class Partner(asyncio.Protocol):
    """Gives one answer to everything."""

    def __init__(self, answer: str) -> None:
        self.answer = answer.encode()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        control_id = data.split(b"|", 10)[9]
        self.transport.write(b"\x0b%b\x1c\r" % self.answer.replace(b"{control_id}", control_id))


class Caller(asyncio.Protocol):
    """Asks one thing after the other on one connection."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data
        head, _, body = self.heard.partition(b"\r\n\r\n")
        if body and len(body) == int(head.partition(b"content-length: ")[2].split()[0]):
            self.answered.set_result(head.split()[1])

    async def ask(self, request: bytes) -> bytes:
        """The status of the answer."""
        self.heard, self.answered = b"", asyncio.get_running_loop().create_future()
        self.transport.write(request)
        status: bytes = await self.answered
        return status


def slots(_number: int) -> bytes:
    path = PATH.format(day=DAY)
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode()


def book(number: int) -> bytes:
    body = booking(DAY)
    return (
        f"POST {BOOKING} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nIdempotency-Key: K{number}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@asynccontextmanager
async def site(folder: Path, answer: str) -> AsyncIterator[tuple[SqliteStore, Caller]]:
    """This repository's site with one order in its cache; its store, and somebody to call it."""
    loop = asyncio.get_running_loop()
    partner = await loop.create_server(lambda: Partner(answer), "127.0.0.1", 0)
    ports = dict.fromkeys(("REST_PORT", "ADMIN_PORT", "SIU_PORT", "ORDERS_PORT"), "0")
    ports["RIS_PORT"] = str(partner.sockets[0].getsockname()[1])
    secrets = ("RADSCHEDULER_API_KEY", "RADSCHEDULER_TOKEN", "PHONE_SALT", "TWILIO_AUTH_TOKEN", "ATHENA_CLIENT_SECRET")
    plan = load_for_tests(ROOT, ports | dict.fromkeys(secrets, KEY))
    store = SqliteStore(folder, bytes(range(32)))
    await store.open()
    supervisor = Supervisor(plan, store)
    await supervisor.start()
    try:
        orders = next(channel for channel in supervisor.channels() if channel.name == "ris-orders")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(orders.source.rpartition(":")[2]))
        writer.write(b"\x0b%b\x1c\r" % ORDER.encode())
        assert b"MSA|AA|" in await reader.readuntil(b"\x1c\r")
        writer.close()
        port = int(supervisor.http.address.rpartition(":")[2])
        _, caller = await loop.create_connection(Caller, "127.0.0.1", port)
        yield store, caller
        caller.transport.close()
    finally:
        await supervisor.stop(5.0)
        await store.close()
        partner.close()


class Cost:
    """What so many exchanges cost."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.commits = self.tasks = 0
        self.statements: dict[str, float] = {}

    def note(self, seen: FrameType, event: str, _argument: Any) -> None:
        """See sys.setprofile."""
        if event == "call" and seen.f_code.co_filename.startswith(OURS):
            self.calls[seen.f_code.co_qualname] += 1


async def cost_of(request: Callable[[int], bytes], answer: str, status: bytes, folder: Path) -> Cost:
    cost, loop = Cost(), asyncio.get_running_loop()

    def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        cost.tasks += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    async with site(folder, answer) as (store, caller):

        async def ask(first: int) -> None:
            for number in range(first, first + EXCHANGES):
                assert await caller.ask(request(number)) == status

        await ask(0)  # what is made once is made
        cost.commits = -store.commits
        loop.set_task_factory(make_task)  # type: ignore[arg-type]
        with statements(store) as executed:
            await ask(EXCHANGES)
        loop.set_task_factory(None)
        cost.commits += store.commits
        sys.setprofile(cost.note)
        try:
            await ask(2 * EXCHANGES)
        finally:
            sys.setprofile(None)
    cost.statements = {words: round(number / EXCHANGES) for words, number in executed.items() if number >= EXCHANGES}
    return cost


def most(cost: Cost) -> str:
    return "\n".join(f"{number / EXCHANGES:6.2f} {name}" for name, number in cost.calls.most_common(60))


async def test_a_query_is_written_once_with_its_outcome_and_takes_no_task(tmp_path: Path) -> None:
    cost = await cost_of(slots, slots_answer(DAY), b"200", tmp_path)
    assert cost.statements == {
        "INSERT INTO message (id,": 1,
        "INSERT INTO message_body (message_id,": 1,  # what was sent
        "INSERT INTO delivery (id,": 1,
    }
    assert EXCHANGES <= cost.commits <= EXCHANGES + 5
    assert cost.tasks < EXCHANGES // 2, "those of other channels, and none for each exchange"
    assert cost.calls.total() // EXCHANGES <= SLOTS_CALLS, most(cost)


async def test_a_booking_is_written_before_it_is_sent_and_once_more_before_its_answer(tmp_path: Path) -> None:
    cost = await cost_of(book, booking_answer(DAY), b"201", tmp_path)
    assert cost.statements == {
        "SELECT value, sealed FROM": 1,  # the order
        "INSERT INTO message (id,": 1,
        "INSERT INTO message_body (message_id,": 1,
        "INSERT INTO delivery (id,": 1,
        "INSERT INTO exchange_key (id,": 1,
        "INSERT INTO key_member (member,": 1,  # what a notice names it by
        "UPDATE delivery SET state": 1,
        "UPDATE message SET ack": 1,
        "UPDATE exchange_key SET status": 1,
    }
    assert 2 * EXCHANGES <= cost.commits <= 2 * EXCHANGES + 5
    assert cost.tasks < EXCHANGES // 2, "those of other channels, and none for each exchange"
    assert cost.calls.total() // EXCHANGES <= BOOKING_CALLS, most(cost)
