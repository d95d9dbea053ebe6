"""Queries off the event loop: a bounded number of threads, each with a connection of its own, and a time for all of it.

Connections are kept between queries, and made when the first query comes: a database that is down must stop no
channel. One that has died meanwhile is replaced once; a query only reads, so it may be asked again.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engine.transforms.databases.base import Connection, Database, QueryError, Row
from engine.transforms.databases.statement import Statement


class Pool:
    """The connections of one step. They are closed when the step is no longer held by anything."""

    def __init__(self, database: Database, connections: int, timeout: float) -> None:
        """``timeout``: seconds for a query, waiting for a connection and connecting included."""
        self.database, self._timeout = database, timeout
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="database")
        self._idle: list[Connection] = []
        weakref.finalize(self, _close, self._threads, self._idle)

    async def fetch(self, statement: Statement, values: Mapping[str, Any], limit: int) -> list[Row]:
        """The rows, at most ``limit`` + 1. Raises QueryError."""
        query = _Query(self.database, self._idle, statement, values, limit)
        work = asyncio.wrap_future(self._threads.submit(query.run))
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError:
            raise query.give_up() from None
        except asyncio.CancelledError:
            query.give_up()
            raise


class _Query:
    """One query on its thread. What another thread may ask of it goes through the lock."""

    def __init__(
        self, database: Database, idle: list[Connection], statement: Statement, values: Mapping[str, Any], limit: int
    ) -> None:
        self._database, self._idle = database, idle
        self._asked = (statement, values, limit)
        self._lock = threading.Lock()
        self._begun = self._given_up = False
        self._connection: Connection | None = None

    def run(self) -> list[Row]:
        """Ask; on a kept connection that turns out to be dead, once more on a new one."""
        self._begun = True
        kept = self._kept()
        if kept is not None:
            try:
                return self._ask(kept)
            except QueryError as error:
                if error.kind != "unavailable" or self._given_up:
                    raise
        return self._ask(self._database.connect())

    def _kept(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:  # other threads take from it too: looking first would tell nothing
            return None

    def _ask(self, connection: Connection) -> list[Row]:
        usable = False
        self._hold(connection)
        try:
            if self._given_up:
                raise QueryError("unanswered", "timeout")
            rows = connection.fetch(*self._asked)
            usable = True
        except QueryError as error:
            usable = error.kind == "failed"
            raise
        finally:
            self._hold(None)
            if usable and not self._given_up:
                self._idle.append(connection)
            else:
                connection.close()
        return rows

    def _hold(self, connection: Connection | None) -> None:
        with self._lock:
            self._connection = connection

    def give_up(self) -> QueryError:
        """Nobody waits any more: end what runs. What that means for who waited."""
        with self._lock:
            self._given_up = True
            if self._connection is None:
                return QueryError("unavailable", "timeout" if self._begun else "busy")
            self._connection.interrupt()
        return QueryError("unanswered", "timeout")


def _close(threads: ThreadPoolExecutor, idle: list[Connection]) -> None:
    threads.shutdown(wait=False)
    while idle:
        idle.pop().close()
