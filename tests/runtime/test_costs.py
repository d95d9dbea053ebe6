"""What one message of the main path costs, counted and not timed: calls of the engine's functions, statements, commits.

The site is that of the benchmarks: MLLP in, a look-up, five field writes, a conversion, MLLP out, over real sockets.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.rows.paths import RECEIVE
from engine.runtime.supervisor import Supervisor
from engine.store.sqlite import SqliteStore
from engine.testing import load_for_tests

from .test_load import statements

ROOT = Path(__file__).parents[2]
ENGINE = str(ROOT / "engine")
MESSAGES = 100
#: Calls of functions of the engine for one message, from its first byte to its settled delivery. What is added here is
#: paid for by every message of every site; what is saved may be taken off. Four of them count for a monitor.
CALLS = 200
#: The same for one that is received, filtered and acknowledged, of many that a sender sends ahead of their acks.
RECEIVED = 55


def siu(number: int) -> bytes:
    """A message as benchmarks/load sends it."""
    return (
        f"MSH|^~\\&|SCHED|HOSPITAL|OIE|RADIOLOGY|20260105101500||SIU^S12^SIU_S12|M{number:06}|P|2.5.1|||AL|NE\r"
        f"SCH|A{number}^SCHED|P{number}^RIS|||||ROUTINE^Routine^HL70276|MRI^MRI head w/o contrast^LOCAL|30|min|"
        "^^30^202601051030^202601051100|D12^Moreau^Claire^^^Dr|||||||||U7^Petit^Jean|||||BOOKED\r"
        f"PID|1||{number:07}^^^HOSP^MR||DUPONT^MARIE^ANNE||19700412|F|||12 RUE DES LILAS^^LYON^^69003^FRA||"
        "^PRN^PH^^33^4^72000000\rPV1|1|O|RAD^MR1^^HOSP||||D12^Moreau^Claire^^^Dr\rRGS|1|A\r"
        "AIS|1|A|MRI^MRI head w/o contrast^LOCAL|202601051030|||30|min\r"
        "AIL|1|A|MR1^^^HOSP|RAD^Radiology|||202601051030|||30|min\r"
    ).encode()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A partner that takes everything."""
    while not reader.at_eof():
        try:
            control_id = (await reader.readuntil(b"\x1c\r")).split(b"|", 10)[9]
        except asyncio.IncompleteReadError:
            break
        header = b"MSH|^~\\&|EMR|SITEB|||20260105101500||ACK|1|P|2.3.1"
        writer.write(b"\x0b%b\rMSA|CA|%b\r\x1c\r" % (header, control_id))
    writer.close()


@asynccontextmanager
async def site(
    folder: Path,
) -> AsyncIterator[tuple[Supervisor, SqliteStore, int]]:
    """The benchmarks' site, its store and the port it listens on."""
    partner = await asyncio.start_server(answer, "127.0.0.1", 0)
    ports = {"BENCH_IN_PORT": 0, "BENCH_REST_PORT": 0, "BENCH_ADMIN_PORT": 0}
    ports["BENCH_OUT_PORT"] = partner.sockets[0].getsockname()[1]
    plan = load_for_tests(ROOT / "benchmarks" / "site", {name: str(port) for name, port in ports.items()})
    store = SqliteStore(folder, bytes(range(32)))
    await store.open()
    supervisor = Supervisor(plan, store)
    await supervisor.start()
    try:
        address = supervisor.channels()[0].source
        yield supervisor, store, int(address.rpartition(":")[2])
    finally:
        await supervisor.stop(5.0)
        await store.close()
        partner.close()


async def send(supervisor: Supervisor, port: int, first: int) -> None:
    """Messages one by one, until the last has been delivered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lanes = supervisor._channels["bench"].running.lanes["sink"]  # type: ignore[union-attr]
    before = lanes.counts.delivered
    for number in range(MESSAGES):
        writer.write(b"\x0b%b\x1c\r" % siu(first + number))
        assert b"MSA|CA|" in await reader.readuntil(b"\x1c\r")
        while lanes.counts.delivered < before + number + 1:  # noqa: ASYNC110 - so that each message is by itself
            await asyncio.sleep(0)
    writer.close()


async def test_a_message_of_the_main_path_costs_so_much_and_no_more(tmp_path: Path) -> None:
    calls: Counter[str] = Counter()

    def note(seen: FrameType, event: str, argument: Any) -> None:
        if event == "call" and seen.f_code.co_filename.startswith(ENGINE):
            calls[seen.f_code.co_qualname] += 1

    async with site(tmp_path) as (supervisor, store, port):
        await send(supervisor, port, 0)  # what is made once is made
        commits = store.commits
        with statements(store) as executed:
            await send(supervisor, port, MESSAGES)
        commits = store.commits - commits
        sys.setprofile(note)
        try:
            await send(supervisor, port, 2 * MESSAGES)
        finally:
            sys.setprofile(None)
    written = {words: number / MESSAGES for words, number in executed.items() if number >= MESSAGES // 2}
    assert written == {
        "INSERT INTO message (id,": 1,
        "INSERT INTO message_body (message_id,": 1,
        "INSERT INTO delivery (id,": 1,
        "UPDATE delivery SET state": 1,
    }
    assert MESSAGES * 2 <= commits <= MESSAGES * 2 + 10, "one that receives and routes, one that settles"
    assert calls.total() // MESSAGES <= CALLS, "\n".join(
        f"{number / MESSAGES:6.2f} {name}" for name, number in calls.most_common(60)
    )


async def test_a_message_that_is_only_received_costs_so_much_and_no_more(tmp_path: Path) -> None:
    channel = RECEIVE.replace('"${IN_PORT}"', "0")
    folder = tmp_path / "site"
    shutil.copytree(ROOT / "benchmarks" / "site", folder)
    (folder / "channels" / "bench.yaml").unlink()
    (folder / "channels" / "receive.yaml").write_text(channel)
    plan = load_for_tests(folder, {"BENCH_REST_PORT": "0", "BENCH_ADMIN_PORT": "0"})
    store = SqliteStore(tmp_path, bytes(range(32)))
    await store.open()
    supervisor = Supervisor(plan, store)
    await supervisor.start()
    calls: Counter[str] = Counter()

    def note(seen: FrameType, event: str, argument: Any) -> None:
        if event == "call" and seen.f_code.co_filename.startswith(ENGINE):
            calls[seen.f_code.co_qualname] += 1

    reader, writer = await asyncio.open_connection("127.0.0.1", int(supervisor.channels()[0].source.rpartition(":")[2]))
    for first in (0, MESSAGES):
        commits = store.commits
        sys.setprofile(note if first else None)
        try:
            writer.write(b"".join(b"\x0b%b\x1c\r" % siu(first + number) for number in range(MESSAGES)))
            for _ in range(MESSAGES):
                assert b"MSA|CA|" in await reader.readuntil(b"\x1c\r")
        finally:
            sys.setprofile(None)
    assert store.commits - commits <= 4, "the pipeline of a sender is 64 messages, and they share their commit"
    writer.close()
    await supervisor.stop(5.0)
    await store.close()
    assert calls.total() // MESSAGES <= RECEIVED, "\n".join(
        f"{number / MESSAGES:6.2f} {name}" for name, number in calls.most_common(60)
    )
