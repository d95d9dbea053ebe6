"""Many units, one fsync.

Units wait in a list. Once per turn of the event loop the waiting ones are executed, in the loop, as one transaction.
Its COMMIT (the fsync) runs in a thread of its own while further units wait; or at once in the loop when there are so
few that handing over would cost more than it gives, and the disk is quick. Futures end after it, in order of the calls.

A unit that cannot be executed fails alone; a disk that fails, fails the batch. What a unit means is ``writer.py``'s.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import perf_counter

from engine.errors import StoreError

Unit = tuple[Sequence[object], asyncio.Future[None]]

#: Up to so many units are committed in the loop …
_INLINE_UNITS = 4
#: … while a commit takes less than this (seconds, running mean): a slow disk must not hold up the sockets.
_INLINE_SECONDS = 0.002
#: Units per transaction: how long the loop may be kept executing statements (a few milliseconds).
_MAX_UNITS = 256

#: The fault lies outside the unit: disk, file, memory. (Primary result codes; everything else is the unit's own fault.)
_OUTSIDE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


class GroupCommit:
    """Executes and commits units on the one connection that writes."""

    def __init__(
        self, connection: sqlite3.Connection, apply: Callable[[object], None], commit: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._apply = apply
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Unit] = []
        self._scheduled = False
        self._committing = False
        self._commit_seconds = 0.0
        self._batches: SimpleQueue[list[Unit] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._commit_batches, name="store-commit", daemon=True)
        self._thread.start()
        #: Commits made since the start.
        self.commits = 0

    def submit(self, operations: Sequence[object]) -> asyncio.Future[None]:
        """Add a unit; the future ends after its commit or raises StoreError."""
        future = self._loop.create_future()
        self._waiting.append((operations, future))
        self._schedule()
        return future

    async def close(self, *last: object) -> None:
        """Commit what waits, then one last unit; nothing may be submitted any more."""
        future = self.submit(last)
        try:
            await future
        finally:
            self._batches.put(None)
            await asyncio.to_thread(self._thread.join)

    def _schedule(self) -> None:
        # Not run at once: whatever else this turn of the loop submits joins the batch, and answers leave first.
        if self._waiting and not self._scheduled and not self._committing:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        batch, self._waiting = self._waiting[:_MAX_UNITS], self._waiting[_MAX_UNITS:]
        executed = self._execute(batch)
        if not executed:
            self._schedule()
        elif len(executed) > _INLINE_UNITS or self._commit_seconds > _INLINE_SECONDS:
            self._committing = True
            self._batches.put(executed)
        else:
            self._end(executed, self._try_commit())

    def _execute(self, batch: list[Unit]) -> list[Unit]:
        """Execute a batch; gives the units whose commit is still to come, the others have failed."""
        try:
            self._begin()
            for operations, _ in batch:
                for operation in operations:
                    self._apply(operation)
        except Exception as error:  # noqa: BLE001  # whatever a unit does wrong, the others must not suffer from it
            self._roll_back()
            if not _is_outside(error):
                return self._execute_apart(batch)
            _fail(batch, error)
            return []
        return batch

    def _execute_apart(self, batch: list[Unit]) -> list[Unit]:
        """Execute a batch in which some unit is wrong: each in a savepoint of its own."""
        executed: list[Unit] = []
        execute = self._connection.execute
        try:
            self._begin()
            for unit in batch:
                execute("SAVEPOINT unit")
                operation: object = None
                try:
                    for operation in unit[0]:
                        self._apply(operation)
                    executed.append(unit)
                except Exception as error:
                    if _is_outside(error):
                        raise
                    execute("ROLLBACK TO unit")
                    _fail([unit], error, type(operation).__name__)
                execute("RELEASE unit")
        except Exception as error:  # noqa: BLE001  # disk full, I/O: nothing of the batch is kept
            self._roll_back()
            _fail(batch, error)
            return []
        if not executed:
            self._roll_back()
        return executed

    def _begin(self) -> None:
        if self._connection.in_transaction:  # an earlier roll-back failed
            self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # tried again before the next transaction; the units are told what came first

    def _try_commit(self) -> Exception | None:
        began = perf_counter()
        try:
            self._commit()
        except Exception as error:  # noqa: BLE001  # the units must be told, whatever it is
            self._roll_back()
            return error
        self.commits += 1
        self._commit_seconds += (perf_counter() - began - self._commit_seconds) / 16
        return None

    def _commit_batches(self) -> None:
        while (batch := self._batches.get()) is not None:
            error = self._try_commit()
            try:
                self._loop.call_soon_threadsafe(self._committed, batch, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _committed(self, batch: list[Unit], error: Exception | None) -> None:
        self._committing = False
        self._end(batch, error)

    def _end(self, batch: list[Unit], error: Exception | None) -> None:
        if error is None:
            for _, future in batch:
                if not future.done():  # its task may have been cancelled meanwhile
                    future.set_result(None)
        else:
            _fail(batch, error)
        self._schedule()


def _is_outside(error: Exception) -> bool:
    return isinstance(error, OSError | MemoryError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE


def _fail(batch: list[Unit], error: Exception, operation: str = "") -> None:
    # The text of a foreign exception may hold what it was raised about; its type or its code never does.
    reason = str(error) if isinstance(error, StoreError) else getattr(error, "sqlite_errorname", type(error).__name__)
    text = ": ".join(part for part in ("not committed", operation, reason) if part)
    for _, future in batch:
        if not future.done():
            future.set_exception(StoreError(text))
