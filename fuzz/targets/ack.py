"""Acknowledgements: any answer can be read, any message can be answered, and the answer is one frame that names it.

Input: the code, a condition, a place, then the bytes of a message.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from engine.errors import MalformedMessage
from engine.hl7.ack import AckCode, make_ack, wanted_by
from engine.hl7.answer import read_ack
from engine.hl7.message import Message
from engine.hl7.mllp import Framer, frame
from fuzz.data import Input, samples

_CODES = tuple(AckCode)
_CONDITIONS = (None, 100, 101, 207, 0, 999)
_NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def seeds() -> list[bytes]:
    """The samples, answered in several ways; answers among them are read."""
    places = (b"", b"PID-3", b"PID[2]-3.1", b"MSH^1^12", b"a|b^c\rd")
    return [
        bytes([number % 6, number % 5]) + places[number % 5] + b"\x00" + sample
        for number, sample in enumerate(
            [*samples(), b"MSH|^~\\&|||||||ADT^A01|a\x1c|P|2.5||||AL|NE\rMSA|AA|x\rERR||PID^1^3|101|E\r"]
        )
    ]


def check(data: bytes) -> None:
    """Read it as an answer; answer it as a message."""
    given = Input(data)
    code, condition = given.choose(_CODES), given.choose(_CONDITIONS)
    place = given.line().decode("latin-1")
    raw = given.rest()
    _check_reading(raw)
    try:
        message = Message.parse(raw)
    except MalformedMessage:
        _check_answer(None, make_ack(None, code, "C1", _NOW, condition=condition, location=place or None), code)
        return
    _ = message.header.wanted
    wanted_by(raw)
    if any(end in raw for end in (b"\x1c\r", b"\x1c\n", b"\x1c\x0b")):
        return  # an end of frame inside of a message cannot have come in one
    made = make_ack(
        message.header, code, "C1", _NOW, condition=condition, location=place or None, application_error=place or None
    )
    _check_answer(message, made, code)


def _check_reading(raw: bytes) -> None:
    try:
        read = read_ack(raw)
    except MalformedMessage:
        return
    for shown in (read.condition, read.location, read.application_error):
        assert shown is None or _WORD.fullmatch(shown), "what may be shown has the form of a code"
    read.control_id.encode("utf-8")
    (read.text or "").encode("utf-8")


def _check_answer(message: Message | None, made: bytes, code: AckCode) -> None:
    try:
        framed = frame(made)
    except MalformedMessage:
        raise AssertionError("an answer that cannot be sent") from None
    if b"\x0bMSH" not in made:
        assert Framer().feed(framed) == [made]
    lines = made.split(b"\r")
    assert lines.pop() == b""
    assert [line[:3] for line in lines] in ([b"MSH", b"MSA"], [b"MSH", b"MSA", b"ERR"])
    read = read_ack(made)
    assert read.code is code
    if message is not None:
        assert read.message is not None
        mine = Message.parse(made, message.charset)
        assert (mine.read("MSA-2") or "") == (message.read("MSH-10") or ""), "the sender would not know its own message"
        assert read.message.separators == message.separators
