"""The embedded store: one SQLite database in the data folder (contract: ``base.py``).

Writes go through ``group_commit.py`` (when) and ``writer.py`` (what) on the one connection that writes; reads are the
named queries of ``queries.py`` on a read-only connection, so they see committed data only. The files themselves are
``database.py``'s, what is sealed or hashed ``crypto.py``'s.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from engine.delivery import DeliveryState, MessageState
from engine.errors import StoreError
from engine.store import chain, database, queries
from engine.store.audit import AuditRow, FindAudit
from engine.store.base import DeliveryRow, Find, KeyRow, MessageRow, Operation, Recovered, Store
from engine.store.crypto import Crypto
from engine.store.group_commit import GroupCommit
from engine.store.machine import MACHINE, Machine
from engine.store.rows import Row, audit_row, delivery_row, message_row
from engine.store.writer import HASHED, PurgeExpired, ReserveIds, Writer, key_hash, member_hash, text

#: Ids are given out from memory; so many are reserved on disk at a time, and skipped after a crash.
_IDS_RESERVED = 10_000
#: Expired cache entries and keys are removed, this many at most of each, every so many units.
_PURGE_ROWS = 100
_PURGE_UNITS = 200


@dataclass(frozen=True, slots=True)
class _Opened:
    """What there is between open and close."""

    reader: sqlite3.Connection
    group: GroupCommit
    #: Releases the connections, then the folder.
    files: ExitStack


class SqliteStore(Store):
    """A store in ``folder``; ``key`` (32 bytes) seals caches, sealed bodies and answers under keys."""

    def __init__(
        self, folder: Path, key: bytes, *, now: Callable[[], float] = time.time, machine: Machine = MACHINE
    ) -> None:
        self.folder = folder
        self._machine = machine
        self._crypto = Crypto(key)
        self._now = now
        self._state: _Opened | None = None
        self._closing = False
        self._last_id = 0
        self._reserve_at = 0
        self._until_purge = _PURGE_UNITS

    async def open(self) -> Recovered:
        """Raises DataFolderInUse, or StoreError when the folder cannot be used or was written with another key."""
        if self._state is not None:
            raise StoreError("the store is already open")
        try:
            with ExitStack() as files:
                lock = self._machine.lock(self.folder)
                files.callback(lock.release)
                self._machine.write_anew(self.folder / database.LOG_FILE)
                writer = database.connect_writer(self.folder, self._machine.connect)
                files.callback(writer.close)  # empties the WAL into the database
                database.check_key(writer, self._crypto.hashed("key check"))
                interrupted = self._recover(writer)
                reader = database.connect_reader(self.folder, self._machine.connect)
                files.callback(reader.close)
                committer = self._machine.committer()
                group = GroupCommit(writer, Writer(writer, self._crypto).apply, lambda: self._commit(writer), committer)
                self._state = _Opened(reader, group, files.pop_all())
        except (OSError, sqlite3.Error) as error:
            reason = (
                getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None) or type(error).__name__
            )
            raise StoreError(f"the data folder {self.folder} cannot be used: {reason}") from error
        self._closing = False
        self._purge()
        counts = self.open_counts()
        return Recovered(
            received=sum(count for (_, _, state), count in counts.items() if state == MessageState.RECEIVED),
            queued=sum(count for (_, _, state), count in counts.items() if state == DeliveryState.QUEUED),
            interrupted=interrupted,
        )

    async def close(self) -> None:
        """Of a store that is not open: nothing."""
        if self._state is None or self._closing:
            return
        self._closing = True
        try:
            await self._state.group.close(ReserveIds(self._last_id))
        except StoreError:
            pass  # the disk is full or broken: more ids than needed stay reserved; failed units have been told
        finally:
            self._state.files.close()
            self._state = None

    @property
    def commits(self) -> int:
        """Commits made since the store was opened."""
        return self._opened.group.commits

    def new_id(self) -> int:
        self._last_id += 1
        if self._last_id > self._reserve_at:
            self._reserve_ids()
        return self._last_id

    def submit(self, *operations: Operation) -> asyncio.Future[None]:
        if self._state is None or self._closing:
            refused = asyncio.get_running_loop().create_future()
            refused.set_exception(StoreError("not committed: the store is not open"))
            return refused
        self._until_purge -= 1
        if self._until_purge <= 0:
            self._purge()
        return self._state.group.submit(operations)

    # -- messages and deliveries -----------------------------------------------------------------------------------

    def unrouted(self, channel: str, after_id: int, limit: int) -> Sequence[MessageRow]:
        return self._messages(queries.UNROUTED, channel, after_id, limit)

    def queued(self, channel: str, destination: str, after_id: int, limit: int) -> Sequence[DeliveryRow]:
        lanes = (channel, destination, after_id)
        return self._deliveries(queries.QUEUED, *lanes, *lanes, limit)

    def open_of(self, channel: str, destination: str, state: str, after_id: int, limit: int) -> Sequence[DeliveryRow]:
        return self._deliveries(queries.OPEN_OF, channel, destination, str(state), after_id, limit)

    def destinations_with_work(self) -> Sequence[tuple[str, str, int]]:
        return [
            (channel, destination, count) for channel, destination, count in self._rows(queries.DESTINATIONS_WITH_WORK)
        ]

    def message(self, message_id: int) -> MessageRow | None:
        return next(iter(self._messages(queries.MESSAGE, message_id)), None)

    def message_body(self, message_id: int) -> bytes:
        """Raises KeyError for a message that does not exist."""
        (body,) = self._row(queries.MESSAGE_BODY, message_id)
        return body or b""

    def delivery(self, delivery_id: int) -> DeliveryRow | None:
        return next(iter(self._deliveries(queries.DELIVERY, delivery_id)), None)

    def delivery_body(self, delivery_id: int) -> bytes:
        """Raises KeyError for a delivery that does not exist, StoreError when it does not open."""
        body, sealed = self._row(queries.DELIVERY_BODY, delivery_id)
        return self._crypto.open(body, "delivery_body", str(delivery_id)) if sealed else body or b""

    def delivery_answer(self, delivery_id: int) -> bytes:
        """Raises KeyError for a delivery that does not exist."""
        (answer,) = self._row(queries.DELIVERY_ANSWER, delivery_id)
        return answer or b""

    def deliveries_of(self, message_id: int) -> Sequence[DeliveryRow]:
        return self._deliveries(queries.DELIVERIES_OF, message_id)

    def trace(self, correlation_id: str) -> tuple[Sequence[MessageRow], Sequence[DeliveryRow]]:
        return (
            self._messages(queries.TRACE_MESSAGES, correlation_id),
            self._deliveries(queries.TRACE_DELIVERIES, correlation_id),
        )

    def open_counts(self) -> Mapping[tuple[str, str, str], int]:
        return queries.open_counts(self._rows)

    # -- search ----------------------------------------------------------------------------------------------------

    def find(self, find: Find) -> Sequence[MessageRow]:
        """``since`` and ``until`` are both included."""
        start = self._first_id(find.since) if find.since is not None else 0
        end = find.before_id if find.before_id is not None else 2**63 - 1
        times = (-math.inf if find.since is None else find.since, math.inf if find.until is None else find.until)
        states = (find.channel, find.channel, find.state, find.state, find.delivery_state, find.delivery_state)
        rest = (start, end, *times, *states, find.limit)
        if find.correlation_id is not None:
            return self._messages(queries.FIND_BY_CORRELATION_ID, find.correlation_id, *rest)
        if find.control_id is not None:
            control_id = text(find.control_id)
            return self._messages(queries.FIND_BY_CONTROL_ID, control_id, control_id, *rest)
        if find.delivery_state not in (None, "delivered"):
            return self._messages(queries.FIND_BY_DELIVERY_STATE, find.delivery_state, start, end, *rest)
        if find.channel is None and find.state is None:
            return self._messages(queries.FIND_NEWEST, *rest)
        # Each channel and state is in order by itself: the newest of all are among the newest of each.
        channels = [find.channel] if find.channel is not None else [name for (name,) in self._rows(queries.CHANNELS)]
        every = [
            row
            for channel in channels
            for state in ([find.state] if find.state is not None else MessageState)
            for row in self._messages(queries.FIND_BY_STATE, channel, str(state), *rest)
        ]
        return sorted(every, key=lambda row: row.message_id, reverse=True)[: find.limit]

    def _first_id(self, since: float) -> int:
        """The first message received at ``since`` or later: ids rise with time, so the primary key can be halved."""
        ((first, last),) = self._rows(queries.MESSAGE_IDS)
        low, high = (0, 0) if first is None else (first, last + 1)
        while low < high:
            middle = (low + high) // 2
            message_id, received_at = self._row(queries.RECEIVED_FROM, middle)
            if received_at >= since:
                high = middle
            else:
                low = message_id + 1
        return low

    # -- caches and idempotency keys -------------------------------------------------------------------------------

    def cache_get(self, cache: str, key: str, now: float) -> bytes | None:
        """Raises StoreError when the value does not open."""
        rows = self._rows(queries.CACHE, cache, text(key), now)
        return self._crypto.open(rows[0][0], "cache", cache, key) if rows else None

    def find_key(self, scope: str, key: str, now: float) -> KeyRow | None:
        hashed = key_hash(self._crypto, scope, key)
        rows = self._rows(queries.EXCHANGE_KEY, scope, hashed, now)
        return self._key_row(rows[0], key) if rows else None

    def find_keys(self, channel: str, member: str, value: str, now: float) -> Sequence[KeyRow]:
        hashed = member_hash(self._crypto, channel, member, value)
        return [self._key_row(row, HASHED + row[1].hex()) for row in self._rows(queries.EXCHANGE_KEYS, hashed, now)]

    def _key_row(self, row: Row, key: str) -> KeyRow:
        scope, hashed, body_hash, channel, message_id, delivery_id, expires_at, status, code, sealed = row
        answer = self._crypto.open(sealed, "exchange_key", scope, hashed.hex()) if sealed else b""
        return KeyRow(scope, key, body_hash, channel, message_id, delivery_id, expires_at, status, code, answer)

    # -- the audit trail -------------------------------------------------------------------------------------------

    def audit_rows(self, find: FindAudit) -> Sequence[AuditRow]:
        """``since`` and ``until`` are both included."""
        since = -(2**62) if find.since is None else math.ceil(find.since * 1000)
        until = 2**62 if find.until is None else math.floor(find.until * 1000)
        before = 2**63 - 1 if find.before_id is None else find.before_id
        wanted = (find.act, find.who, find.channel, find.message_id)
        rest = (*(value for value in wanted for _ in range(2)), since, until, before, find.limit)
        by = (
            (queries.FIND_AUDIT_BY_MESSAGE, find.message_id),
            (queries.FIND_AUDIT_BY_CHANNEL, find.channel),
            (queries.FIND_AUDIT_BY_ACT, find.act),
            (queries.FIND_AUDIT_BY_WHO, find.who),
        )
        for query, value in by:
            if value is not None:
                return [audit_row(row) for row in self._rows(query, value, *rest)]
        return [audit_row(row) for row in self._rows(queries.FIND_AUDIT, *rest)]

    def audit_head(self) -> str:
        head = chain.Head(*self._rows(queries.AUDIT_HEAD)[0])
        return f"{head.last_id}:{head.last_hash.hex()}"

    async def verify_audit(self, expected: str = "") -> chain.Verified:
        return await asyncio.to_thread(self._verify_audit, expected)

    def _verify_audit(self, expected: str) -> chain.Verified:
        with closing(database.connect_reader(self.folder, self._machine.connect)) as reader:
            return chain.verify(reader, self._crypto, expected)

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> _Opened:
        if self._state is None:
            raise StoreError("the store is not open")
        return self._state

    def _rows(self, query: str, *parameters: object) -> list[Row]:
        reader = self._opened.reader
        try:
            return reader.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read: {getattr(error, 'sqlite_errorname', type(error).__name__)}") from None

    def _row(self, query: str, row_id: int) -> Row:
        rows = self._rows(query, row_id)
        if not rows:
            raise KeyError(row_id)
        return rows[0]

    def _messages(self, query: str, *parameters: object) -> list[MessageRow]:
        return [message_row(row) for row in self._rows(query, *parameters)]

    def _deliveries(self, query: str, *parameters: object) -> list[DeliveryRow]:
        return [delivery_row(row) for row in self._rows(query, *parameters)]

    def _recover(self, writer: sqlite3.Connection) -> dict[str, int]:
        """Put what a crash interrupted where it belongs; continue the ids above every one that was given out."""
        writer.execute("BEGIN IMMEDIATE")
        interrupted = dict(writer.execute(queries.INTERRUPTED).fetchall())
        writer.execute(queries.RECOVER_INTERRUPTED, (self._now(),))
        (self._last_id,) = writer.execute(queries.LAST_ID).fetchone()
        self._reserve_at = self._last_id + _IDS_RESERVED // 2
        writer.execute(queries.RESERVE_IDS, (self._last_id + _IDS_RESERVED,))
        writer.execute("COMMIT")
        return interrupted

    def _commit(self, writer: sqlite3.Connection) -> None:
        """All of the transaction is on disk when this returns. Called in the loop or beside it."""
        writer.execute("COMMIT")

    def _reserve_ids(self) -> None:
        future = self._opened.group.submit([ReserveIds(self._last_id + _IDS_RESERVED)])
        future.add_done_callback(asyncio.Future.exception)  # failing is no loss: see the next line
        self._reserve_at = self._last_id + _IDS_RESERVED // 2  # half of the reserve is left when more is asked for

    def _purge(self) -> None:
        self._until_purge = _PURGE_UNITS
        future = self._opened.group.submit([PurgeExpired(self._now(), _PURGE_ROWS)])
        future.add_done_callback(asyncio.Future.exception)  # failing is no loss: it is tried again some units later
