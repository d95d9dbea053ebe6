"""Many units, one fsync.

Units wait in a list while each turn of the event loop brings further ones, for two turns at least and a few at most, or
until there are enough for the process that writes. Then all are one transaction, executed in one of three ways:
- few, on a quick disk: in the loop, COMMIT and all, since handing over would cost more than it gives;
- many: by a process of its own where there is one (``process/``), and the loop has that time for the rest;
- without one, or where it cannot: in the loop, and the COMMIT (the fsync) in a thread.
Promises are kept after it, in order of the calls. What becomes of units that fail is ``transaction.py``'s.

A COMMIT whose fsync failed is neither kept nor lost: its frames are in the log, and after a crash some of them, or all,
may be found there, with valid checksums. Such a batch is in doubt. It is told nothing until another transaction has
been committed over its place in the log (the cut), which no retried fsync can pretend: the bytes are written anew.
Only then is it certain that nothing of it was kept. While the disk refuses the cut as well, units that come later fail
at once (nothing of them was written) and the batch waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from engine.errors import StoreError
from engine.promise import Promise, report
from engine.promise import told as tell
from engine.store.checkpoint import Checkpoints
from engine.store.faults import InDoubt, may_be_kept, reason_of
from engine.store.machine import Committer
from engine.store.numbers import Numbers
from engine.store.process.under_way import UnderWay
from engine.store.process.wire import IN_DOUBT
from engine.store.process.writing import WritingProcess
from engine.store.telling import fail, nobody
from engine.store.transaction import Told, Transaction, Unit

log = structlog.get_logger("engine.store")

#: Up to so many units are committed in the loop …
_INLINE_UNITS = 4
#: … fewer where the process that writes has answered within so many seconds: it has the pages in its memory …
_INLINE_UNITS_APART, _APART_SECONDS = 1, 0.005
#: … while a commit takes less than this (seconds, running mean): a slow disk must not hold up the sockets.
_INLINE_SECONDS = 0.002
#: Units per transaction: how long the loop may be kept executing statements (a few milliseconds).
_MAX_UNITS = 256
#: Of those that have come together so many go to the process that writes, or a half of them if that is more: whoever
#: waits for the first half is told while the second is written.
_HALF_UNITS = 24
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
        transaction: Transaction,
        committer: Committer,
        checkpoints: Checkpoints,
        upkeep: Callable[[], Sequence[object]] = tuple,
        process: WritingProcess | None = None,
    ) -> None:
        """``upkeep``: what is to be done at the start and now and then; a failure of it is no loss."""
        self._transaction, self._process = transaction, process
        self._committer = committer
        self._seconds = committer.seconds
        self._checkpoints, self._rows = checkpoints, transaction.rows()
        self._upkeep, self._until_upkeep = upkeep, 0
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Unit] = []
        self._in_doubt: list[Unit] = []
        self._beside: list[Callable[[], object]] = []
        #: Whether those of a commit are being told, and what is to be done behind that.
        self._telling = False
        self._after: list[Callable[[], object]] = []
        self._cut_timer: asyncio.TimerHandle | None = None
        #: Nothing waits and nothing is under way: whoever comes next begins a transaction.
        self._idle = True
        #: Nothing is under way, and what waits is about to be.
        self._gathering = False
        #: What the process has and has not answered.
        self._apart: UnderWay | None = None
        if process is not None:
            self._apart = UnderWay(process, checkpoints, self._written, self._undone, self._moved_apart)
        #: Until when the process that writes is one that has just written.
        self._apart_until = 0.0
        #: How many units there were a turn ago, and for how many turns they have waited.
        self._came = self._turns = 0
        self._closing = False
        self._commit_seconds = 0.0
        #: Why the disk took nothing the last time; empty while it does.
        self.trouble = ""
        #: Of commits made since the start.
        self.numbers = Numbers()
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
            self._begin_to_gather()
        elif (
            (apart := self._apart) is not None
            and len(self._waiting) >= apart.enough
            and (self._gathering or apart)
            and self._go_on(apart)
        ):
            self._gathering = False
            self._loop.call_soon(self._do_beside)

    def meanwhile(self, work: Callable[[], object]) -> None:
        """Have it called as soon as the next commit is under way; in the next turn where none is to come."""
        if self._idle:
            self._loop.call_soon(work)
        else:
            self._beside.append(work)

    def afterwards(self, work: Callable[[], object]) -> None:
        """Have it called when all of the commit are told that are being told; in the next turn where none are."""
        if self._telling:
            self._after.append(work)
        else:
            self._loop.call_soon(work)

    async def close(self, *last: object) -> None:
        """Commit what waits, then one last unit; nothing may be submitted any more."""
        self._closing = True
        if self._process is not None:
            self._process.retire()
        promise = self.submit(last)
        try:
            await promise
        finally:
            if self._cut_timer is not None:
                self._cut_timer.cancel()
            await self._committer.close()
            if self._process is not None:
                await self._process.close()
            fail(self._in_doubt, InDoubt("whether it was committed is not known"))

    async def without_process(self, change: Callable[[], object]) -> None:
        """Do ``change`` while no process writes; the next one begins with what is so then."""
        if self._process is None:
            change()
        else:
            await self._process.without(change)

    def _next(self) -> None:
        """Nothing is under way any more."""
        if self._waiting:
            self._begin_to_gather()
        else:
            self._idle = True
            self._do_beside()

    def _begin_to_gather(self) -> None:
        self._gathering, self._came, self._turns = True, 0, 0
        self._loop.call_soon(self._gather)

    def _gather(self) -> None:
        if not self._gathering:
            return  # the process has them
        # Not executed at once: whatever this turn of the loop submits joins the batch, and what the sockets hold by the
        # next; answers leave first.
        there = len(self._waiting)
        if there == self._came or there >= _ENOUGH_UNITS or self._turns == _MOST_TURNS:
            self._gathering = False
            self._flush()
        else:
            self._came = there
            self._turns += 1
            self._loop.call_soon(self._gather)

    def _flush(self) -> None:
        if self._in_doubt:
            self._begin_cut()
            return
        if self._apart is not None and self._go_on(self._apart):
            self._do_beside()
        else:
            batch = self._take()
            self._execute(batch, inline=self._are_few(batch))

    def _take(self, most: int = _MAX_UNITS) -> list[Unit]:
        """The next batch."""
        batch, self._waiting = self._waiting, []
        if len(batch) > (most := min(most, _MAX_UNITS)):
            batch, self._waiting = batch[:most], batch[most:]
        self._until_upkeep -= len(batch)
        if self._until_upkeep < 0:
            self._until_upkeep = _UPKEEP_UNITS
            batch.append((self._upkeep(), nobody))
        return batch

    def _are_few(self, batch: Sequence[Unit]) -> bool:
        most = _INLINE_UNITS if self._loop.time() > self._apart_until else _INLINE_UNITS_APART
        return len(batch) <= most and not self.crowded and self._commit_seconds <= _INLINE_SECONDS

    def _execute(self, batch: Sequence[Unit], *, inline: bool = False) -> None:
        executed = self._transaction.execute(batch)
        for unit, error, operation in executed.misfits:
            fail([unit], error, operation)
        if executed.refused is not None:
            self._refused(executed.refused)
            misfits = {id(unit) for unit, _, _ in executed.misfits}
            fail([unit for unit in batch if id(unit) not in misfits], executed.refused)
        if not executed.units:
            self._next()
        elif inline and not self._transaction.heavy:
            self._do_beside()
            self._committed(executed.units, self._try_commit())
        else:
            self._committer.run(self._try_commit, partial(self._committed, executed.units))
            self._do_beside()

    def _do_beside(self) -> None:
        if self._beside:
            beside, self._beside = self._beside, []
            for work in beside:
                tell(work)

    # -- the commit, in the loop or beside it ----------------------------------------------------------------------

    def _try_commit(self) -> Exception | None:
        began, transaction = self._seconds(), self._transaction
        try:
            transaction.commit()
        except Exception as error:  # noqa: BLE001  # the units must be told, whatever it is
            transaction.roll_back()
            if may_be_kept(error) and not transaction.cut():
                return InDoubt(f"whether it was committed is not known: {reason_of(error)}")
            return error
        self._took(self._seconds() - began)
        return None

    def _took(self, seconds: float) -> None:
        self.numbers.took.add(seconds)
        self._commit_seconds += (seconds - self._commit_seconds) / 16

    def _committed(self, batch: Sequence[Unit], error: Exception | None) -> None:
        rows, self._rows = self._rows, self._transaction.rows()
        pages, heavy = self._rows - rows + self._transaction.more_pages, self._transaction.heavy
        if error is None and self._checkpoints.committed(pages, heavy):
            # Moving the log takes as long as some commits do: whoever waits for this one is told meanwhile.
            self._committer.run(self._move, lambda _: self._next())
            self._end(batch, None)
        else:
            self._end(batch, error)
            self._next()

    def _move(self) -> None:
        began = self._seconds()
        self._checkpoints.move()
        # A part of what commits cost: where it takes long, batches are better than commits one by one in the loop.
        self._commit_seconds += (self._seconds() - began) / 16

    # -- by the process that writes --------------------------------------------------------------------------------

    def _written(self, batch: Sequence[Unit], seconds: float) -> None:
        """It has committed a batch."""
        self._took(seconds)
        self._answered()
        apart = self._apart
        assert apart is not None  # noqa: S101 - it tells so
        goes_on = (not apart or len(self._waiting) >= apart.enough) and self._go_on(apart)
        self._end(batch, None)
        if goes_on or apart:
            self._do_beside()
        else:
            self._next()

    def _undone(self, batch: Sequence[Unit], known: int | None) -> None:
        """What it has not kept is done here."""
        self._answered()
        if known is None:
            self._doubted(batch)
        elif known == IN_DOUBT:
            self._committer.run(
                self._transaction.cut, lambda certain: self._execute(batch) if certain else self._doubted(batch)
            )
        else:
            self._execute(batch)

    def _answered(self) -> None:
        self._transaction.behind = True
        self._apart_until = self._loop.time() + _APART_SECONDS

    def _doubted(self, batch: Sequence[Unit]) -> None:
        self._end(batch, InDoubt("whether it was committed is not known"))
        self._next()

    def _go_on(self, apart: UnderWay) -> bool:
        """Hand over what waits, where that is much: the process works while the loop goes on with the rest."""
        if not self._waiting or not apart.has_room or self.trouble or self._in_doubt or self._are_few(self._waiting):
            return False
        batch = self._take(_MAX_UNITS if apart else max(_HALF_UNITS, (len(self._waiting) + 1) // 2))
        if not apart.hand_over(batch):
            self._waiting[:0] = batch
            self._until_upkeep += len(batch)  # they come again
            return False
        if len(self._waiting) >= apart.enough:
            self._go_on(apart)
        return True

    def _moved_apart(self) -> None:
        """The log is in the database, as far as it could be."""
        if not self._apart:
            self._next()

    def _end(self, batch: Sequence[Unit], error: Exception | None) -> None:
        if error is None:
            self.numbers.units += len(batch)
            if self.trouble:
                self._accepted()
            self._telling = True
            for _, told in batch:
                try:
                    told(None)
                except Exception as failed:  # noqa: BLE001  # what one listener does wrong must not reach the others
                    report(failed)
            self._telling = False
            after, self._after = self._after, []
            for work in after:
                tell(work)
        elif isinstance(error, InDoubt) and not self._closing:
            self._in_doubt += batch
            log.error("store.in_doubt", units=len(batch))
            self._refused(error)
        else:
            self._refused(error)
            fail(batch, error)

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
        self._committer.run(self._transaction.cut, self._cut_ended)

    def _cut_ended(self, certain: bool) -> None:
        if certain:
            if self.trouble:
                self._accepted()
            if self._in_doubt:
                log.warning("store.certain_again", units=len(self._in_doubt))
            in_doubt, self._in_doubt = self._in_doubt, []
            fail(in_doubt, StoreError("the disk failed"))
        else:
            if self._in_doubt:
                waiting, self._waiting = self._waiting, []
                fail(waiting, StoreError("the disk fails"))
            self._look_again()
        self._next()
