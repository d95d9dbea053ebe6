"""Batches: what is joined comes back, every byte is accounted for, and whatever comes in can be answered.

Input: a choice, then either messages apart by NUL that are joined, or a body as it comes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

from engine.errors import MalformedMessage
from engine.hl7.ack import AckCode, make_ack
from engine.hl7.answer import read_ack
from engine.hl7.batch import BLANK, Split, is_batch, join, joinable, split
from engine.hl7.batch_answers import answer, read_answer, request_of, wrapped
from engine.hl7.header import header_of
from fuzz.data import Input, samples

_NOW = datetime(2026, 11, 27, tzinfo=UTC)
_BHS, _FHS = b"BHS|^~\\&|RIS|DTI|E|H|20261127||||B1", b"FHS|^~\\&|RIS|DTI|E|H|20261127||||F1"


def seeds() -> list[bytes]:
    """Batches as real senders make them, whole and broken."""
    first, second = samples()[:2]
    whole = join([first, second], _BHS, _FHS)
    bodies = [
        whole,
        whole.replace(b"\r", b"\r\n"),
        join([], _BHS),
        _BHS + b"\r" + first + b"SH|^~\\&|" + second + b"BTS|3\r",
        _FHS + b"\r" + first + _BHS + b"\r" + second + b"BTS|1\rFTS|9\rrest",
        _BHS + b"\rPID|1\r" + first + _BHS + _FHS,
        b"BHS#!*%@#A\r" + first,
        b"BHS",
    ]
    return [b"\x00" + first + b"\x00" + second, *(b"\x01" + body for body in bodies)]


def check(data: bytes) -> None:
    """Joined and split again; or split, answered, and the answer read."""
    given = Input(data)
    if given.byte() % 2 == 0:
        _check_joined([message for message in given.rest().split(b"\x00") if message.endswith(b"\r")])
    else:
        _check_split(given.rest())


def _check_joined(messages: list[bytes]) -> None:
    messages = [message for message in messages if joinable(message)]
    for file in (b"", _FHS):
        body = join(messages, _BHS, file)
        parts = split(body)
        assert [body[start:stop] for start, stop in parts.members] == messages, "what was joined"
        assert parts.wrong == ()


def _check_split(body: bytes) -> None:
    try:
        parts = split(body)
    except MalformedMessage:
        assert not is_batch(body)
        return
    left, last = bytearray(body), 0
    for start, stop in parts.members:
        assert last <= start < stop
        last = stop
        left[start:stop] = b"\r" * (stop - start)
    marks = [line for file, batch in parts.batches for line in (batch.header, batch.trailer)]
    marks += [line for file in parts.files for line in (file.header, file.trailer)]
    assert sorted(bytes(left).translate(None, BLANK)) == sorted(b"".join(marks).translate(None, BLANK)), (
        "bytes are lost"
    )
    _check_answers(body, parts)


def _check_answers(body: bytes, parts: Split) -> None:
    numbers = count(1)
    whole = request_of(parts, body)
    one = make_ack(whole, AckCode.AR, "A", _NOW, condition=100, location="BTS-1")
    assert read_ack(one).control_id == whole.control_id.strip()
    found = read_answer(wrapped(one, whole, lambda: f"A{next(numbers)}", _NOW))
    assert found is not None
    assert len(found.acks) == 1
    acks = [
        [make_ack(header_of(body[start:stop]), AckCode.AA, "A", _NOW) for start, stop in batch.members]
        for _, batch in parts.batches
    ]
    raw = answer(parts, acks, whole, lambda: f"A{next(numbers)}", _NOW)
    if any(acks):
        again = split(raw)
        assert sum(1 for _ in again.members) == sum(map(len, acks)), "an ack is lost in the answer"
        assert again.wrong == ()
