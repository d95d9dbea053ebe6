"""One transaction on the engine's own connection that writes: units are executed in it, committed or rolled back.

A unit that cannot be executed fails alone; a disk that fails, fails the batch. Who is told, and when, is
``group_commit.py``'s; what a unit means ``writer.py``'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import DoesNotFit, StoreError
from engine.store import queries
from engine.store.faults import is_outside, reason_of
from engine.store.writer import Writer
from engine.values import dataclass

Handler = Callable[[Any], None]
#: Called once when the unit has been committed, or with the reason why nothing of it was kept.
Told = Callable[[StoreError | None], object]
Unit = tuple[Sequence[object], Told]


@dataclass(slots=True)
class Executed:
    """What became of a batch."""

    #: Those whose commit is still to come.
    units: Sequence[Unit]
    #: Those that do not fit, why, and the name of the operation.
    misfits: Sequence[tuple[Unit, StoreError, str]] = ()
    #: Why the others failed, nothing of which is kept: the disk, the file, the memory.
    refused: Exception | None = None


class Transaction:
    """The one that is under way, or the next."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        writer: Writer,
        commit: Callable[[], None],
    ) -> None:
        self._connection, self._writer, self._gathered = connection, writer, writer.gathered
        self._statement = connection.cursor().execute
        self._handlers = {kind: self._weighed(kind, handler) for kind, handler in writer.handlers.items()}
        #: Commits what was executed. Raises sqlite3.Error.
        self.commit = commit
        #: Of the one under way: pages beyond one for each row, and whether the disk has much to write.
        self.more_pages, self.heavy = 0, False
        #: What the writer knows of the disk may not be so: somebody else has committed, or it was rolled back.
        self.behind = False

    def execute(self, batch: Sequence[Unit]) -> Executed:
        """Begin, and execute a batch."""
        self.more_pages, self.heavy = 0, False
        handlers = self._handlers
        try:
            self._begin()
            for operations, _ in batch:
                for operation in operations:
                    handlers[type(operation)](operation)
            self._gathered.write()
        except Exception as error:  # noqa: BLE001  # whatever a unit does wrong, the others must not suffer from it
            self.roll_back()
            return Executed((), refused=error) if is_outside(error) else self._execute_apart(batch)
        return Executed(batch)

    def _execute_apart(self, batch: Sequence[Unit]) -> Executed:
        """Execute a batch in which some unit is wrong: each in a savepoint of its own."""
        executed: list[Unit] = []
        misfits: list[tuple[Unit, StoreError, str]] = []
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
                    self._writer.begin_anew()
                    misfits.append((unit, DoesNotFit(reason_of(error)), type(operation).__name__))
                execute("RELEASE unit")
        except Exception as error:  # noqa: BLE001  # disk full, I/O: nothing of the batch is kept
            self.roll_back()
            return Executed((), misfits, error)
        if not executed:
            self.roll_back()
        return Executed(executed, misfits)

    def cut(self) -> bool:
        """Commit over the place in the log where a commit failed; whether the disk took it."""
        try:
            self._begin()
            self._statement(queries.CUT_LOG)
            self.commit()
        except Exception:  # noqa: BLE001  # the disk is still broken, however it says so
            self.roll_back()
            return False
        return True

    def rows(self) -> int:
        """Rows changed since the connection was opened."""
        return self._connection.total_changes

    def roll_back(self) -> None:
        """Keep nothing of it."""
        self._gathered.forget()
        self.behind = True  # of what it had done, too
        try:
            if self._connection.in_transaction:
                self._statement("ROLLBACK")
        except sqlite3.Error:
            pass  # tried again before the next transaction; the units are told what came first

    def _begin(self) -> None:
        if self._connection.in_transaction:  # an earlier roll-back failed
            self._statement("ROLLBACK")
        self._statement("BEGIN IMMEDIATE")
        if self.behind:
            self._writer.begin_anew()
            self.behind = False

    def _weighed(self, kind: type[Any], handler: Handler) -> Handler:
        """A handler that notes how much the disk has to write, for operations that say so of themselves."""
        if not hasattr(kind, "pages") and not hasattr(kind, "heavy"):
            return handler

        def weighed(operation: Any) -> None:
            handler(operation)
            self.more_pages += getattr(operation, "pages", 0)
            self.heavy = self.heavy or getattr(operation, "heavy", False)

        return weighed
