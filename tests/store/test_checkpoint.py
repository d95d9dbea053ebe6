"""The log goes back into the database after a commit, and what becomes of that says nothing about the commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.store import checkpoint
from engine.store.checkpoint import Checkpoints
from engine.store.database import LOG_FILE
from engine.store.process.under_way import UnderWay


class Watched:
    """A connection whose log cannot be moved while ``fails``."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self.real, self.fails, self.asked = real, False, 0

    def execute(self, statement: str) -> Any:
        self.asked += 1
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        return self.real.execute(statement)


class Asked:
    """A process that writes, which answers when it is told to."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.moved: list[Any] = []

    def write(self, batch: Any, done: Any) -> bool:
        self.written.append(done)
        return True

    def move(self, done: Any) -> bool:
        self.moved.append(done)
        return True


@pytest.fixture
def database(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE t (x)")
    yield connection
    connection.close()


def test_the_log_stays_about_as_small_as_it_should_however_much_an_operation_writes(database, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAGES", 100)
    watched = Watched(database)
    moving = Checkpoints(watched)
    log = Path(database.execute("PRAGMA database_list").fetchone()[2] + "-wal")
    for _ in range(600):
        database.execute("INSERT INTO t VALUES (zeroblob(40000))")
        if moving.committed(4):  # a third of what it is
            moving.move()
    assert log.stat().st_size < 4 * 100 * 4096, "one round is reckoned by what was guessed, the others by what was seen"
    assert 600 * 10 / 100 / 2 < watched.asked < 600


def test_the_log_is_moved_in_small_steps_while_something_large_is_written(database, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAGES", 2000)
    watched = Watched(database)
    moving = Checkpoints(watched)
    asked = []
    for heavy in (False, True):
        watched.asked = 0
        for _ in range(80):
            database.execute("INSERT INTO t VALUES (zeroblob(400000))")
            if moving.committed(100, heavy):
                moving.move()
        asked.append(watched.asked)
    assert asked[1] >= 3 * asked[0] > 0


def test_what_cannot_be_moved_is_moved_later(database, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAGES", 1)
    watched = Watched(database)
    moving = Checkpoints(watched)
    watched.fails = True
    for _ in range(3):
        database.execute("INSERT INTO t VALUES (1)")
        if moving.committed(4):
            moving.move()
    assert watched.asked == 3
    watched.fails = False
    if moving.committed(4):
        moving.move()
    assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    assert database.execute("SELECT count(*) FROM t").fetchone() == (3,)


async def test_a_commit_behind_which_the_log_cannot_be_moved_is_a_commit(sqlite, samples, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAGES", 1)
    group = sqlite._opened.group
    watched = Watched(group._transaction._connection)
    monkeypatch.setattr(group, "_checkpoints", Checkpoints(watched))
    watched.fails = True
    message_id = await samples.message(sqlite)
    await samples.message(sqlite)  # when the first has been tried
    assert watched.asked
    assert sqlite.message(message_id) is not None
    assert not sqlite.trouble


async def test_sqlite_itself_moves_nothing_inside_of_a_commit(sqlite, samples, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAGES", 10**9)
    for _ in range(400):
        await samples.message(sqlite, body=bytes(30_000))
    assert (sqlite.folder / LOG_FILE).stat().st_size > 2000 * 4096


async def test_who_waits_for_a_commit_is_told_before_the_log_is_moved_and_nobody_writes_meanwhile(
    sqlite, samples, monkeypatch
):
    monkeypatch.setattr(checkpoint, "PAGES", 1)
    group = sqlite._opened.group
    moving, moved = threading.Event(), threading.Event()

    class Slow(Checkpoints):
        def move(self):
            moving.set()
            moved.wait(10)
            super().move()

    monkeypatch.setattr(group, "_checkpoints", Slow(group._transaction._connection))
    first = await samples.message(sqlite)
    assert moving.wait(10)
    assert sqlite.message(first) is not None
    second = asyncio.ensure_future(samples.message(sqlite))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    moved.set()
    assert sqlite.message(await second) is not None
    await sqlite.close()  # behind it too the log is moved


@pytest.mark.parametrize("moved", [(9, 9), (9, 3), "SQLITE_IOERR_FSYNC", None])
def test_the_process_is_given_nothing_while_it_moves_the_log_whatever_comes_of_that(database, monkeypatch, moved):
    monkeypatch.setattr(checkpoint, "PAGES", 5)
    process, told = Asked(), []
    under_way = UnderWay(
        process, Checkpoints(database), lambda *_: told.append("kept"), lambda *_: told.append("undone"), told.clear
    )
    assert under_way.hand_over([((), print)])
    process.written.pop()((4, 0.001))
    assert under_way.has_room
    assert not under_way
    assert under_way.hand_over([((), print)])
    process.written.pop()((4, 0.001))
    assert told == ["kept", "kept"], "before the log is moved"
    assert len(process.moved) == 1
    assert not under_way.has_room
    assert under_way, "nor does the engine write by itself"
    process.moved.pop()(moved)
    assert under_way.has_room
    assert not under_way
    assert told == [], "who waits to write goes on"
