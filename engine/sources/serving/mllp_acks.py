"""From the engine's Acks to HL7 acknowledgements, and which of them a sender is to have (HL7 v2.5.1 §2.9.2, §2.9.3).

Original mode (MSH-15 and MSH-16 empty): one application ack when the channel's ``ack:`` says so. Enhanced mode: an
accept ack at commit 1 and an application ack later, each if MSH-15 and MSH-16 ask for one of that outcome. No I/O here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime

from engine.envelope import ACCEPT, Ack, MakeControlId, Receipt, Reply
from engine.hl7.ack import AckCode, Second, make_ack, positive_ack
from engine.hl7.header import Header, header_of
from engine.hl7.mllp import END, START, frame
from engine.hl7.modes import ORIGINAL
from engine.hl7.passing import answer_in, pass_on
from engine.sources.base import Given

_BEGIN, _END = START.decode(), END.decode()


class AckWriter:
    """Renders acknowledgements for one listener."""

    def __init__(
        self, make_control_id: MakeControlId, now: Callable[[], float], given: Given, *, elsewhere: bool = False
    ) -> None:
        """``elsewhere``: application acks of enhanced mode leave on a connection of their own."""
        self._codes, self._took = given.codes, given.took
        self._make_control_id, self._now, self._elsewhere = make_control_id, now, elsewhere
        self._at = -1
        self._second = _local_second(0)

    def accept(self, receipt: Receipt, ack: Ack) -> bytes:
        """The frame of the accept ack after commit 1, empty if the sender wants none; settles the accept level."""
        wanted, positive = receipt.wanted or ORIGINAL, ack.positive
        receipt.accept_due = False
        if positive and self._elsewhere and wanted.enhanced:
            receipt.answer_due = False
        if not wanted.accept_acks[positive]:
            return b""
        if not positive:
            receipt.answer_due = False  # a message that was not accepted is not processed: nothing follows a CE or CR
        return self._framed(receipt, ack, ack.accept_code)

    def application(self, receipt: Receipt, answer: Ack | Reply) -> bytes:
        """The frame of the application ack, empty if the sender wants none; settles the application level."""
        receipt.answer_due = False
        if isinstance(answer, Reply):
            answer = Ack("accept" if answer.code is None else "error")
        if not (receipt.wanted or ORIGINAL).application_acks[answer.positive]:
            return b""
        return self._framed(receipt, answer, answer.application_code)

    def _framed(self, receipt: Receipt, ack: Ack, code: AckCode) -> bytes:
        at = int(now := self._now())
        self._codes[code] += 1
        if receipt.received_at:
            self._took.add(now - receipt.received_at)
        if at != self._at:
            self._at, self._second = at, _local_second(at)
        request = receipt.header
        if ack is ACCEPT and request is not None:
            made = positive_ack(request, code, self._make_control_id(), self._second)
            if made is not None:
                return f"{_BEGIN}{made}{_END}".encode()
        return frame(ack.rendered or self._rendered(request, ack, code))

    def _rendered(self, request: Header | None, ack: Ack, code: AckCode) -> bytes:
        control_id, answer = self._make_control_id(), answer_in(ack.answer) if ack.answer else None
        if answer is not None and request is not None:
            return pass_on(request, answer, control_id, self._second.moment)
        return make_ack(request, code, control_id, self._second, condition=ack.condition, location=ack.location)


class Owed:
    """The acknowledgements that one sender has still to get, in the order in which its messages came."""

    __slots__ = ("_acks", "_most", "accepts", "answers")

    def __init__(self, acks: AckWriter, most: int) -> None:
        """``most``: messages of one level that may be unanswered."""
        self._acks, self._most = acks, most
        #: Whose accept ack, and whose application ack, is to come.
        self.accepts: deque[Receipt] = deque()
        self.answers: deque[Receipt] = deque()

    @property
    def messages(self) -> int:
        """Messages that may still be answered."""
        return max(len(self.accepts), len(self.answers))

    @property
    def is_full(self) -> bool:
        """Whether no further message may be taken before some have been answered."""
        return len(self.accepts) >= self._most or len(self.answers) >= self._most

    def expect(self, receipt: Receipt, body: bytes | bytearray) -> bool:
        """Its sender is to hear of it, as MSH-15 and MSH-16 of ``body`` ask for. Whether that was the last place."""
        asked = receipt.wanted
        if asked is None:
            header = receipt.header = receipt.header or header_of(body)
            asked = receipt.wanted = ORIGINAL if header is None else header.wanted
        full = False
        if asked.enhanced:
            receipt.accept_due = True
            self.accepts.append(receipt)
            full = len(self.accepts) >= self._most
        if asked.answered:
            receipt.answer_due = True
            self.answers.append(receipt)
            full = full or len(self.answers) >= self._most
        return full

    def due(self) -> bytes:
        """The frames of those that are known, and whose turn it is."""
        acks, accepts, answers, due = self._acks, self.accepts, self.answers, list[bytes]()
        while accepts and (accepted := accepts[0].accepted) is not None:
            due.append(acks.accept(accepts.popleft(), accepted))
        while answers and not answers[0].accept_due:
            receipt = answers[0]
            if receipt.answer_due:
                if (answer := receipt.answered) is None:
                    break
                due.append(acks.application(receipt, answer))
            answers.popleft()
        return b"".join(due)

    def clear(self) -> None:
        """Nobody is there to hear of any."""
        self.accepts.clear()
        self.answers.clear()


def _local_second(at: int) -> Second:
    return Second(datetime.fromtimestamp(at).astimezone())
