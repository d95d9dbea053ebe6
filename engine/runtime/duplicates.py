"""Messages that come again: known by MSH-10, and the same only if every byte is the same.

A sender repeats what it got no acknowledgement for. It gets the acknowledgement of the first one and nothing is
delivered twice. Bytes count, because senders begin their numbers anew: another message under an old number is another
message. What was answered negatively, and is not going to be delivered by itself, was not taken: when it comes again it
is a new message. The store's index on MSH-10 is the only memory, so a restart forgets nothing and retention bounds it;
messages whose commit 1 is under way are known from memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence

from engine.config.plan import ACKS, Duplicates
from engine.delivery import DeliveryState, MessageState
from engine.envelope import Receipt
from engine.hl7.header import Header, header_of
from engine.runtime.coming import Coming
from engine.runtime.parts import Parts
from engine.store.base import MessageRow
from engine.values import dataclass

#: Newest messages of one MSH-10 that a message is compared with.
COMPARED = 16
#: Begins the cause of a message that came before; the number of the first one follows.
DUPLICATE = "duplicate "
#: Bytes that are compared in one turn of the event loop.
STRETCH = 512 * 1024

_NEGATIVE = ("AE", "AR", "CE", "CR")
#: What is neither delivered nor going to be, unless a person acts on it or the sender sends it again.
_GIVEN_UP = (DeliveryState.PARKED, DeliveryState.DISCARDED)


@dataclass(frozen=True, slots=True)
class Found:
    """A message that came before under the same MSH-10."""

    #: Its bytes are the same.
    same: bool
    correlation_id: str
    #: Its row; None while its commit 1 is under way.
    row: MessageRow | None = None
    #: Whose answer is the answer of the second one too, while there is no row.
    receipt: Receipt | None = None

    @property
    def first(self) -> int:
        """Its number; 0 while a large one has none yet."""
        return self.row.message_id if self.row is not None else self.receipt.message_id if self.receipt else 0


#: One step for each part that was compared.
Search = Generator[None, None, Found | None]


class Seen:
    """What one channel has taken, by MSH-10."""

    def __init__(self, plan: Duplicates, channel: str, parts: Parts) -> None:
        self.plan, self.channel, self.parts = plan, channel, parts
        #: Most have an MSH-10 for themselves.
        self._coming: dict[str, tuple[Coming, ...]] = {}

    def begin(self, coming: Coming) -> None:
        """Commit 1 of a message begins."""
        self._coming[coming.control_id] = (*self._coming.get(coming.control_id, ()), coming)

    def end(self, coming: Coming) -> None:
        """Commit 1 has ended: the store knows it, or nobody does."""
        left = self._coming.pop(coming.control_id)
        if len(left) > 1:  # seldom
            self._coming[coming.control_id] = tuple(other for other in left if other is not coming)

    def find(self, coming: Coming) -> Found | None:
        """The message that ``coming`` repeats, else the newest whose number it takes. Raises StoreError.

        None for neither: then its commit 1 begins.
        """
        control_id = coming.control_id
        rows = self.parts.store.same_control_id(self.channel, control_id, COMPARED)
        if not rows and control_id not in self._coming:  # so it is with most messages
            self._coming[control_id] = (coming,)
            return None
        search = self._search(coming, self._coming.get(control_id, ()), rows)
        try:
            while True:
                next(search)
        except StopIteration as ended:
            found: Found | None = ended.value
        if found is None:
            self.begin(coming)
        return found

    async def find_large(self, coming: Coming) -> Found | None:
        """The same for a large one that ``look`` knows; others have their turn after each part that is compared."""
        rows = self.parts.store.same_control_id(self.channel, coming.control_id, COMPARED)
        search = self._search(coming, coming.before, rows)
        try:
            while True:
                next(search)
                await asyncio.sleep(0)
        except StopIteration as ended:
            found: Found | None = ended.value
            return found

    def look(self, coming: Coming) -> None:
        """``begin`` for one that looks whether it came before, with ``find_large``: one that comes later finds it."""
        coming.before = self._coming.get(coming.control_id, ())
        self.begin(coming)

    def _search(self, coming: Coming, others: Sequence[Coming], rows: Sequence[MessageRow]) -> Search:
        changed: Found | None = None
        body, header = coming.raw or b"", coming.header or Header.empty()
        # Their bytes as of now: those of one whose commit 1 ends meanwhile are let go, and ``rows`` has it not.
        for first, raw in [(other, other.raw or b"") for other in reversed(others)]:
            found = yield from self._coming_as(first, raw, body, header)
            if found is not None and found.same:
                return found
            changed = changed or found
        for row in self._first_ones(rows):
            found = yield from self._stored_as(row, body, header)
            if found is not None and found.same:
                return found
            changed = changed or found
        return changed

    def _coming_as(self, first: Coming, raw: bytes | bytearray, body: bytes | bytearray, header: Header) -> Search:
        same, head = yield from _compared(_stretches(raw), body)
        if not same and not _of_one_sender(head, header):
            return None
        return Found(same, first.correlation_id, receipt=first)

    def _first_ones(self, rows: Sequence[MessageRow]) -> Iterator[MessageRow]:
        """Each once; for one that came again the first."""
        known = set[int]()
        for found in rows:
            row: MessageRow | None = found
            if found.cause.startswith(DUPLICATE):
                row = self.parts.store.message(int(found.cause.removeprefix(DUPLICATE)))
            if row is not None and row.message_id not in known:
                known.add(row.message_id)
                yield row

    def _stored_as(self, row: MessageRow, body: bytes | bytearray, header: Header) -> Search:
        if row.received_at <= self.parts.clock.time() - self.plan.window or not self._is_taken(row):
            return None
        try:
            stored = self.parts.store.message_chunks(row.message_id)
        except KeyError:
            return None  # pruned meanwhile
        same, head = yield from _compared(stored, body)
        if not same and not _of_one_sender(head, header):
            return None
        return Found(same, row.correlation_id, row)

    def _is_taken(self, row: MessageRow) -> bool:
        """Whether the engine has answered positively, or is going to, or goes on with it whatever it answered."""
        if row.state is MessageState.REFUSED:
            return False
        if row.ack not in _NEGATIVE:
            return True
        if row.state is MessageState.FAILED:
            return False
        deliveries = self.parts.store.deliveries_of(row.message_id)
        return not any(item.state in _GIVEN_UP for item in deliveries if item.destination != ACKS)


def _stretches(body: bytes | bytearray) -> Iterator[bytes]:
    return (bytes(body[start : start + STRETCH]) for start in range(0, len(body), STRETCH))


def _compared(chunks: Iterator[bytes], body: bytes | bytearray) -> Generator[None, None, tuple[bool, bytes]]:
    """Whether ``chunks`` together are ``body``, and the first of them; a step for each that is the same."""
    at, head = 0, b""
    for chunk in chunks:
        head = head or chunk
        if not body.startswith(chunk, at):
            return False, head
        at += len(chunk)
        if at < len(body):
            yield
    return at == len(body), head


def _of_one_sender(stored: bytes, header: Header) -> bool:
    first = header_of(stored)
    return first is not None and first.sender == header.sender
