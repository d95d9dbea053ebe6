"""The MLLP framer: however a stream is cut, the same bodies come out, and memory stays bounded.

Input: a limit, a cut, then the stream; ``0xFE 0xFE`` in it stands for silence (``flush``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.errors import FrameTooLarge, MalformedMessage
from engine.hl7.mllp import Framer, frame
from fuzz.data import Input, samples

_LIMITS = (64, 1, 8, 300, 5000, 20_000)
_SILENCE = b"\xfe\xfe"
_TOO_LARGE = b"<too large>"


def seeds() -> list[bytes]:
    """Streams as real senders make them."""
    first, second, third = samples()[:3]
    streams = [
        frame(first) + frame(second),
        b"\x0b" + first + b"\x1c\n" + frame(second),
        b"\x0b" + first + b"\x1c" + frame(second) + b"\r\n\r\n" + frame(third),
        b"\x0b" + first + b"\x1c" + _SILENCE + frame(second),
        b"\x0b" + first[:40] + frame(first),
        b"\x0b" + first[:40] + frame(b"BHS|^~\\&\r" + first),
        frame(first[:60] + b"a\x1cb\x0bc\x0bMS\x0bM"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\x0bABC\x1c\r\x0b\x1c\r\x0b\x0b\x1c\x0b",
        b"junk" * 5 + frame(b"MSH|") + b"\x0bMSH" * 3 + b"\x1c\r",
    ]
    return [bytes([limit, cut]) + stream for stream in streams for limit in (0, 3, 5) for cut in (0, 7)]


def check(data: bytes) -> None:
    """Whole, byte by byte and in pieces give the same; what is framed comes back."""
    given = Input(data)
    limit, cut = given.choose(_LIMITS), given.byte() + 1
    stream = given.rest()
    parts = stream.split(_SILENCE)
    whole = _heard(parts, limit, len(stream) + 1)
    assert _heard(parts, limit, 1) == whole, "byte by byte"
    assert _heard(parts, limit, cut) == whole, f"in pieces of {cut}"
    for body in whole[0]:
        assert body == _TOO_LARGE or len(body) <= limit
    _check_frame(stream)


def _heard(parts: list[bytes], limit: int, size: int) -> tuple[list[bytes], int, str | None]:
    framer = Framer(limit)
    bodies: list[bytes] = []
    largest = 0
    for number, part in enumerate(parts):
        if number:
            _take(framer, framer.flush, bodies)
        for at in range(0, len(part), size):
            piece = part[at : at + size]
            if (single := framer.single(piece)) is not None:
                bodies.append(single)
                continue
            _take(framer, partial(framer.feed, piece), bodies)
            largest = max(largest, framer.pending - len(piece))
    # One more than the limit is needed to know that it was passed, and the end of a frame has two bytes.
    assert largest <= limit + 4, "more is held than the limit and the last piece"
    return bodies, framer.abandoned, framer.hint


def _take(framer: Framer, step: Callable[[], list[bytes]], bodies: list[bytes]) -> None:
    """One step, and what stands behind each frame that was too large."""
    while True:
        try:
            bodies += step()
        except FrameTooLarge:
            bodies.append(_TOO_LARGE)
        else:
            if not framer.too_large:
                return
        step = partial(framer.feed, b"")


def _check_frame(body: bytes) -> None:
    try:
        framed = frame(body)
    except MalformedMessage:
        assert any(body.find(b"\x1c" + end) >= 0 for end in (b"\r", b"\n", b"\x0b"))
        return
    if not any(b"\x0b" + begin in body for begin in (b"MSH", b"FHS", b"BHS")):
        framer = Framer(len(body) + 8)
        assert framer.feed(framed) == [body]
        assert not framer.pending
