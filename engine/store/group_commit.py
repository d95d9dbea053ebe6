"""Many units, one fsync.

Units wait in a list while each turn of the event loop brings further ones, for two turns at least and a few at most.
Then all are executed, in the loop, as one transaction. Its COMMIT (the fsync) runs beside the loop while further units
wait; or at once in the loop when there are so few that handing over would cost more than it gives, and the disk is
quick. Promises are kept after it, in order of the calls.

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
from engine.promise import told as tell
from engine.store import queries
from engine.store.checkpoint import Checkpoints
from engine.store.faults import InDoubt, is_outside, may_be_kept, reason_of
from engine.store.gathered import Gathered
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
#: So many need not wait for more …
_ENOUGH_UNITS = 64
#: … and none waits for longer than so many turns of the loop.
_MOST_TURNS = 4
#: Every so many units the upkeep goes with them.
_UPKEEP_UNITS = 200
#: Seconds before a batch in doubt is cut off again when nothing else comes meanwhile.
_CUT_AGAIN = 1.0


class GroupCommit:
    """Executes and commits units on the one connection that writes."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        handlers: Mapping[type[Any], Handler],
        commit: Callable[[], None],
        committer: Committer,
        checkpoints: Checkpoints,
        gathered: Gathered,
        upkeep: Callable[[], Sequence[object]] = tuple,
    ) -> None:
        """``handlers``: what executes each type of operation, or gathers what is to be executed. ``upkeep``: what is to
        be done at the start and now and then; a failure of it is no loss.
        """
        self._connection = connection
        self._statement = connection.cursor().execute
        self._handlers = {kind: self._weighed(kind, handler) for kind, handler in handlers.items()}
        self._gathered = gathered
        self._commit = commit
        self._committer = committer
        self._seconds = committer.seconds
        self._checkpoints, self._rows = checkpoints, connection.total_changes
        self._upkeep, self._until_upkeep = upkeep, 0
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Unit] = []
        self._in_doubt: list[Unit] = []
        self._beside: list[Callable[[], object]] = []
        self._cut_timer: asyncio.TimerHandle | None = None
        #: Nothing waits and nothing is under way: whoever comes next begins a transaction.
        self._idle = True
        #: How many units there were a turn ago, and for how many turns they have waited.
        self._came = self._turns = 0
        self._closing = False
        self._commit_seconds = 0.0
        #: Of the transaction under way: pages beyond one for each row, and whether the disk has much to write.
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
        if self._idle:
            self._idle = False
            self._loop.call_soon(self._gather)

    def meanwhile(self, work: Callable[[], object]) -> None:
        """Have it called as soon as the next commit is under way; in the next turn where none is to come."""
        if self._idle:
            self._loop.call_soon(work)
        else:
            self._beside.append(work)

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

    def _next(self) -> None:
        """Nothing is under way any more."""
        if self._waiting:
            self._loop.call_soon(self._gather)
        else:
            self._idle = True
            self._do_beside()

    def _gather(self) -> None:
        # Not executed at once: whatever this turn of the loop submits joins the batch, and what the sockets hold by the
        # next; answers leave first.
        there = len(self._waiting)
        if there == self._came or there >= _ENOUGH_UNITS or self._turns == _MOST_TURNS:
            self._came = self._turns = 0
            self._flush()
        else:
            self._came = there
            self._turns += 1
            self._loop.call_soon(self._gather)

    def _flush(self) -> None:
        if self._in_doubt:
            self._begin_cut()
            return
        batch, self._waiting = self._waiting, []
        if len(batch) > _MAX_UNITS:
            batch, self._waiting = batch[:_MAX_UNITS], batch[_MAX_UNITS:]
        self._until_upkeep -= len(batch)
        if self._until_upkeep < 0:
            self._until_upkeep = _UPKEEP_UNITS
            batch.append((self._upkeep(), _nobody))
        self._more_pages, self._heavy = 0, False
        executed = self._execute(batch)
        if not executed:
            self._next()
        elif len(executed) > _INLINE_UNITS or self.crowded or self._commit_seconds > _INLINE_SECONDS or self._heavy:
            self._committer.run(partial(self._try_commit, executed), partial(self._committed, executed))
            self._do_beside()
        else:
            self._do_beside()
            self._committed(executed, self._try_commit(executed))

    def _do_beside(self) -> None:
        if self._beside:
            beside, self._beside = self._beside, []
            for work in beside:
                tell(work)

    def _execute(self, batch: list[Unit]) -> list[Unit]:
        """Execute a batch; gives the units whose commit is still to come, the others have failed."""
        handlers = self._handlers
        try:
            self._begin()
            for operations, _ in batch:
                for operation in operations:
                    handlers[type(operation)](operation)
            self._gathered.write()
        except Exception as error:  # noqa: BLE001  # whatever a unit does wrong, the others must not suffer from it
            self._roll_back()
            if not is_outside(error):
                return self._execute_apart(batch)
            self._refused(error)
            _fail(batch, error)
            return []
        return batch

    def _execute_apart(self, batch: list[Unit]) -> list[Unit]:
        """Execute a batch in which some unit is wrong: each in a savepoint of its own."""
        executed: list[Unit] = []
        told: list[Unit] = []
        execute = self._statement
        try:
            self._begin()
            for unit in batch:
                execute("SAVEPOINT unit")
                operation: object = None
                try:
                    for operation in unit[0]:
                        self._handlers[type(operation)](operation)
                        self._gathered.write()  # what is wrong is told of the operation that it lies in
                    executed.append(unit)
                except Exception as error:  # whatever a unit does wrong: it fails alone
                    if is_outside(error):
                        raise
                    self._gathered.forget()
                    execute("ROLLBACK TO unit")
                    told.append(unit)
                    _fail([unit], DoesNotFit(reason_of(error)), type(operation).__name__)
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
            self._more_pages += getattr(operation, "pages", 0)
            self._heavy = self._heavy or getattr(operation, "heavy", False)

        return weighed

    def _begin(self) -> None:
        if self._connection.in_transaction:  # an earlier roll-back failed
            self._statement("ROLLBACK")
        self._statement("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        self._gathered.forget()
        try:
            if self._connection.in_transaction:
                self._statement("ROLLBACK")
        except sqlite3.Error:
            pass  # tried again before the next transaction; the units are told what came first

    # -- the commit, in the loop or beside it ----------------------------------------------------------------------

    def _try_commit(self, batch: list[Unit]) -> Exception | None:
        began = self._seconds()
        try:
            self._commit()
        except Exception as error:  # noqa: BLE001  # the units must be told, whatever it is
            self._roll_back()
            if may_be_kept(error) and not self._cut():
                return InDoubt(f"whether it was committed is not known: {reason_of(error)}")
            return error
        self.commits += 1
        self._commit_seconds += (self._seconds() - began - self._commit_seconds) / 16
        return None

    def _cut(self) -> bool:
        """Commit over the place in the log where a commit failed; whether the disk took it."""
        try:
            self._begin()
            self._statement(queries.CUT_LOG)
            self._commit()
        except Exception:  # noqa: BLE001  # the disk is still broken, however it says so
            self._roll_back()
            return False
        return True

    def _committed(self, batch: list[Unit], error: Exception | None) -> None:
        rows, self._rows = self._rows, self._connection.total_changes
        pages = self._rows - rows + self._more_pages
        if error is None and self._checkpoints.committed(pages, self._heavy):
            # Moving the log takes as long as some commits do: whoever waits for this one is told meanwhile.
            self._committer.run(self._move, self._moved)
            self._end(batch, None)
        else:
            self._end(batch, error)
            self._next()

    def _move(self) -> None:
        began = self._seconds()
        self._checkpoints.move()
        # A part of what commits cost: where it takes long, batches are better than commits one by one in the loop.
        self._commit_seconds += (self._seconds() - began) / 16

    def _moved(self, _nothing: None) -> None:
        self._next()

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

    # -- a disk that refuses ---------------------------------------------------------------------------------------

    def _refused(self, error: Exception) -> None:
        """Say so once, and look every so often whether it takes something again, also when nobody writes."""
        reason = reason_of(error).rpartition(": ")[2]
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
        self._cut_timer = None
        if not self._idle:
            self._look_again()
        elif self.trouble:  # else a unit that came meanwhile was taken
            self._idle = False
            self._begin_cut()

    def _begin_cut(self) -> None:
        if self._cut_timer is not None:
            self._cut_timer.cancel()
            self._cut_timer = None
        self._committer.run(self._cut, self._cut_ended)

    def _cut_ended(self, certain: bool) -> None:
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
        self._next()


def _nobody(_error: StoreError | None) -> None:
    """Whoever waits for a unit that nobody asked for."""


def _fail(batch: list[Unit], error: Exception, operation: str = "") -> None:
    text = ": ".join(part for part in ("not committed", operation, reason_of(error)) if part)
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
