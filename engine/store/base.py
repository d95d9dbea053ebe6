"""The store's contract: the only thing that commits.

Writes are values (``operations.py``), and so is what reads give (``results.py``); both are named here as well.
``submit`` takes the operations of one unit: all of them are committed together or none. Units are executed in the order
of the calls, many units share one fsync, and the promise is kept after that fsync.
Reads see committed data only. Ids are given out by ``new_id`` before anything is written, rise with time, and serve
messages and deliveries alike: the order of message ids is the order of commit 1.

The embedded store is ``sqlite.py``; a store on PostgreSQL follows the same contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import StoreError
from engine.hl7.bulk import Pieces
from engine.promise import Promise
from engine.store.audit import Audit, AuditRow, FindAudit, PurgeAudit
from engine.store.chain import Verified
from engine.store.numbers import Numbers, Waiting
from engine.store.operations import (
    Accept,
    AckOwed,
    AckSent,
    CloseKey,
    DropKey,
    NewDelivery,
    OpenKey,
    Operation,
    Pause,
    Readdress,
    Reopen,
    Requeue,
    Resume,
    Route,
    Sending,
    Settle,
)
from engine.store.process.state import OFF, ProcessNow
from engine.store.results import DeliveryRow, Find, KeyRow, MessageRow, Recovered, StoreKey
from engine.store.retained import Retained
from engine.store.whole import Found

__all__ = [
    "Accept",
    "AckOwed",
    "AckSent",
    "Audit",
    "AuditRow",
    "CloseKey",
    "DeliveryRow",
    "DropKey",
    "Find",
    "FindAudit",
    "KeyRow",
    "MessageRow",
    "NewDelivery",
    "OpenKey",
    "Operation",
    "Pause",
    "PurgeAudit",
    "Readdress",
    "Recovered",
    "Reopen",
    "Requeue",
    "Resume",
    "Route",
    "Sending",
    "Settle",
    "Store",
    "StoreKey",
    "Verified",
]


class Store(ABC):
    """Everything durable. Used from one event loop; one process per data folder (DataFolderInUse)."""

    @abstractmethod
    async def open(self) -> Recovered:
        """Lock the data folder, bring the schema up to date, put the unfinished back where it was."""

    @abstractmethod
    async def close(self) -> None:
        """Commit what was submitted, then let go of the folder."""

    @property
    @abstractmethod
    def trouble(self) -> str:
        """Why the disk took nothing the last time (``SQLITE_FULL``); empty while it does."""

    @property
    def writing_process(self) -> ProcessNow:
        """How the process is that writes in the store's place while much is to be written."""
        return OFF

    @property
    @abstractmethod
    def in_doubt_up_to(self) -> int:
        """0, or the last id of the run that did not end in order, while something waits that it may have sent."""

    @property
    @abstractmethod
    def numbers(self) -> Numbers:
        """What it has done since it was opened."""

    @property
    def commits(self) -> int:
        """Commits made since the store was opened."""
        return self.numbers.commits

    @abstractmethod
    def new_id(self) -> int:
        """The next id. Rises across restarts."""

    @abstractmethod
    def new_ids(self, count: int) -> int:
        """The first of the next ``count`` ids."""

    @abstractmethod
    def submit(self, *operations: Operation) -> Promise[None]:
        """Commit a unit. The promise ends with StoreError when that could not be done: then nothing of it was kept."""

    @abstractmethod
    def commit(self, operations: Sequence[Operation], told: Callable[[StoreError | None], object]) -> None:
        """``submit`` for one who keeps no promise: ``told`` is called once, where the promise would be kept."""

    @abstractmethod
    def meanwhile(self, work: Callable[[], object]) -> None:
        """Have it called as soon as a commit is under way; in the next turn of the loop where none is to come."""

    @abstractmethod
    def afterwards(self, work: Callable[[], object]) -> None:
        """Have it called when all are told of the commit of which they are being told; else in the next turn."""

    def crowded(self, change: int) -> None:  # noqa: B027 - how commits are made is each store's own business
        """In one more place (or in one fewer) much waits: there is something to do while a commit is under way."""

    # Reads: synchronous, on a connection of their own, microseconds; each names its index (engine/store/queries.py).

    @abstractmethod
    def unrouted(self, channel: str, after_id: int, limit: int) -> Sequence[MessageRow]:
        """Messages in state received, oldest first."""

    @abstractmethod
    def queued(self, channel: str, destination: str, after_id: int, limit: int) -> Sequence[DeliveryRow]:
        """Deliveries in state queued or held, oldest first: the lanes of one destination."""

    @abstractmethod
    def open_of(self, channel: str, destination: str, state: str, after_id: int, limit: int) -> Sequence[DeliveryRow]:
        """Deliveries of one destination in a state that ``open_counts`` counts, oldest first."""

    @abstractmethod
    def paused(self, channel: str) -> Mapping[str, float]:
        """The destinations of a channel that a person has paused, and since when."""

    @abstractmethod
    def message(self, message_id: int) -> MessageRow | None:
        """One message."""

    @abstractmethod
    def message_body(self, message_id: int) -> bytes:
        """The bytes as received."""

    @abstractmethod
    def message_ack(self, message_id: int) -> bytes:
        """The acknowledgement that AckSent brought with it; empty when its code says everything."""

    @abstractmethod
    def same_control_id(self, channel: str, control_id: str, limit: int) -> Sequence[MessageRow]:
        """Messages of one channel with that MSH-10, newest first; among the 256 newest with it of all channels."""

    @abstractmethod
    def acks_owed(self, channel: str, after_id: int, limit: int) -> Sequence[MessageRow]:
        """Messages whose ack is ``owed``: not decided yet, and to go out on a connection of its own. Oldest first."""

    @abstractmethod
    def delivery(self, delivery_id: int) -> DeliveryRow | None:
        """One delivery."""

    @abstractmethod
    def delivery_body(self, delivery_id: int) -> bytes:
        """The bytes to send (decrypted when sealed)."""

    @abstractmethod
    async def keep(self, body: Pieces) -> Pieces:
        """Write what a large body is made of, in units so small that others pass in between; it is then submitted as
        what this gives. Nothing is written of stretches that are kept already. Raises StoreError; nothing is kept then.
        """

    @abstractmethod
    def kept_at(self, row_id: int) -> int:
        """The place of a large message's or delivery's bytes (``Bulk.place``); 0 for a body that is not large."""

    @abstractmethod
    def message_chunks(self, message_id: int) -> Iterator[bytes]:
        """The bytes as received, a part of them with each step: others may go on in between."""

    @abstractmethod
    def delivery_chunks(self, delivery_id: int) -> Iterator[bytes]:
        """The bytes to send, a part of them with each step."""

    @abstractmethod
    def delivery_answer(self, delivery_id: int) -> bytes:
        """The partner's answer; empty when there is none."""

    @abstractmethod
    def deliveries_of(self, message_id: int) -> Sequence[DeliveryRow]:
        """All deliveries of a message, in order of id."""

    @abstractmethod
    def find(self, find: Find) -> Sequence[MessageRow]:
        """Search."""

    @abstractmethod
    def trace(self, correlation_id: str) -> tuple[Sequence[MessageRow], Sequence[DeliveryRow]]:
        """Everything of one correlation id, oldest first."""

    @abstractmethod
    def open_counts(self) -> Mapping[tuple[str, str, str], int]:
        """(channel, destination or "", state) → number, of what is unfinished or waits for a person; cost does not grow
        with what is finished."""

    @abstractmethod
    async def waiting(self) -> Waiting:
        """``open_counts``, and since when the oldest waits, beside the loop; cost does not grow with what is finished.
        Raises StoreError."""

    @abstractmethod
    def cache_get(self, cache: str, key: str, now: float) -> bytes | None:
        """A cache entry that has not expired."""

    @abstractmethod
    def find_key(self, scope: str, key: str, now: float) -> KeyRow | None:
        """An idempotency key that has not expired."""

    @abstractmethod
    def find_keys(self, channel: str, member: str, value: str, now: float) -> Sequence[KeyRow]:
        """Live keys of ``channel`` whose request had ``member`` (``body.orderId``) = ``value``.

        ``key`` of these rows is nobody's own key (only its hash is stored); CloseKey and DropKey take it as one.
        """

    @abstractmethod
    def keys_without(self, channel: str, member: str, now: float) -> Sequence[KeyRow]:
        """Live keys of ``channel`` that ``find_keys`` does not find by ``member``: they were opened without it."""

    # -- retention -------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def retained(self) -> Retained:
        """What may be removed. What removes it are operations (``pruning.py``)."""

    @abstractmethod
    def stored_channels(self) -> Sequence[str]:
        """Every channel that has a message in the store."""

    @abstractmethod
    async def back_up(self, to: Path) -> Mapping[str, Any]:
        """Copy the store into the new folder ``to`` while it goes on; the manifest. Raises StoreError."""

    @abstractmethod
    async def check(self) -> Found:
        """Whether it is whole, while it goes on, in small pieces."""

    # -- the audit trail -------------------------------------------------------------------------------------------

    @abstractmethod
    def audit_rows(self, find: FindAudit) -> Sequence[AuditRow]:
        """Entries of the audit trail, newest first."""

    @abstractmethod
    def audit_head(self) -> str:
        """``id:hash`` of the last entry: noted elsewhere, it shows later that the trail still holds it."""

    @abstractmethod
    async def verify_audit(self, expected: str = "") -> Verified:
        """Check the whole trail while the store goes on; ``expected`` is a head that must be in it."""

    # Keys: what is stored is sealed with the highest key of a ring, and the ring can grow while the store is in use.

    @abstractmethod
    def lane_key(self, value: str) -> str:
        """What stands for an ordering key, on disk and in memory: a keyed hash, the same for ever; empty for empty."""

    @abstractmethod
    def store_keys(self) -> Sequence[StoreKey]:
        """The keys that values of this store are or were sealed with, in order of number."""

    @abstractmethod
    async def use_keys(self, keys: Mapping[int, bytes]) -> int:
        """Seal with the highest of ``keys`` (number → 32 bytes) from here on: its number. See ``reseal`` too."""

    @abstractmethod
    def resealing(self) -> str | None:
        """The table in which values are being sealed again; None when every value is sealed as it should be."""

    @abstractmethod
    def reseal(self) -> Promise[None]:
        """Commit one small unit of sealing again. At the end keys that no row needs are retired."""
