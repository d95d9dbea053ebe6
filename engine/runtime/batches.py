"""Batches that come in: each message is received by itself, and one answer tells of all.

A batch is no unit of the store: its messages are committed as if they had come one by one, many to a commit. What a
crash leaves half done the sender repeats, and what had been taken is known again (``duplicates.py``), so nothing is
lost or doubled. Each message has its own correlation id, and its origin names the batch. One that cannot be read is
kept as failed and the others go on. Last comes a record of the batch itself, with its headers and trailers.

How a batch is split is ``engine/hl7/batch.py``'s; what its answer looks like ``batch_answers.py``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import structlog

from engine.config.plan import BatchPlan, ChannelPlan
from engine.delivery import MessageState
from engine.envelope import ACCEPT, Ack, Origin, Receipt, Reply
from engine.hl7.ack import AckCode, make_ack
from engine.hl7.batch import Count, Split, TooManyParts, is_batch, reading, split, split_in_steps
from engine.hl7.batch_answers import answer, request_of, wrapped
from engine.hl7.bulk import LARGE
from engine.hl7.header import Header, header_of
from engine.hl7.passing import answer_in, pass_on
from engine.promise import Promise
from engine.runtime.acknowledge import STORE_UNAVAILABLE, modes_of
from engine.runtime.entries import Entries
from engine.runtime.faults import where
from engine.runtime.parts import Parts

log = structlog.get_logger("engine.batches")

#: Messages that are received in one turn of the event loop …
TURN = 8
#: … and whose commit is waited for before more are: what is in memory does not grow with the batch.
PIECE = 64
#: Bytes at the beginning of a batch in which its header and its first message are looked for.
HEAD = 64 * 1024

#: A message that cannot be read, inside of a batch that was taken.
UNREAD = Ack("reject", condition=100, location="MSH^1", cause="malformed")
#: More messages than ``max_messages``.
TOO_LARGE = Ack("reject", cause="batch_too_large")
#: Parts of a batch, for each message that there may be: it, and a header and two trailers of its own.
PARTS = 4
#: Nothing further is told of a message.
SILENT = b""


@dataclass(slots=True)
class Waiting:
    """A message of a batch that is not answered yet."""

    number: int
    receipt: Receipt
    header: Header | None


@dataclass(slots=True)
class Taken:
    """A batch whose messages are being received."""

    receipt: Receipt
    origin: Origin
    body: bytes | bytearray = field(repr=False)
    #: Under which the whole is acknowledged.
    whole: Header = field(repr=False)
    parts: Split = field(default=Split(()), repr=False)
    waiting: list[Waiting] = field(default_factory=list, repr=False)
    #: What is told of each message, in order.
    acks: list[bytes] = field(default_factory=list, repr=False)
    negative: int = 0
    #: The worst that happened to one: what the whole comes to.
    worst: Ack = ACCEPT


class Batches:
    """Takes the batches of one channel."""

    def __init__(
        self, plan: ChannelPlan, policy: BatchPlan, entries: Entries, receive: Callable[[bytes, Origin], Receipt]
    ) -> None:
        """``receive`` takes one message in."""
        self.plan, self.policy, self.entries, self.receive = plan, policy, entries, receive
        self.parts: Parts = entries.parts

    def begin(self, receipt: Receipt, body: bytes | bytearray, origin: Origin) -> Taken | None:
        """What is known of a batch at once: whom to answer. None for what is none, or stands inside of another one."""
        if origin.batch or not is_batch(body):
            return None
        head = bytes(body[:HEAD])
        receipt.batch, receipt.header = True, request_of(split(head), head)
        return Taken(receipt, origin, body, receipt.header)

    async def run(self, taken: Taken, committed: Callable[[], None]) -> None:
        """Receive its messages, then answer; ``committed`` is called in between, when the store has what was taken."""
        try:
            await self._take(taken)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave the sender without a word
            log.error("batch.internal_error", **self._ids(taken.receipt), error=type(error).__name__, at=where(error))
            taken.worst = replace(STORE_UNAVAILABLE, cause="internal")
            taken.receipt.finish(self._one(taken))
        finally:
            committed()
        await self._tell(taken)

    async def _take(self, taken: Taken) -> None:
        try:
            taken.parts = await self._split(taken.body)
        except TooManyParts:
            self._refuse(taken, TOO_LARGE)
            return
        wrong = taken.parts.wrong
        for count in wrong:
            facts = {"place": count.place, "said": count.said, "found": count.found, "handled": self.policy.on_count}
            log.warning("batch.count_differs", **self._ids(taken.receipt), **facts)
        if wrong and self.policy.on_count == "refuse":
            refusal = Ack("reject", condition=100, location=wrong[0].place, cause="batch_count")
            self._refuse(taken, refusal, _said(wrong[0]))
            return
        members = _numbered(taken.parts)
        while piece := list(islice(members, PIECE)):
            await self._take_piece(taken, piece)

    async def _split(self, body: bytes | bytearray) -> Split:
        """Others have their turn in between. Raises TooManyParts."""
        most = self.policy.max_messages
        steps = split_in_steps(body, PARTS * most)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                parts: Split = ended.value
                break
            await asyncio.sleep(0)
        if next(islice(parts.members, most, None), None) is not None:
            raise TooManyParts("more messages than are taken")
        return parts

    async def _tell(self, taken: Taken) -> None:
        """Answer the batch when each of its messages is answered."""
        receipt = taken.receipt
        receipt.accept(taken.worst if taken.worst.outcome == "reject" else ACCEPT)
        for waiting in taken.waiting:
            self._note(taken, waiting, await waiting.receipt.answer)
        if receipt.answered is None:
            self._record(taken)
            receipt.finish(self._answer(taken))

    # -- its messages ----------------------------------------------------------------------------------------------

    async def _take_piece(self, taken: Taken, piece: Sequence[tuple[dict[str, str], int, int]]) -> None:
        for at, (names, start, stop) in enumerate(piece, 1):
            message = bytes(taken.body[start:stop])
            batch = {**names, "correlation_id": taken.receipt.correlation_id}
            receipt = self.receive(message, replace(taken.origin, correlation_id=None, batch=batch))
            taken.waiting.append(Waiting(len(taken.acks), receipt, receipt.header or header_of(message)))
            taken.acks.append(SILENT)
            if at % TURN == 0:
                await asyncio.sleep(0)
        for waiting in taken.waiting:
            await waiting.receipt.committed
        left = []
        for waiting in taken.waiting:
            if waiting.receipt.answered is not None:
                self._note(taken, waiting, waiting.receipt.answered)
            else:
                left.append(waiting)
        taken.waiting = left

    def _note(self, taken: Taken, waiting: Waiting, answered: Ack | Reply) -> None:
        """What is told of a message is made as soon as it is known: little is kept of a batch of many."""
        ack = answered if isinstance(answered, Ack) else ACCEPT
        if not ack.positive:
            taken.negative += 1
            if taken.worst.positive or _weight(ack) > _weight(taken.worst):
                taken.worst = ack
        if self.policy.answer == "all" or (self.policy.answer == "errors" and not ack.positive):
            taken.acks[waiting.number] = self._rendered(waiting.header, ack, taken.origin.source)

    def _rendered(self, header: Header | None, ack: Ack, source: str) -> bytes:
        modes = modes_of(header, source)
        code = ack.application_code
        later = self.plan.ack_to is not None  # then the application ack comes on a connection of its own
        if modes.enhanced and (later or not modes.application_ack(ack.positive)):
            if not modes.accept_ack(ack.positive):
                return SILENT
            code = ack.accept_code
        control_id, now = self.parts.make_control_id(), self.parts.clock.now()
        passed = answer_in(ack.answer) if ack.answer else None
        if passed is not None and header is not None:
            return pass_on(header, passed, control_id, now)
        return make_ack(header, code, control_id, now, condition=ack.condition, location=ack.location)

    def keep_failed(self, receipt: Receipt, body: bytes, origin: Origin) -> Receipt:
        """Keep a message of a batch that cannot be read: a person sees it, and its sender is told no."""
        receipt.message_id = self.parts.store.new_id()
        log.warning("message.failed", **self._ids(receipt), message_id=receipt.message_id, cause=UNREAD.cause)
        header = header_of(body)
        control_id = header.control_id if header is not None else ""
        facts = {"state": MessageState.FAILED, "cause": UNREAD.cause, "ack": AckCode.AR.value}
        accept = self.entries.accept(receipt, body, origin, control_id=control_id, **facts)
        self.parts.store.submit(accept).add_done_callback(partial(self._kept, receipt))
        return receipt

    def _kept(self, receipt: Receipt, promise: Promise[None]) -> None:
        stored = promise.exception() is None
        if not stored:
            log.error("message.not_stored", **self._ids(receipt), cause=STORE_UNAVAILABLE.cause)
        receipt.settle(UNREAD if stored else STORE_UNAVAILABLE)

    # -- the whole -------------------------------------------------------------------------------------------------

    def _refuse(self, taken: Taken, refusal: Ack, said: str = "") -> None:
        """Nothing of it is taken: its sender has all of it."""
        receipt = taken.receipt
        receipt.message_id = self.parts.store.new_id()
        cause = f"{refusal.cause} {said}".strip()
        log.warning("message.refused", **self._ids(receipt), cause=cause)
        body = bytes(taken.body[:LARGE])
        self.entries.refuse(receipt.message_id, receipt.correlation_id, body, taken.origin, cause, "AR")
        taken.worst = refusal
        receipt.finish(self._one(taken))

    def _answer(self, taken: Taken) -> Ack:
        if self.policy.answer == "one":
            return self._one(taken)
        acks = iter(taken.acks)
        by_batch = (
            [ack for ack in islice(acks, len(batch.members)) if ack != SILENT] for _, batch in taken.parts.batches
        )
        made = answer(taken.parts, by_batch, taken.whole, self.parts.make_control_id, self.parts.clock.now())
        return replace(taken.worst, answer=b"", rendered=made)

    def _one(self, taken: Taken) -> Ack:
        """One ack for all; in a batch for who expects one."""
        worst, parts, now = taken.worst, self.parts, self.parts.clock.now()
        ack = make_ack(
            taken.whole,
            worst.application_code,
            parts.make_control_id(),
            now,
            condition=worst.condition,
            # A place in a message says nothing where many are meant.
            location=worst.location if worst.cause == "batch_count" else None,
        )
        if self.policy.answer != "one":
            ack = wrapped(ack, taken.whole, parts.make_control_id, now)
        return replace(worst, answer=b"", rendered=ack)

    def _record(self, taken: Taken) -> None:
        """The batch itself, for whoever looks for it; nobody waits for this."""
        receipt = taken.receipt
        receipt.message_id = self.parts.store.new_id()
        found = [f"batch of {len(taken.acks)}"]
        if taken.negative:
            found.append(f"{taken.negative} not taken")
        found += [_said(count) for count in taken.parts.wrong]
        cause = ", ".join(found)
        log.info("batch.received", **self._ids(receipt), messages=len(taken.acks), negative=taken.negative)
        self.parts.record(
            self.entries.accept(
                receipt,
                _frame(taken.parts),
                taken.origin,
                control_id=taken.whole.control_id,
                message_type="FHS" if taken.parts.files[0].header else "BHS",
                state=MessageState.FILTERED,
                cause=cause,
                ack=taken.worst.application_code.value,
            )
        )

    def _ids(self, receipt: Receipt) -> dict[str, Any]:
        return {"channel": self.plan.name, "correlation_id": receipt.correlation_id}


def _numbered(parts: Split) -> Iterator[tuple[dict[str, str], int, int]]:
    """Each message with what its origin says of the batch: its control ids and the message's number in the whole."""
    number = 0
    for file, batch in parts.batches:
        names = {"id": reading(batch.header).value(11), "file": reading(file.header).value(11)}
        names = {name: value for name, value in names.items() if value}
        for start, stop in batch.members:
            number += 1
            yield {**names, "number": str(number)}, start, stop


def _frame(parts: Split) -> bytes:
    """Headers and trailers, without the messages."""
    lines = []
    for file in parts.files:
        inside = (line for batch in file.batches for line in (batch.header, batch.trailer))
        lines += [line for line in (file.header, *inside, file.trailer) if line]
    return b"".join(line + b"\r" for line in lines)


def _said(count: Count) -> str:
    """``BTS-1 says 7000 of 6999``."""
    return f"{count.place} says {'no number' if count.said is None else count.said} of {count.found}"


#: Outcomes of the whole: what was not kept must be sent again, whatever else happened.
_NOT_KEPT = (STORE_UNAVAILABLE.cause, "channel_stopped")


def _weight(ack: Ack) -> int:
    return 2 if ack.cause in _NOT_KEPT else 1
