"""Many units, one fsync.

Units wait in a list. Two turns of the event loop after the first one came, all are executed, in the loop, as one
transaction. Its COMMIT (the fsync) runs beside the loop while further units wait; or at once in the loop when there are
so few that handing over would cost more than it gives, and the disk is quick. Promises are kept after it, in order of
the calls.

A unit that cannot be executed fails alone; a disk that fails, fails the batch. What a unit means is ``writer.py``'s.

A COMMIT whose fsync failed is neither kept nor lost: its frames are in the log, and after a crash some of them, or all,
may be found there, with valid checksums. Such a batch is in doubt. It is told nothing until another transaction has
been committed over its place in the log (the cut), which no retried fsync can pretend: the bytes are written anew.
Only then is it certain that nothing of it was kept. While the disk refuses the cut as well, units that come later fail
at once (nothing of them was written) and the batch waits.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from engine.errors import DoesNotFit, StoreError
from engine.promise import Promise
from engine.store import queries
from engine.store.checkpoint import Checkpoints
from engine.store.machine import Committer

log = structlog.get_logger("engine.store")

Handler = Callable[[Any], None]
#: Called once when the unit has been committed, or with the reason why nothing of it was kept.
Told = Callable[[StoreError | None], object]
Unit = tuple[Sequence[object], Told]

#: Up to so many units are committed in the loop …
_INLINE_UNITS = 4
#: … while a commit takes less than this (seconds, running mean): a slow disk must not hold up the sockets.
_INLINE_SECONDS = 0.002
#: Units per transaction: how long the loop may be kept executing statements (a few milliseconds).
_MAX_UNITS = 256
#: Pages that an operation writes, about, which says nothing of its ``pages``.
_USUAL_PAGES = 4
#: Seconds before a batch in doubt is cut off again when nothing else comes meanwhile.
_CUT_AGAIN = 1.0

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


class InDoubt(StoreError):
    """The fsync of a commit failed, and so did the cut: a crash may find the batch in the log, or nothing of it."""


class GroupCommit:
    """Executes and commits units on the one connection that writes."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        handlers: Mapping[type[Any], Handler],
        commit: Callable[[], None],
        committer: Committer,
        checkpoints: Checkpoints,
    ) -> None:
        """``handlers``: what executes each type of operation."""
        self._connection = connection
        self._handlers = {kind: self._weighed(kind, handler) for kind, handler in handlers.items()}
        self._commit = commit
        self._committer = committer
        self._checkpoints = checkpoints
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Unit] = []
        self._in_doubt: list[Unit] = []
        self._cut_timer: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._committing = self._closing = False
        self._commit_seconds = 0.0
        #: Of the transaction under way: pages beyond the usual, and whether the disk has much to write.
        self._more_pages, self._heavy = 0, False
        #: Why the disk took nothing the last time; empty while it does.
        self.trouble = ""
        #: Commits made since the start.
        self.commits = 0
        #: There is something else to do while a commit is under way: none is made in the loop.
        self.crowded = False

    def submit(self, operations: Sequence[object]) -> Promise[None]:
        """Add a unit; its promise is kept after its commit, or ends with StoreError."""
        promise: Promise[None] = Promise()
        self.add(operations, promise.end)
        return promise

    def add(self, operations: Sequence[object], told: Told) -> None:
        """The same for one who keeps no promise: ``told`` is called where it would be kept."""
        self._waiting.append((operations, told))
        if not self._scheduled and not self._committing:
            self._scheduled = True
            self._loop.call_soon(self._soon)

    async def close(self, *last: object) -> None:
        """Commit what waits, then one last unit; nothing may be submitted any more."""
        self._closing = True
        promise = self.submit(last)
        try:
            await promise
        finally:
            if self._cut_timer is not None:
                self._cut_timer.cancel()
            await self._committer.close()
            _fail(self._in_doubt, InDoubt("whether it was committed is not known"))

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled and not self._committing:
            self._scheduled = True
            self._loop.call_soon(self._soon)

    def _soon(self) -> None:
        # Not run at once: whatever this turn of the loop submits joins the batch, and what the sockets hold by the
        # next; answers leave first.
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._in_doubt:
            self._cut_again()
            return
        batch, self._waiting = self._waiting[:_MAX_UNITS], self._waiting[_MAX_UNITS:]
        self._more_pages, self._heavy = 0, False
        executed = self._execute(batch)
        if not executed:
            self._schedule()
        elif len(executed) > _INLINE_UNITS or self.crowded or self._commit_seconds > _INLINE_SECONDS or self._heavy:
            self._committing = True
            self._committer.run(partial(self._try_commit, executed), partial(self._committed, executed))
        else:
            self._committed(executed, self._try_commit(executed))

    def _execute(self, batch: list[Unit]) -> list[Unit]:
        """Execute a batch; gives the units whose commit is still to come, the others have failed."""
        handlers = self._handlers
        try:
            self._begin()
            for operations, _ in batch:
                for operation in operations:
                    handlers[type(operation)](operation)
        except Exception as error:  # noqa: BLE001  # whatever a unit does wrong, the others must not suffer from it
            self._roll_back()
            if not _is_outside(error):
                return self._execute_apart(batch)
            self._refused(error)
            _fail(batch, error)
            return []
        return batch

    def _execute_apart(self, batch: list[Unit]) -> list[Unit]:
        """Execute a batch in which some unit is wrong: each in a savepoint of its own."""
        executed: list[Unit] = []
        told: list[Unit] = []
        execute = self._connection.execute
        try:
            self._begin()
            for unit in batch:
                execute("SAVEPOINT unit")
                operation: object = None
                try:
                    for operation in unit[0]:
                        self._handlers[type(operation)](operation)
                    executed.append(unit)
                except Exception as error:  # whatever a unit does wrong: it fails alone
                    if _is_outside(error):
                        raise
                    execute("ROLLBACK TO unit")
                    told.append(unit)
                    _fail([unit], DoesNotFit(_reason(error)), type(operation).__name__)
                execute("RELEASE unit")
        except Exception as error:  # noqa: BLE001  # disk full, I/O: nothing of the batch is kept
            self._roll_back()
            self._refused(error)
            _fail([unit for unit in batch if not any(unit is other for other in told)], error)
            return []
        if not executed:
            self._roll_back()
        return executed

    def _weighed(self, kind: type[Any], handler: Handler) -> Handler:
        """A handler that notes how much the disk has to write, for operations that say so of themselves."""
        if not hasattr(kind, "pages") and not hasattr(kind, "heavy"):
            return handler

        def weighed(operation: Any) -> None:
            handler(operation)
            self._more_pages += getattr(operation, "pages", _USUAL_PAGES) - _USUAL_PAGES
            self._heavy = self._heavy or getattr(operation, "heavy", False)

        return weighed

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

    # -- the commit, in the loop or beside it ----------------------------------------------------------------------

    def _try_commit(self, batch: list[Unit]) -> Exception | None:
        began = self._committer.seconds()
        try:
            self._commit()
        except Exception as error:  # noqa: BLE001  # the units must be told, whatever it is
            self._roll_back()
            if _may_be_kept(error) and not self._cut():
                return InDoubt(f"whether it was committed is not known: {_reason(error)}")
            return error
        self.commits += 1
        self._commit_seconds += (self._committer.seconds() - began - self._commit_seconds) / 16
        return None

    def _cut(self) -> bool:
        """Commit over the place in the log where a commit failed; whether the disk took it."""
        try:
            self._begin()
            self._connection.execute(queries.CUT_LOG)
            self._commit()
        except Exception:  # noqa: BLE001  # the disk is still broken, however it says so
            self._roll_back()
            return False
        return True

    def _committed(self, batch: list[Unit], error: Exception | None) -> None:
        # Moving the log takes as long as some commits do: whoever waits for this one is told meanwhile.
        self._committing = error is None and self._is_log_long(batch)
        if self._committing:
            self._committer.run(self._move, self._moved)
        self._end(batch, error)

    def _is_log_long(self, batch: list[Unit]) -> bool:
        pages = _USUAL_PAGES * sum([len(operations) for operations, _ in batch]) + self._more_pages
        return self._checkpoints.committed(pages, self._heavy)

    def _move(self) -> None:
        began = self._committer.seconds()
        self._checkpoints.move()
        # A part of what commits cost: where it takes long, batches are better than commits one by one in the loop.
        self._commit_seconds += (self._committer.seconds() - began) / 16

    def _moved(self, _nothing: None) -> None:
        self._committing = False
        self._schedule()

    def _end(self, batch: list[Unit], error: Exception | None) -> None:
        if error is None:
            if self.trouble:
                self._accepted()
            for _, told in batch:
                try:
                    told(None)
                except Exception as failed:  # noqa: BLE001  # what one listener does wrong must not reach the others
                    _report(failed)
        elif isinstance(error, InDoubt) and not self._closing:
            self._in_doubt += batch
            log.error("store.in_doubt", units=len(batch))
            self._refused(error)
        else:
            self._refused(error)
            _fail(batch, error)
        self._schedule()

    # -- a disk that refuses ---------------------------------------------------------------------------------------

    def _refused(self, error: Exception) -> None:
        """Say so once, and look every so often whether it takes something again, also when nobody writes."""
        reason = _reason(error).rpartition(": ")[2]
        if not self.trouble:
            log.error("store.refuses", reason=reason)
        self.trouble = reason
        if not self._closing and (self._cut_timer is None or self._in_doubt):
            self._look_again()

    def _accepted(self) -> None:
        log.warning("store.takes_again")
        self.trouble = ""

    def _look_again(self) -> None:
        if self._cut_timer is not None:
            self._cut_timer.cancel()
        self._cut_timer = self._loop.call_later(_CUT_AGAIN, self._cut_again)

    # -- a batch in doubt ------------------------------------------------------------------------------------------

    def _cut_again(self) -> None:
        if self._committing:
            self._look_again()
            return
        if self._cut_timer is not None:
            self._cut_timer.cancel()
            self._cut_timer = None
        if not self.trouble:
            return  # a unit that came meanwhile was taken
        self._committing = True
        self._committer.run(self._cut, self._cut_ended)

    def _cut_ended(self, certain: bool) -> None:
        self._committing = False
        if certain:
            if self.trouble:
                self._accepted()
            if self._in_doubt:
                log.warning("store.certain_again", units=len(self._in_doubt))
            in_doubt, self._in_doubt = self._in_doubt, []
            _fail(in_doubt, StoreError("the disk failed"))
        else:
            if self._in_doubt:
                waiting, self._waiting = self._waiting, []
                _fail(waiting, StoreError("the disk fails"))
            self._look_again()
        self._schedule()


def _is_outside(error: Exception) -> bool:
    return isinstance(error, OSError | MemoryError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE


def _may_be_kept(error: Exception) -> bool:
    """Whether the transaction may stand in the log although its COMMIT failed: a full disk never took all of it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR


def _reason(error: Exception) -> str:
    # The text of a foreign exception may hold what it was raised about; its type or its code never does.
    return str(error) if isinstance(error, StoreError) else getattr(error, "sqlite_errorname", type(error).__name__)


def _fail(batch: list[Unit], error: Exception, operation: str = "") -> None:
    text = ": ".join(part for part in ("not committed", operation, _reason(error)) if part)
    for _, told in batch:
        # An exception for each: whoever raises it adds a traceback of their own.
        given: StoreError
        if isinstance(error, InDoubt):
            given = InDoubt(str(error))
        else:
            given = DoesNotFit(text) if isinstance(error, DoesNotFit) else StoreError(text)
        try:
            told(given)
        except Exception as failed:  # noqa: BLE001  # see above
            _report(failed)


def _report(failed: Exception) -> None:
    told = {"message": "a callback failed", "exception": failed}
    asyncio.get_running_loop().call_exception_handler(told)
