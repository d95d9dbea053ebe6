"""Twice as long a message costs twice as much, and no more: parsing, reading, writing, acknowledging, framing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.hl7.ack import AckCode, make_ack
from engine.hl7.answer import read_ack
from engine.hl7.escape import escape, translate, unescape
from engine.hl7.header import header_of
from engine.hl7.message import Message
from engine.hl7.mllp import Framer, frame
from engine.hl7.separators import Separators
from tests.counting import LINEAR, lines, ratio

HEAD = b"MSH|^~\\&|RIS|DTI|ENGINE|HERE|20261120080000||ORU^R01|M1|P|2.5.1\rPID|1||P1\r"
OTHER = Separators.of("MSH#!*%@#")
Work = Callable[[int], Callable[[], Any]]


def segments(number: int) -> bytes:
    return HEAD + b"".join(b"OBX|%d|NM|A^B||%d\r" % (at, at) for at in range(number))


def repetitions(number: int) -> bytes:
    return HEAD + b"AIL|1||" + b"~".join(b"a%d^b&c" % at for at in range(number)) + b"\r"


def on(raw: Callable[[int], bytes], work: Callable[[Message], Any]) -> Work:
    def make(number: int) -> Callable[[], Any]:
        message = Message.parse(raw(number))
        return lambda: work(message)

    return make


def read_all(message: Message) -> None:
    for segment in message.segments():
        message.read("OBX-5", segment)


def write_all(message: Message) -> None:
    for segment in message.segments("OBX"):
        message.set("OBX-5", "x|y", segment)
        message.set("OBX-3.2", "z", segment)
    message.to_bytes()


def add_all(message: Message) -> None:
    for _ in message.segments("OBX"):
        message.add("NTE")


def cut_at_random(raw: bytes) -> Callable[[], Any]:
    framed = frame(raw)

    def feed() -> None:
        framer = Framer(64 * 1024 * 1024)
        assert len([body for at in range(0, len(framed), 1460) for body in framer.feed(framed[at : at + 1460])]) == 1

    return feed


NOW = datetime(2026, 11, 20, tzinfo=UTC)
WORK: dict[str, tuple[Work, int]] = {
    "parse segments": (lambda number: lambda: Message.parse(segments(number)).names(), 5_000),
    "parse repetitions": (lambda number: lambda: Message.parse(repetitions(number)).read("AIL-3"), 2_500),
    "read each segment": (on(segments, read_all), 5_000),
    "write each segment": (on(segments, write_all), 5_000),
    "add as many segments": (on(segments, add_all), 5_000),
    "delete every segment": (on(segments, lambda message: message.delete("OBX")), 5_000),
    "trim everything": (on(segments, Message.trim), 5_000),
    "trim repetitions": (on(repetitions, Message.trim), 2_500),
    "copy": (on(segments, Message.copy), 5_000),
    "write one of many repetitions": (on(repetitions, lambda message: message.set("AIL-3[2000].1", "x")), 2_500),
    "delete one of many repetitions": (on(repetitions, lambda message: message.delete("AIL-3[2000]")), 2_500),
    "other charset": (on(segments, lambda message: message.to_bytes("UNICODE UTF-8")), 5_000),
    "ack of many segments": (
        lambda number: lambda: make_ack(header_of(segments(number)), AckCode.AA, "A1", NOW), 5_000,
    ),
    "an ack with many segments": (
        lambda number: lambda: read_ack(
            b"MSH|^~\\&|A|B|C|D|20261120||ACK|A1|P|2.5\rMSA|AA|M1\r" + b"ERR||PID^1|207|E\r" * number
        ),
        5_000,
    ),
    "unescape": (lambda number: lambda: unescape("\\F\\a\\X41\\\\.br\\" * number, Separators.default), 2_500),
    "escape": (lambda number: lambda: escape("|a\r^" * number, Separators.default), 2_500),
    "other delimiters": (
        lambda number: lambda: translate("\\F\\a^b\\S\\\\H\\" * number, Separators.default, OTHER), 2_500,
    ),
    "a frame in packets": (lambda number: cut_at_random(segments(number)), 5_000),
    "a frame of FS and VT": (lambda number: cut_at_random(HEAD + b"NTE|1||" + b"\x1cx\x0b" * number + b"\r"), 5_000),
}  # fmt: skip


@pytest.mark.parametrize(("make", "size"), WORK.values(), ids=WORK.keys())
def test_twice_as_long_costs_twice_as_much(make: Work, size: int) -> None:
    assert ratio(make, size) <= LINEAR


def test_what_is_quadratic_is_seen() -> None:
    """The counter itself: reading repetition by repetition goes over the whole field each time."""

    def quadratic(number: int) -> Callable[[], Any]:
        message = Message.parse(segments(number))
        return lambda: [message.names() for _ in range(number)]

    assert ratio(quadratic, 50) > 3
    assert lines(lambda: None) == 0
