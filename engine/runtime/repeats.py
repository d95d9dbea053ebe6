"""What the sender of a message that came before is told, and what is kept of it: a record without bytes.

Nothing of it is delivered. How it is known again is ``duplicates.py``'s.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from engine.delivery import MessageState
from engine.envelope import ACCEPT, Receipt
from engine.promise import Promise
from engine.runtime import reading
from engine.runtime.acknowledge import UNDECIDED, Acknowledgements, modes_of, recorded
from engine.runtime.coming import Coming
from engine.runtime.duplicates import DUPLICATE, Found
from engine.runtime.entries import Entries

log = structlog.get_logger("engine.receive")


class Repeats:
    """The messages of one channel that came again."""

    def __init__(self, entries: Entries, acks: Acknowledgements, read: reading.Read) -> None:
        self.entries, self.parts, self.acks = entries, entries.parts, acks
        self._read = read
        #: How many there were.
        self.number = 0

    def answer(self, found: Found, coming: Coming) -> None:
        """Tell the answer of the first one, as soon as that has one. Raises StoreError."""
        row, told = found.row, None
        if row is not None and row.ack in UNDECIDED:
            self.acks.resume(row)
        elif row is not None:
            modes = modes_of(coming.header, coming.origin.source)
            told = self.acks.told(row, modes)
            self.acks.again(row, modes)
        self.number += 1
        coming.message_id = self.parts.store.new_id()
        coming.correlation_id = found.correlation_id
        ids = {"message_id": coming.message_id, "correlation_id": coming.correlation_id}
        log.info("message.duplicate", channel=self.entries.plan.name, **ids, first=found.first)
        coming.answer.add_done_callback(partial(self._record, found, coming, self.parts.clock.time()))
        if found.receipt is not None:
            _follow(found.receipt, coming)
            return
        coming.accept(ACCEPT)
        if told is not None:
            coming.finish(told)
        else:
            self.acks.wait(found.first, coming)

    def _record(self, found: Found, coming: Coming, came_at: float, answer: Promise[Any]) -> None:
        origin, header = coming.origin, coming.header
        if coming.accepted is None or not coming.accepted.positive:
            return  # the first one was not stored either
        accept = self.entries.accept(
            coming,
            b"",  # those of the first one, which are kept once
            origin,
            control_id=coming.control_id,
            message_type=header.message_type if header is not None else "",
            state=MessageState.FILTERED,
            cause=f"{DUPLICATE}{found.first}",
            ack=recorded(modes_of(header, origin.source), answer.result()),
            patients=self._read(coming.body, origin.query)[1],
        )
        # It waited for the answer of the first one; ids rise with the times at which messages came.
        self.parts.record(replace(accept, received_at=came_at))


def _follow(first: Receipt, second: Receipt) -> None:
    """What is told of the first is told of the second."""
    first.committed.add_done_callback(lambda told: second.accept(told.result()))
    first.answer.add_done_callback(lambda told: second.finish(told.result()))
