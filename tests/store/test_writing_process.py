"""A process of its own writes while there is much to write: what is kept and told is the same, whoever dies."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

import engine
from engine.delivery import DeliveryState, MessageState
from engine.errors import DataFolderInUse, Evidence, StoreError
from engine.store import SqliteStore, database
from engine.store.base import Accept, AckSent, CloseKey, Find, NewDelivery, OpenKey, Pause, Route, Sending, Settle
from engine.store.faults import InDoubt
from engine.store.machine import FolderLock
from engine.store.process import writing
from engine.store.process.carried import brought, carried
from engine.store.process.files import files
from engine.store.process.state import ProcessNow, ProcessState
from engine.store.process.under_way import UnderWay
from engine.store.process.wire import IN_DOUBT
from engine.store.transaction import Transaction

from .conftest import Samples

KEY = bytes(range(32))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started by the first batch that it could take."""
    monkeypatch.setattr(writing, "_MANY", 1)


@pytest.fixture
async def apart(tmp_path: Path, eager: None) -> AsyncIterator[SqliteStore]:
    """A store with a process that writes for it."""
    store = SqliteStore(tmp_path / "data", KEY, apart=True)
    await store.open()
    store.crowded(1)
    await started(store)
    yield store
    await store.close()


async def started(store: SqliteStore) -> int:
    """Its process id."""
    samples = Samples()
    async with asyncio.timeout(20):
        while process(store)._end is None:
            await samples.message(store)
    return pids(store)[0]


def process(store: SqliteStore) -> writing.WritingProcess:
    group = store._opened.group
    assert group._process is not None
    return group._process


def under_way(store: SqliteStore) -> UnderWay:
    given = store._opened.group._apart
    assert given is not None
    return given


def asked(store: SqliteStore) -> Sequence[object]:
    """What it has been asked and has not answered."""
    end = process(store)._end
    assert end is not None
    return end.asked


