"""From the engine's Acks to HL7 acknowledgements, and which of them a sender is to have (HL7 v2.5.1 §2.9.2, §2.9.3).

Original mode (MSH-15 and MSH-16 empty): one application ack when the channel's ``ack:`` says so. Enhanced mode: an
accept ack at commit 1 and an application ack later, each if MSH-15 and MSH-16 ask for one of that outcome. No I/O here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from engine.envelope import Ack, MakeControlId, Receipt, Reply
from engine.hl7.ack import ORIGINAL, AcceptMode, AckCode, Wanted, make_ack, wanted
from engine.hl7.header import Header
from engine.hl7.passing import answer_in, pass_on


@dataclass(slots=True, eq=False)
class Pending:
    """One message whose sender may still hear of it."""

    receipt: Receipt
    request: Header | None
    wanted: Wanted = field(init=False)
    #: The accept level is settled: its ack was written, or none is wanted.
    accepted: bool = field(init=False)
    #: The application level is settled.
    ended: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.wanted = wanted(self.request) if self.request is not None else ORIGINAL
        self.accepted = not self.wanted.enhanced
        self.ended = self.wanted.enhanced and self.wanted.application in (None, AcceptMode.NE)


class AckWriter:
    """Renders acknowledgements for one listener."""

    def __init__(self, make_control_id: MakeControlId, now: Callable[[], datetime], *, elsewhere: bool = False) -> None:
        #: ``elsewhere``: application acks of enhanced mode leave on a connection of their own.
        self._make_control_id, self._now, self._elsewhere = make_control_id, now, elsewhere

    def accept(self, pending: Pending) -> bytes | None:
        """The accept ack once commit 1 is done, or None if the sender wants none; settles the accept level."""
        ack = pending.receipt.committed.result()
        pending.accepted = True
        if ack.positive and self._elsewhere and pending.wanted.enhanced:
            pending.ended = True
        if not pending.wanted.accept_ack(ack.positive):
            return None
        # A message that was not accepted is not processed either: nothing follows a CE or CR.
        pending.ended = pending.ended or not ack.positive
        return self._render(pending, ack, ack.accept_code)

    def application(self, pending: Pending) -> bytes | None:
        """The application ack once the answer is there, or None if the sender wants none."""
        pending.ended = True
        answer = pending.receipt.answer.result()
        if isinstance(answer, Reply):
            answer = Ack("accept" if answer.code is None else "error")
        if not pending.wanted.application_ack(answer.positive):
            return None
        return self._render(pending, answer, answer.application_code)

    def _render(self, pending: Pending, ack: Ack, code: AckCode) -> bytes:
        if ack.rendered:
            return ack.rendered
        answer = answer_in(ack.answer) if ack.answer else None
        if answer is not None and pending.request is not None:
            return pass_on(pending.request, answer, self._make_control_id(), self._now())
        return make_ack(
            pending.request,
            code,
            self._make_control_id(),
            self._now(),
            condition=ack.condition,
            location=ack.location,
        )
