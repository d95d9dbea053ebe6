"""The embedded store: one SQLite database in the data folder (contract: ``base.py``).

Writes go through ``group_commit.py`` (when) and ``writer.py`` (what) on the one connection that writes; reads are the
named queries of ``queries.py`` on a read-only connection, so they see committed data only. The files themselves are
``database.py``'s, what is sealed or hashed ``crypto.py``'s.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from engine.errors import StoreError
from engine.hl7.bulk import LARGE, Pieces
from engine.promise import Promise
from engine.store import backup, chain, database, keeping, known_keys, look, queries
from engine.store.absent import Absent
from engine.store.audit import AuditRow, FindAudit
from engine.store.audit_search import find_audit
from engine.store.base import DeliveryRow, Find, KeyRow, MessageRow, Operation, Recovered, Store, StoreKey
from engine.store.beginning import Begun, begin, recovered
from engine.store.checkpoint import Checkpoints
from engine.store.crypto import Crypto, hash_place
from engine.store.group_commit import GroupCommit
from engine.store.late import IndexMessages
from engine.store.machine import MACHINE, Machine
from engine.store.numbers import Numbers, Waiting
from engine.store.opened import Opened
from engine.store.parts import keep_parts
from engine.store.process.state import OFF, ProcessNow
from engine.store.process.writing import WritingProcess
from engine.store.reader import Reader
from engine.store.reseal import read_progress
from engine.store.retained import Retained
from engine.store.rows import key_row
from engine.store.search import SLACK, Search
from engine.store.stored import cache_hash, key_hash, member_hashes, written_members
from engine.store.transaction import Told, Transaction
from engine.store.upkeep import AddKey, EndRun, NoteClockStep, PurgeExpired, Reseal, ReserveIds
from engine.store.whole import Found, check_running
from engine.store.writer import Writer

T = TypeVar("T")

#: Ids are given out from memory; so many are reserved on disk at a time, and skipped after a crash.
_IDS_RESERVED = 10_000
#: Now and then expired cache entries and keys are removed, this many at most of each, and patients and
#: control ids are sorted into their indexes, where so many messages wait for it.
_PURGE_ROWS, _INDEXED_TOGETHER = 100, 512
#: One unit of sealing again: about a millisecond of the event loop.
_RESEAL_ROWS, _RESEAL_BYTES = 100, 256 * 1024


class SqliteStore(Store):
    """A store in ``folder``. The highest of ``keys`` (32 bytes each; one alone is number 1) seals what is written.

    Without ``encrypt`` bodies, answers and origins are stored as they come; caches, answers under idempotency keys and
    what is marked to be sealed are sealed all the same.
    """

    def __init__(
        self,
        folder: Path,
        keys: Mapping[int, bytes] | bytes,
        *,
        encrypt: bool = True,
        apart: bool = False,
        now: Callable[[], float] = time.time,
        machine: Machine = MACHINE,
    ) -> None:
        """``apart``: while much is to be written, a process of its own does so."""
        self.folder = folder
        self._machine = machine
        self._crypto = Crypto({1: keys} if isinstance(keys, bytes) else keys, encrypt=encrypt)
        self._now, self._apart = now, apart
        self._state: Opened | None = None
        self._reader = Reader(lambda: self._opened.reader, self._crypto)
        self._search, self._retained = Search(self._reader, self._crypto), Retained(self._reader.rows)
        self._closing, self._in_doubt_up_to = False, 0
        #: Places in which much waits; ids.
        self._crowds = self._last_id = self._reserve_at = 0
        #: The latest that the clock has been since it was last set back.
        self._latest = 0.0
        #: Where the clock was set back, until that is on disk.
        self._unnoted: list[NoteClockStep] = []
        #: What becomes of a unit.
        self._add: Callable[[Sequence[object], Told], None] = _refuse

    async def open(self) -> Recovered:
        """Raises DataFolderInUse, or StoreError when the folder cannot be used or was written with another key."""
        if self._state is not None:
            raise StoreError("the store is already open")
        try:
            with ExitStack() as files:
                lock = self._machine.lock(self.folder)
                files.callback(lock.release)
                self._machine.write_anew(self.folder / database.LOG_FILE)
                writer = database.connect_writer(self.folder, self._crypto, self._machine.connect)
                files.callback(writer.close)  # empties the WAL into the database
                begun = self._recover(writer)
                reader = database.connect_reader(self.folder, self._machine.connect)
                files.callback(reader.close)
                committer = self._machine.committer()
                self._absent, known = Absent(Reader(lambda: reader, self._crypto)), known_keys.KnownKeys.of(reader)
                hand = Writer(writer, self._crypto, self._now, self._absent.written, known.opened)
                transaction = Transaction(writer, hand, partial(self._commit, writer.cursor()))
                given = (self.folder, self._crypto, writer, self._absent, known, [lock.descriptor], self._machine)
                process = WritingProcess(*given) if self._apart else None
                group = GroupCommit(transaction, committer, checkpoints := Checkpoints(writer), self._upkeep, process)
                self._state = Opened(reader, group, checkpoints, known, process, files.pop_all())
        except (OSError, sqlite3.Error) as error:
            name = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None) or type(error).__name__
            raise StoreError(f"the data folder {self.folder} cannot be used: {name}") from error
        self._closing, self._add = False, self._add_noting
        return recovered(begun, self.open_counts(), database.durability(writer))

    async def close(self) -> None:
        """Of a store that is not open: nothing."""
        if self._state is None or self._closing:
            return
        self._closing, self._add = True, _refuse
        try:
            await self._state.group.close(EndRun(self._last_id))
        except StoreError:
            pass  # the disk is full or broken: more ids than needed stay reserved; failed units have been told
        finally:
            self._state.files.close()
            self._state = None

    @property
    def trouble(self) -> str:
        return self._state.trouble if self._state is not None else ""

    @property
    def writing_process(self) -> ProcessNow:
        process = self._opened.process
        return OFF if process is None else process.now

    @property
    def in_doubt_up_to(self) -> int:
        return self._in_doubt_up_to

    @property
    def numbers(self) -> Numbers:
        return self._opened.numbers

    def new_id(self) -> int:
        now = self._now()
        if now < self._latest or self._last_id >= self._reserve_at:
            return self.new_ids(1)
        self._latest = now
        given = self._last_id = self._last_id + 1
        return given

    def new_ids(self, count: int) -> int:
        first, self._last_id = self._last_id + 1, self._last_id + count
        if self._last_id > self._reserve_at:  # half of the reserve is left then: failing is no loss
            self._opened.group.submit([ReserveIds(self._last_id + _IDS_RESERVED)])
            self._reserve_at = self._last_id + _IDS_RESERVED // 2
        now = self._now()
        if now >= self._latest:
            self._latest = now
        elif now < self._latest - SLACK:
            self._latest = now
            self._unnoted.append(NoteClockStep(first))
            if self._add is not _refuse:
                self._add = self._add_noting
        return first

    def submit(self, *operations: Operation) -> Promise[None]:
        promise: Promise[None] = Promise()
        self.commit(operations, promise.end)
        return promise

    def commit(self, operations: Sequence[Operation], told: Told) -> None:
        self._add(operations, told)

    def meanwhile(self, work: Callable[[], object]) -> None:
        self._opened.group.meanwhile(work)

    def afterwards(self, work: Callable[[], object]) -> None:
        self._opened.group.afterwards(work)

    def crowded(self, change: int) -> None:
        self._crowds += change
        if self._state is not None:
            self._state.group.crowded = self._crowds > 0

    def _add_noting(self, operations: Sequence[object], told: Told) -> None:
        """With the unit goes the note that the clock was set back: no message behind it is committed without it."""
        steps, add = tuple(self._unnoted), self._opened.group.add
        if not steps:
            self._add = add

        def noted(error: StoreError | None) -> None:
            if error is None:
                self._unnoted = [step for step in self._unnoted if step not in steps]
            told(error)

        add((*steps, *operations), noted if steps else told)

    # -- messages and deliveries -----------------------------------------------------------------------------------

    def unrouted(self, channel: str, after_id: int, limit: int) -> Sequence[MessageRow]:
        return self._reader.messages(queries.UNROUTED, channel, after_id, limit)

    def queued(self, channel: str, destination: str, after_id: int, limit: int) -> Sequence[DeliveryRow]:
        lanes = (channel, destination, after_id)
        return self._reader.deliveries(queries.QUEUED, *lanes, *lanes, limit)

    def open_of(self, channel: str, destination: str, state: str, after_id: int, limit: int) -> Sequence[DeliveryRow]:
        return self._reader.deliveries(queries.OPEN_OF, channel, destination, str(state), after_id, limit)

    def paused(self, channel: str) -> Mapping[str, float]:
        return dict(self._reader.rows(queries.PAUSED, channel))

    def message(self, message_id: int) -> MessageRow | None:
        return next(iter(self._reader.messages(queries.MESSAGE, message_id)), None)

    def message_body(self, message_id: int) -> bytes:
        """Raises KeyError for a message that does not exist, StoreError when it does not open."""
        return self._reader.value(queries.MESSAGE_BODY, message_id)

    def message_ack(self, message_id: int) -> bytes:
        return self._reader.value(queries.MESSAGE_ACK, message_id)

    def same_control_id(self, channel: str, control_id: str, limit: int) -> Sequence[MessageRow]:
        if self._absent.knows(control_id):
            return ()
        return self._reader.same_control_id(channel, control_id, limit, late=self._absent.may_be_late(control_id))

    def acks_owed(self, channel: str, after_id: int, limit: int) -> Sequence[MessageRow]:
        return self._reader.messages(queries.ACKS_OWED, channel, after_id, limit)

    def delivery(self, delivery_id: int) -> DeliveryRow | None:
        return next(iter(self._reader.deliveries(queries.DELIVERY, delivery_id)), None)

    def delivery_body(self, delivery_id: int) -> bytes:
        """Raises KeyError for a delivery that does not exist, StoreError when it does not open."""
        return self._reader.value(queries.DELIVERY_BODY, delivery_id)

    async def keep(self, body: Pieces) -> Pieces:
        if body.place and body.written < LARGE:
            return body
        return await keep_parts(body, self.new_id(), cast(Any, self.submit))  # parts are the store's own

    def kept_at(self, row_id: int) -> int:
        return next((int(run) for (run,) in self._reader.rows(queries.RUN_OF, row_id)), 0)

    def message_chunks(self, message_id: int) -> Iterator[bytes]:
        return self._reader.chunks(queries.MESSAGE_BODY, message_id)

    def delivery_chunks(self, delivery_id: int) -> Iterator[bytes]:
        return self._reader.chunks(queries.DELIVERY_BODY, delivery_id)

    def delivery_answer(self, delivery_id: int) -> bytes:
        """Raises KeyError for a delivery that does not exist, StoreError when it does not open."""
        return self._reader.value(queries.DELIVERY_ANSWER, delivery_id)

    def deliveries_of(self, message_id: int) -> Sequence[DeliveryRow]:
        return self._reader.deliveries(queries.DELIVERIES_OF, message_id)

    def trace(self, correlation_id: str) -> tuple[Sequence[MessageRow], Sequence[DeliveryRow]]:
        read, traced = self._reader, (correlation_id,) * 3
        return read.messages(queries.TRACE_MESSAGES, *traced), read.deliveries(queries.TRACE_DELIVERIES, *traced)

    def open_counts(self) -> Mapping[tuple[str, str, str], int]:
        return look.counted(self._reader.rows)

    async def waiting(self) -> Waiting:
        try:
            return await self._beside(look.waiting)
        except sqlite3.Error as error:
            raise StoreError(f"cannot read: {type(error).__name__}") from None

    # -- search ----------------------------------------------------------------------------------------------------

    def find(self, find: Find) -> Sequence[MessageRow]:
        """``since`` and ``until`` are both included."""
        return self._search.find(find)

    # -- caches and idempotency keys -------------------------------------------------------------------------------

    def cache_get(self, cache: str, key: str, now: float) -> bytes | None:
        """Raises StoreError when the value does not open."""
        hashed = cache_hash(self._crypto, cache, key)
        for value, sealed in self._reader.rows(queries.CACHE, cache, hashed, now):
            return self._crypto.open(sealed, value, hash_place("cache", cache, hashed=hashed))
        return None

    def find_key(self, scope: str, key: str, now: float) -> KeyRow | None:
        hashed = key_hash(self._crypto, scope, key)
        rows = self._reader.rows(queries.EXCHANGE_KEY, scope, hashed, now) if hashed in self._opened.known_keys else ()
        return key_row(rows[0], self._crypto, key) if rows else None

    def find_keys(self, channel: str, member: str, value: str, now: float) -> Sequence[KeyRow]:
        hashes = member_hashes(self._crypto, channel, member, value)
        return [key_row(row, self._crypto) for row in self._reader.rows(queries.EXCHANGE_KEYS, *hashes, now)]

    def keys_without(self, channel: str, member: str, now: float) -> Sequence[KeyRow]:
        rows = self._reader.rows(queries.KEYS_WITHOUT, channel, now, written_members([member]))
        return [key_row(row, self._crypto) for row in rows]

    # -- retention -------------------------------------------------------------------------------------------------

    @property
    def retained(self) -> Retained:
        return self._retained

    def stored_channels(self) -> Sequence[str]:
        return [name for (name,) in self._reader.rows(queries.CHANNELS)]

    async def back_up(self, to: Path) -> Mapping[str, Any]:
        return await self._beside(lambda reader: backup.back_up(reader, to, self._now(), self._crypto))

    async def check(self) -> Found:
        log = self.folder / database.LOG_FILE
        return await self._beside(lambda reader: check_running(reader, self._crypto, log, time.sleep))

    # -- the audit trail -------------------------------------------------------------------------------------------

    def audit_rows(self, find: FindAudit) -> Sequence[AuditRow]:
        return find_audit(self._reader, find)

    def audit_head(self) -> str:
        head = chain.Head(*self._reader.rows(keeping.AUDIT_HEAD)[0])
        return f"{head.last_id}:{head.last_hash.hex()}"

    async def verify_audit(self, expected: str = "") -> chain.Verified:
        return await self._beside(lambda reader: chain.verify(reader, self._crypto, expected))

    # -- keys ------------------------------------------------------------------------------------------------------

    def lane_key(self, value: str) -> str:
        return self._crypto.lane_key(value)

    def store_keys(self) -> Sequence[StoreKey]:
        return [
            StoreKey(number, added_at, retired_at, self._crypto.fingerprint(number) if retired_at is None else "")
            for number, added_at, retired_at in self._reader.rows(keeping.STORE_KEYS)
        ]

    async def use_keys(self, keys: Mapping[int, bytes]) -> int:
        """Raises StoreError when the highest is not above the one in use, or cannot be committed."""
        if (number := max(keys)) <= self._crypto.current:
            raise StoreError(f"there is no store key above {self._crypto.current}")
        self._crypto.add(number, keys[number])
        await self._opened.group.submit([AddKey(number)])
        # From the next unit on; those between the commit and here are found by the pass.
        await self._opened.group.without_process(lambda: self._crypto.use(number))
        return number

    def resealing(self) -> str | None:
        progress = read_progress(next(iter(self._reader.rows(keeping.RESEAL)), None))
        return None if progress is None else progress.table

    def reseal(self) -> Promise[None]:
        return self._opened.group.submit([Reseal(_RESEAL_ROWS, _RESEAL_BYTES)])

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> Opened:
        if self._state is None:
            raise StoreError("the store is not open")
        return self._state

    async def _beside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What takes long, in a thread and on a connection of its own."""

        def run() -> T:
            with closing(database.connect_reader(self.folder, self._machine.connect)) as reader:
                return work(reader)

        return await asyncio.to_thread(run)

    def _recover(self, writer: sqlite3.Connection) -> Begun:
        begun = begin(writer, self._crypto, self._now(), _IDS_RESERVED)
        self._last_id, self._reserve_at = begun.last_id, begun.last_id + _IDS_RESERVED // 2
        self._in_doubt_up_to, self._latest = begun.in_doubt_up_to, begun.at
        return begun

    def _commit(self, writer: sqlite3.Cursor) -> None:  # in the loop or beside it
        self._crypto.forget_drawn()
        writer.execute("COMMIT")  # all of the transaction is on disk then
        self._absent.visible()

    def _upkeep(self) -> Sequence[object]:
        return PurgeExpired(self._now(), _PURGE_ROWS), IndexMessages(_INDEXED_TOGETHER)


def _refuse(operations: Sequence[object], told: Told) -> None:
    """What becomes of a unit while the store is not open."""
    asyncio.get_running_loop().call_soon(told, StoreError("not committed: the store is not open"))