def pids(store: SqliteStore) -> list[int]:
    """Processes that this one has started for it and that have not ended."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    found = []
    for child in map(int, children):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"engine.store.process" in words:
            found.append(child)
    return found


def opened(pid: int, *numbers: int) -> list[str]:
    """What a process has open, beyond what it was born with: everything, or these descriptors."""
    folder = Path(f"/proc/{pid}/fd")
    paths = [folder / str(number) for number in numbers] or folder.iterdir()
    return [str(path.readlink()) for path in paths if int(path.name) > 2]


def read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def accept(store: SqliteStore, **more: Any) -> Accept:
    made = {"channel": "c", "correlation_id": "x", "received_at": 1.0, "body": b"MSH|", **more}
    return Accept(store.new_id(), **made)


def routed(store: SqliteStore, number: int) -> Accept:
    """A message with a delivery."""
    delivery = NewDelivery(store.new_id(), "sink", "k", b"MSH|sent", f"M{number}")
    return accept(
        store,
        control_id=f"M{number}",
        state=MessageState.ROUTED,
        at=1.0,
        ack="AA",
        patients=(f"P{number}",),
        origin={"source": "mllp", "peer": "127.0.0.1:5"},
        deliveries=(delivery,),
    )


def test_what_is_carried_arrives_as_it_was() -> None:
    settle = Settle(3, DeliveryState.DELIVERED, 1.5, 1, evidence=Evidence("AA", "207"), answer=b"MSH|A", sent_at=1.0)
    delivery = NewDelivery(
        3, "sink", "k", b"MSH|", "M1", state=DeliveryState.SENDING, sending=Sending(3, 1.0, 1), settled=settle
    )
    operations = [
        Accept(1, "c", "x", 1.0, b"MSH|", "M\udce9", origin={"headers": {"a": "b"}}, patients=("1",)),
        Accept(2, "c", "x", 1.0, b"MSH|", state=MessageState.ROUTED, at=2.0, deliveries=(delivery,)),
        Route(1, "c", "x", MessageState.FILTERED, 2.0),
        settle,
        Settle(4, DeliveryState.QUEUED, 1.0, 2, "unanswered timeout", 9.0),
        AckSent(1, "AA", b"MSH|"),
        OpenKey("c|a", "key", b"hash", "c", 1, 2, 9.0, {"body.orderId": "7"}),
        CloseKey("c|a", "key", 201, None, b"{}"),
    ]
    written = carried([operations[:3], operations[3:]])
    assert written is not None
    assert brought(written) == operations


def test_what_a_person_does_is_not_carried() -> None:
    assert carried([(Pause("c", "sink", 1.0),)]) is None


def test_large_bodies_are_not_carried_and_not_copied_first() -> None:
    batch = [[Accept(number, "c", "x", 1.0, bytes(900_000))] for number in range(20)]
    assert carried(batch[:5]) is not None
    tracemalloc.start()
    assert carried(batch) is None
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


async def test_it_is_started_when_much_comes_and_ends_when_nothing_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_IDLE", 0.2)
    store = SqliteStore(tmp_path, KEY, apart=True)
    samples = Samples()
    await store.open()
    for _ in range(30):
        await samples.message(store)
    assert not pids(store), "an engine at rest is one process"
    store.crowded(1)
    pid = await started(store)
    async with asyncio.timeout(20):
        while pid in pids(store):  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.05)
    await started(store)  # and comes again
    await store.close()
    assert not pids(store)


async def test_an_engine_tells_how_it_is(tmp_path: Path, eager: None) -> None:
    store = SqliteStore(tmp_path, KEY, apart=True)
    await store.open()
    store.crowded(1)
    assert store.writing_process == ProcessNow(ProcessState.RESTING)
    await store.submit(accept(store))
    assert store.writing_process.state == ProcessState.STARTING
    pid = await started(store)
    assert store.writing_process == ProcessNow(ProcessState.RUNNING, pid)
    os.kill(pid, signal.SIGSTOP)  # it answers nothing yet
    leaving = asyncio.ensure_future(process(store).without(lambda: None))
    await asyncio.sleep(0)
    assert store.writing_process == ProcessNow(ProcessState.ENDING, pid)
    os.kill(pid, signal.SIGCONT)
    await leaving
    assert store.writing_process == ProcessNow(ProcessState.RESTING)
    os.kill(await started(store), signal.SIGKILL)
    async with asyncio.timeout(20):
        while process(store)._life is not None:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
    assert store.writing_process == ProcessNow(ProcessState.DIED)
    await store.close()
    without = SqliteStore(tmp_path, KEY)
    await without.open()
    assert without.writing_process == ProcessNow(ProcessState.OFF)
    await without.close()


async def test_one_that_was_stopped_is_silent_and_runs_again_when_it_goes_on(
    apart: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SILENT", 0.05)
    pid = await started(apart)
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(0.1)
    assert apart.writing_process == ProcessNow(ProcessState.RUNNING, pid), "it was asked nothing"
    waiting = asyncio.ensure_future(wait(apart, accept(apart)))
    async with asyncio.timeout(20):
        while apart.writing_process.state is not ProcessState.SILENT:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
    assert apart.writing_process.pid == pid
    os.kill(pid, signal.SIGCONT)
    assert await waiting is None
    assert apart.writing_process == ProcessNow(ProcessState.RUNNING, pid)


async def test_everything_is_stored_as_without_it(apart: SqliteStore) -> None:
    commits = apart.commits
    accepts = [routed(apart, number) for number in range(100)]
    await asyncio.gather(*(apart.submit(one) for one in accepts))
    ends = [
        Settle(
            one.deliveries[0].delivery_id,
            DeliveryState.DELIVERED,
            2.0,
            1,
            "",
            0.0,
            Evidence("AA"),
            b"MSH|OK",
            sent_at=1.5,
        )
        for one in accepts
    ]
    await asyncio.gather(*(apart.submit(end) for end in ends))
    assert process(apart)._number > 1
    assert apart.commits - commits <= 8
    for one in accepts:
        (delivery,) = apart.deliveries_of(one.message_id)
        assert delivery.state is DeliveryState.DELIVERED
        assert apart.message_body(one.message_id) == b"MSH|"
        assert apart.delivery_body(delivery.delivery_id) == b"MSH|sent"
        assert apart.delivery_answer(delivery.delivery_id) == b"MSH|OK"
        assert [row.message_id for row in apart.same_control_id("c", one.control_id, 5)] == [one.message_id]


async def test_a_key_that_it_has_written_is_found(apart: SqliteStore) -> None:
    before = process(apart)._number
    assert apart.find_key("c|a", "K0", 1.0) is None
    opened = [OpenKey("c|a", f"K{number}", b"hash", "c", number, number, 9e9) for number in range(100)]
    await asyncio.gather(*(apart.submit(one) for one in opened))
    assert process(apart)._number > before
    found = [apart.find_key("c|a", one.key, 1.0) for one in opened]
    assert [row and row.message_id for row in found] == [one.message_id for one in opened]


async def test_it_has_two_batches_before_everything_has_come_that_comes_at_once(apart: SqliteStore) -> None:
    for _ in range(2):
        await asyncio.gather(*(apart.submit(routed(apart, number)) for number in range(60)))
    enough, commits, waiting, given = under_way(apart).enough, apart.commits, [], []
    for number in range(60):
        waiting.append(apart.submit(routed(apart, number)))
        given.append(len(asked(apart)))
    assert given[enough - 2 : enough] == [0, 1], "the first, when that is a good part of what came before"
    assert given.count(1) < 60 - enough, "and the second without waiting for its answer"
    assert max(given) == 2
    await asyncio.gather(*waiting)
    assert apart.commits - commits <= 4
    told: list[int] = []
    for number in range(60):
        apart.commit((accept(apart),), lambda _, number=number: told.append(number))  # type: ignore[misc]
    await apart.submit(accept(apart))
    assert told == list(range(60)), "in order of the calls"


async def test_a_crowd_is_written_as_two_batches(apart: SqliteStore) -> None:
    pid = await started(apart)
    os.kill(pid, signal.SIGSTOP)
    waiting = [apart.submit(accept(apart)) for _ in range(100)]
    async with asyncio.timeout(20):
        while len(asked(apart)) < 2:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0)
    number = process(apart)._number
    os.kill(pid, signal.SIGCONT)
    await asyncio.gather(*waiting)
    assert process(apart)._number - number <= 4


async def test_what_it_was_given_behind_a_batch_that_it_does_not_keep_is_done_behind_it(apart: SqliteStore) -> None:
    first, told = accept(apart), []
    await apart.submit(first)
    pid = await started(apart)
    os.kill(pid, signal.SIGSTOP)
    for operation in [first, *(accept(apart) for _ in range(99))]:  # the first is stored already
        apart.commit((operation,), lambda error, of=operation: told.append((of, error)))  # type: ignore[misc]
    assert len(asked(apart)) == 2
    os.kill(pid, signal.SIGCONT)
    await apart.submit(accept(apart))
    assert [error is None for _, error in told] == [False] + [True] * 99
    ids = [of.message_id for of, _ in told]
    assert ids == sorted(ids), "in order of the calls"
    assert apart.message(ids[-1]) is not None
    await asyncio.gather(*(apart.submit(accept(apart)) for _ in range(20)))
    assert pids(apart) == [pid], "and it goes on"


async def test_killed_with_two_batches_everybody_is_told_what_became_of_each(apart: SqliteStore) -> None:
    pid = await started(apart)
    os.kill(pid, signal.SIGSTOP)
    accepts = [accept(apart, body=bytes(2000)) for _ in range(100)]
    waiting = [asyncio.ensure_future(wait(apart, one)) for one in accepts]
    async with asyncio.timeout(20):
        while len(asked(apart)) < 2:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        assert await asyncio.gather(*waiting) == [None] * 100
    assert all(len(apart.message_body(one.message_id)) == 2000 for one in accepts)


async def test_few_units_go_to_it_while_it_is_at_work_and_to_the_loop_when_it_is_not(apart: SqliteStore) -> None:
    apart.crowded(-1)
    await asyncio.gather(*(apart.submit(accept(apart)) for _ in range(10)))
    number = process(apart)._number
    await asyncio.gather(apart.submit(accept(apart)), apart.submit(accept(apart)))
    assert process(apart)._number == number + 1
    await asyncio.sleep(0.02)
    apart._opened.group._commit_seconds = 0.0  # however slow this disk is
    await asyncio.gather(apart.submit(accept(apart)), apart.submit(accept(apart)))
    assert process(apart)._number == number + 1


async def test_while_there_is_none_it_is_asked_once_for_each_batch(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, KEY, apart=True)
    await store.open()
    store.crowded(1)
    group, upkeep = store._opened.group, 0

    def noted() -> tuple[object, ...]:
        nonlocal upkeep
        upkeep += 1
        return ()

    group._upkeep = noted
    await asyncio.gather(*(store.submit(accept(store)) for _ in range(300)))
    assert process(store)._came <= 4
    for _ in range(20):
        await asyncio.gather(*(store.submit(accept(store)) for _ in range(80)))
    assert upkeep <= 11, "for every so many units, however often they were about to be given away"
    await store.close()


async def test_a_unit_that_does_not_fit_fails_alone(apart: SqliteStore) -> None:
    first = accept(apart)
    await apart.submit(first)
    good, twice = accept(apart), first
    results = await asyncio.gather(apart.submit(good), apart.submit(twice), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], StoreError)
    assert apart.message(good.message_id) is not None


async def test_what_it_does_not_take_is_written_in_its_turn(apart: SqliteStore) -> None:
    one, other = accept(apart), accept(apart)
    await asyncio.gather(apart.submit(one), apart.submit(Pause("c", "sink", 1.0)), apart.submit(other))
    assert apart.paused("c") == {"sink": 1.0}
    assert apart.message(one.message_id) is not None
    assert apart.message(other.message_id) is not None


async def test_a_patient_is_found_whoever_sorts_the_index_in(apart: SqliteStore) -> None:
    late = routed(apart, 1)  # its id is given out before the index goes past it
    for number in range(2, 1600):
        await apart.submit(routed(apart, number)) if number % 100 == 0 else apart.submit(routed(apart, number))
    apart.crowded(-1)
    await apart.submit(late)
    assert [row.message_id for row in apart.find(Find(patient="P1"))] == [late.message_id]


async def test_killed_at_work_it_has_done_a_batch_or_not_and_everybody_is_told_which(apart: SqliteStore) -> None:
    for attempt in range(12):
        pid = await started(apart)
        accepts = [accept(apart, body=bytes(20_000), control_id=f"{attempt}-{number}") for number in range(60)]
        waiting = [asyncio.ensure_future(wait(apart, one)) for one in accepts]
        await asyncio.sleep(0)
        for _ in range(attempt):
            await asyncio.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            results = await asyncio.gather(*waiting)
        assert results == [None] * 60
        for one in accepts:
            assert len(apart.message_body(one.message_id)) == 20_000
        async with asyncio.timeout(20):
            while process(apart)._life is not None:  # noqa: ASYNC110 - one that had nothing to do dies unnoticed
                await asyncio.sleep(0.01)
        process(apart)._not_before = 0.0
    apart.crowded(-1)
    await apart.submit(accept(apart))
    assert not apart.trouble
    writer = apart._opened.group._transaction._connection
    assert writer.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_what_a_dead_process_may_have_left_in_the_log_is_written_over_before_anybody_is_told(
    apart: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, cut, first, other = apart._opened.group, 0, accept(apart), accept(apart)
    disk = [False]

    def refuse(self: Transaction) -> bool:
        nonlocal cut
        cut += 1
        return disk[0] and real(self)

    real = Transaction.cut
    monkeypatch.setattr(Transaction, "cut", refuse)
    monkeypatch.setattr(writing.WritingProcess, "_left", lambda self, number, noted: IN_DOUBT)
    pid = pids(apart)[0]
    os.kill(pid, signal.SIGSTOP)
    waiting = asyncio.ensure_future(wait(apart, first))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while not group._in_doubt:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
    assert not waiting.done(), "it may be kept"
    assert isinstance(await wait(apart, other), StoreError)
    disk[0] = True
    async with asyncio.timeout(20):
        assert isinstance(await waiting, StoreError)
    assert cut > 1
    await apart.submit(accept(apart))


def test_one_that_dies_with_nothing_to_do_is_given_a_batch_before_that_is_noticed(tmp_path: Path, eager: None) -> None:
    async def writes() -> None:
        wrong: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, facts: wrong.append(facts))
        store = SqliteStore(tmp_path, KEY, apart=True)
        await store.open()
        store.crowded(1)
        await started(store)
        end = process(store)._end
        assert end is not None
        assert end._transport is not None
        end._transport.abort()
        await end._lost.wait()
        assert process(store)._end is end, "it is not known yet"
        told: list[StoreError | None] = []
        for _ in range(20):  # enough to be handed over at once
            store.commit((accept(store),), told.append)
        await store.submit(accept(store))
        assert told == [None] * 20
        await store.close()
        assert not wrong

    uvloop.run(writes())  # as an engine does: its transports take nothing when they are closed


async def test_an_engine_that_ends_waits_less_for_one_that_hangs(
    apart: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_AT_THE_END", 0.3)
    os.kill(await started(apart), signal.SIGSTOP)
    messages = [accept(apart) for _ in range(10)]
    waiting = [asyncio.ensure_future(wait(apart, one)) for one in messages]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await apart.close()
    assert await asyncio.gather(*waiting) == [None] * 10
    assert not pids(apart)
    again = SqliteStore(apart.folder, KEY)
    await again.open()
    assert all(again.message(one.message_id) for one in messages)
    await again.close()


async def test_a_process_that_hangs_is_killed(apart: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_IDLE", 0.1)
    apart.crowded(-1)
    await process(apart).without(lambda: None)
    apart.crowded(1)
    pid = await started(apart)
    os.kill(pid, signal.SIGSTOP)
    one = accept(apart)
    async with asyncio.timeout(20):
        assert await wait(apart, one) is None
    assert apart.message(one.message_id) is not None
    assert pid not in pids(apart)


async def test_a_process_that_hangs_before_it_has_begun_is_killed_and_another_one_comes(
    tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_TO_BEGIN", 0.0)
    monkeypatch.setattr(writing, "_AFTER_DEATH", 0.0)
    store = SqliteStore(tmp_path, KEY, apart=True)
    await store.open()
    store.crowded(1)
    waiting = store.submit(accept(store))  # it may be killed before this is committed
    async with asyncio.timeout(20):
        while (child := process(store)._starting) is None:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0)
        monkeypatch.setattr(writing, "_TO_BEGIN", 60.0)
        while process(store)._life is not None:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
    await waiting
    assert child.ended() is not None
    await started(store)
    await store.close()


async def test_an_engine_that_ends_waits_for_no_disk_that_cannot_be_read(
    apart: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(self: writing.WritingProcess) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(writing.WritingProcess, "_noted", unreadable)
    monkeypatch.setattr(writing, "_AGAIN", 0.01)
    pid = pids(apart)[0]
    os.kill(pid, signal.SIGSTOP)
    waiting = asyncio.ensure_future(wait(apart, accept(apart)))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    assert not waiting.done(), "whether it is committed is not known"
    async with asyncio.timeout(20):
        await apart.close()
        assert isinstance(await waiting, InDoubt)


async def test_a_disk_that_cannot_be_read_after_its_death_is_told_of(
    apart: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, readable, real = 0, False, writing.WritingProcess._noted

    def noted(self: writing.WritingProcess) -> int:
        nonlocal reads
        reads += 1
        if readable:
            return real(self)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_READ"
        raise error

    monkeypatch.setattr(writing.WritingProcess, "_noted", noted)
    monkeypatch.setattr(writing, "_AGAIN", 0.01)
    os.kill(pids(apart)[0], signal.SIGSTOP)
    one = accept(apart)
    waiting = asyncio.ensure_future(wait(apart, one))
    async with asyncio.timeout(20):
        while not asked(apart):  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0)
        with capture_logs() as logs:
            os.kill(pids(apart)[0], signal.SIGKILL)
            while reads < 3:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
            assert apart.trouble == "SQLITE_IOERR_READ"
            assert not waiting.done()
            readable = True
            assert await waiting is None
    assert not apart.trouble
    assert [line["event"] for line in logs] == ["store.process_died", "store.refuses", "store.takes_again"]
    assert apart.message(one.message_id) is not None


async def test_one_that_dies_before_it_begins_leaves_the_connection_alone_that_the_engine_writes_on(
    tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path, KEY, apart=True)
    await store.open()
    store.crowded(1)
    read: list[object] = []
    monkeypatch.setattr(writing.WritingProcess, "_noted", read.append)
    await store.submit(accept(store))
    async with asyncio.timeout(20):
        while (child := process(store)._starting) is None:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0)
        child.kill()
        while process(store)._life is not None:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
    assert not read
    await store.submit(accept(store))
    await store.close()


def test_a_folder_whose_engine_let_go_is_waited_for_while_its_process_ends(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    held = os.dup(lock.descriptor)
    lock.release()
    threading.Timer(0.2, os.close, (held,)).start()
    FolderLock(tmp_path).release()


async def wait(store: SqliteStore, operation: Accept) -> StoreError | None:
    try:
        await store.submit(operation)
    except StoreError as error:
        return error
    return None


async def test_a_new_key_seals_from_its_commit_on(apart: SqliteStore) -> None:
    number = await apart.use_keys({1: KEY, 2: bytes(32)})
    await started(apart)
    one = accept(apart)
    await apart.submit(one)
    rows = apart._opened.reader.execute("SELECT sealed FROM message_body WHERE message_id = ?", (one.message_id,))
    assert rows.fetchall() == [(number,)]


async def test_keys_stand_in_no_argument_and_in_no_environment(
    tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HL7ENGINE_STORE_KEY", KEY.hex())  # where an engine may have it from
    monkeypatch.setenv("RIS_PASSWORD", "a secret of the site")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    store = SqliteStore(tmp_path, KEY, apart=True)
    await store.open()
    store.crowded(1)
    pid = await started(store)
    seen = read(pid, "cmdline") + read(pid, "environ")
    assert KEY not in seen
    assert KEY.hex().encode() not in seen
    assert b"a secret of the site" not in seen
    assert b"PYTHONHASHSEED=7\0" in seen, "its interpreter is the engine's"
    await store.close()


async def test_it_has_no_file_of_the_engine_but_the_lock(apart: SqliteStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        await process(apart).without(lambda: None)
        found = opened(await started(apart))
        assert opened(os.getpid(), listener.fileno())[0] not in found
    sockets = [name for name in found if name.startswith("socket:")]
    assert len(sockets) == 1, "the engine's end of it has the other one"
    rest = {Path(name).name for name in found if name.startswith(str(apart.folder))}
    assert rest == {"engine.lock", "engine.db", "engine.db-wal", "engine.db-shm"}


async def test_none_is_started_from_files_that_were_replaced(
    apart: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files() == process(apart)._files
    folder = tmp_path / "installed"
    shutil.copytree(Path(engine.__file__).parent / "store", folder / "store")
    monkeypatch.setattr(engine, "__file__", str(folder / "__init__.py"))
    await process(apart).without(lambda: None)
    with capture_logs() as logs:
        for _ in range(3):
            await apart.submit(accept(apart))
    assert [line["event"] for line in logs] == ["store.process_not_started"]
    assert not pids(apart)
    assert apart.writing_process.state == "outdated"


def test_none_writes_that_runs_other_files_than_the_engine(tmp_path: Path) -> None:
    installed = Path(engine.__file__).parent
    shutil.copytree(installed, tmp_path / "engine", copy_function=shutil.copy, ignore=lambda *_: ["__pycache__"])
    script = """
    import asyncio, sys
    from pathlib import Path

    sys.path.insert(0, sys.argv[1])  # where its process does not look
    from engine.store import SqliteStore
    from engine.store.base import Accept
    from engine.store.process import writing

    writing._MANY = 1

    async def main():
        assert writing.__file__.startswith(sys.argv[1])
        store = SqliteStore(Path(sys.argv[1], "data"), bytes(range(32)), apart=True)
        await store.open()
        store.crowded(1)
        process = store._opened.group._process
        while process._not_before == 0.0:
            await store.submit(Accept(store.new_id(), "c", "x", 1.0, b"x"))
        assert process._number == 0
        await store.close()

    asyncio.run(main())
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(installed.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "it runs other files than the engine" in told.stdout, told.stderr
    assert told.returncode == 0


async def test_signals_that_end_an_engine_do_not_end_it_before(apart: SqliteStore) -> None:
    pid = await started(apart)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    await apart.submit(accept(apart))
    assert pids(apart) == [pid]


def test_it_ends_with_an_engine_that_is_killed_and_the_next_one_waits_for_it(tmp_path: Path) -> None:
    script = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from engine.store import SqliteStore
    from engine.store.base import Accept
    from engine.store.process import writing

    writing._MANY = 1

    async def main():
        store = SqliteStore(Path(sys.argv[1]), bytes(range(32)), apart=True)
        await store.open()
        store.crowded(1)
        number = 0
        while True:
            one = Accept(store.new_id(), "c", "x", 1.0, b"x" * 100_000)
            waiting = store.submit(one)
            if store._opened.group._process._number > 20:
                await asyncio.sleep(0.001)
                print(number, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            await waiting
            number = one.message_id

    asyncio.run(main())
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == -signal.SIGKILL
    last = int(told.stdout)

    async def again() -> None:
        store = SqliteStore(tmp_path, KEY)
        await store.open()
        assert len(store.message_body(last)) == 100_000
        with pytest.raises(DataFolderInUse):
            await SqliteStore(tmp_path, KEY).open()
        await store.close()

    asyncio.run(again())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is left, and holds the data folder")
def test_one_that_was_stopped_ends_with_an_engine_that_is_killed(tmp_path: Path) -> None:
    engine = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from engine.store import SqliteStore
    from engine.store.base import Accept
    from engine.store.process import writing

    writing._MANY = 1

    async def main():
        store = SqliteStore(Path(sys.argv[1]), bytes(range(32)), apart=True)
        await store.open()
        store.crowded(1)
        process = store._opened.group._process
        while process._end is None:
            await store.submit(Accept(store.new_id(), "c", "x", 1.0, b"x"))
        (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        os.kill(int(child), signal.SIGSTOP)
        while Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] != "T":
            pass
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
    """
    # Adopted out of its session, a stopped process is woken by the kernel; a container's first process adopts within.
    adopt = """
    import ctypes, subprocess, sys
    from pathlib import Path
    from engine.store.machine import FolderLock

    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    subprocess.run([sys.executable, "-c", *sys.argv[1:]])
    FolderLock(Path(sys.argv[2])).release()  # DataFolderInUse while one is left
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(adopt), textwrap.dedent(engine), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    with suppress(ProcessLookupError):
        os.kill(int(told.stdout), signal.SIGKILL)
    assert told.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the closed socket alone says so")
def test_one_ends_whose_engine_had_ended_before_the_kernel_was_asked_to_say_so() -> None:
    adopt = """
    import subprocess, sys

    command = [sys.executable, "-P", "-m", "engine.store.process", sys.argv[1]]
    sys.exit(subprocess.run(command, pass_fds=[int(sys.argv[1])]).returncode)
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:  # the one who made it is not its parent any more
        command = [sys.executable, "-c", textwrap.dedent(adopt), str(theirs.fileno())]
        assert subprocess.run(command, pass_fds=[theirs.fileno()], timeout=20).returncode == 0


async def test_a_disk_that_is_full_is_told_as_without_it(apart: SqliteStore) -> None:
    writer = apart._opened.group._transaction._connection
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 40}")
    await process(apart).without(lambda: None)
    store_full = await wait(apart, accept(apart, body=bytes(600_000)))
    assert "SQLITE_FULL" in str(store_full)
    assert apart.trouble == "SQLITE_FULL"


def test_the_second_connection_is_as_durable(tmp_path: Path) -> None:
    async def opened() -> None:
        store = SqliteStore(tmp_path, KEY)
        await store.open()
        further = database.connect_further_writer(tmp_path)
        assert database.durability(further) == "journal_mode=wal synchronous=FULL"
        assert further.execute("PRAGMA secure_delete").fetchone() == (1,)
        assert further.execute("PRAGMA cache_size").fetchone() == (-16384,)
        further.close()
        await store.close()

    asyncio.run(opened())
