"""Whether a store is whole: SQLite's structures, rows that belong to nothing, states, the audit trail, sealed values.

Rows are looked at in lots, each a statement of its own, so that a running engine goes on and its log can be moved into
the database in between. Only the check of SQLite's structures needs one moment of a whole table: beside a running
engine it is given up for a table when the log has grown too long meanwhile.
"""
# ruff: noqa: S608  # put together from this file's own words only

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.delivery import DeliveryState, MessageState
from engine.errors import StoreError
from engine.store import chain
from engine.store.crypto import Crypto
from engine.store.reseal import SEALED, Sealed

#: Rows of one statement, and sealed values that are opened at a time (each half a megabyte at most, or a body of one).
_LOT, _VALUES = 2000, 64
#: Seconds that a running engine gets between two lots.
_PAUSE = 0.001
#: Bytes by which the log of a running engine may grow while one table is checked.
LOG_MOST = 64 << 20
#: Instructions of SQLite between two looks at the log.
_LOOK = 100_000
#: Every column that may hold a sealed value.
COLUMNS = (*SEALED, Sealed("message", "id", "origin"), Sealed("delivery", "id", "answer"))


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found."""

    faults: tuple[str, ...]
    #: Tables whose structure was not checked to the end.
    left_out: tuple[str, ...] = ()


class Log:
    """How much a write-ahead log has grown since this was made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = self._size()

    @property
    def grown(self) -> int:
        """Bytes on the disk; 0 while what is written fits into what the log has."""
        return max(0, self._size() - self._begun)

    def too_long(self, most: int) -> bool:
        """Whether it has grown by more."""
        return self.grown > most

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


def check(reader: sqlite3.Connection, crypto: Crypto | None) -> list[str]:
    """What is wrong with a store that nobody writes to; without ``crypto`` nothing is opened."""
    faults = [f"SQLite: {line}" for (line,) in reader.execute("PRAGMA integrity_check(20)") if line != "ok"]
    return faults or list(_content(reader, crypto, lambda seconds: None))


def check_running(
    reader: sqlite3.Connection, crypto: Crypto, log: Path, pause: Callable[[float], None], log_most: int = LOG_MOST
) -> Found:
    """What is wrong with a store whose engine runs. Made for a thread and a connection of its own."""
    faults: list[str] = []
    left_out: list[str] = []
    tables = reader.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    for (table,) in tables:
        reader.set_progress_handler(partial(Log(log).too_long, log_most), _LOOK)
        try:
            found = reader.execute(f"PRAGMA integrity_check({table})").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            left_out.append(table)
        else:
            faults += [f"SQLite: {line}" for (line,) in found if line != "ok"]
        finally:
            reader.set_progress_handler(None, 0)
        pause(_PAUSE)
    return Found(tuple(faults or _content(reader, crypto, pause)), tuple(left_out))


def _content(reader: sqlite3.Connection, crypto: Crypto | None, pause: Callable[[float], None]) -> Iterator[str]:
    yield from _rows(reader, pause)
    if fault := chain.verify(reader, crypto, pause=pause).fault:
        yield f"audit trail: {fault}"
    if crypto is not None:
        yield from _sealed(reader, crypto, pause)


def _rows(reader: sqlite3.Connection, pause: Callable[[float], None]) -> Iterator[str]:
    """Rows that belong to nothing, and states that there are not."""
    messages, deliveries = ", ".join(f"'{s}'" for s in MessageState), ", ".join(f"'{s}'" for s in DeliveryState)
    without = "NOT EXISTS (SELECT 1 FROM {} o WHERE o.id = r.{})".format
    checks = (
        ("messages in no state", "message", "id", f"state NOT IN ({messages})"),
        ("deliveries in no state", "delivery", "id", f"state NOT IN ({deliveries})"),
        ("deliveries without a message", "delivery", "id", without("message", "message_id")),
        ("bodies without a message", "message_body", "message_id", without("message", "message_id")),
        ("bodies without a delivery", "delivery_body", "delivery_id", without("delivery", "delivery_id")),
        ("answers without a delivery", "delivery_answer", "delivery_id", without("delivery", "delivery_id")),
    )
    for what, table, row_id, wrong in checks:
        query = (
            f"SELECT max(id), sum(wrong) FROM (SELECT r.{row_id} AS id, {wrong} AS wrong FROM {table} r"
            f" WHERE r.{row_id} > ? ORDER BY r.{row_id} LIMIT {_LOT})"
        )
        after, number = -1, 0
        while (found := reader.execute(query, (after,)).fetchall()[0])[0] is not None:
            after, number = found[0], number + found[1]
            pause(_PAUSE)
        if number:
            yield f"{number} {what}"


def _sealed(reader: sqlite3.Connection, crypto: Crypto, pause: Callable[[float], None]) -> Iterator[str]:
    for column in COLUMNS:
        names = {name for _, name, *_ in reader.execute(f"PRAGMA table_info({column.table})")}
        if not {"sealed", column.column} <= names:
            continue  # an older engine wrote this, and it was not started on since: a backup
        key, wrong, after = column.row_id, 0, -1
        query = f"SELECT {key}, {column.selected} FROM {column.table} WHERE {key} > ? ORDER BY {key} LIMIT {_VALUES}"
        while rows := reader.execute(query, (after,)).fetchall():
            for row_id, number, value, *words in rows:
                try:
                    if number and value:
                        crypto.open(number, value, column.place(row_id, words))
                except StoreError:
                    wrong += 1
            after = rows[-1][0]
            pause(_PAUSE)
        if wrong:
            yield f"{wrong} sealed values of {column.table} do not open"
