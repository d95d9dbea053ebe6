"""Framing: every case whole, byte by byte and in random pieces, with the same result."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Iterator

import hl7.client
import hl7.mllp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import FrameTooLarge, MalformedMessage
from engine.hl7.mllp import Framer, frame

ONE = b"MSH|^~\\&|A\rPID|1\r"
TWO = b"MSH|^~\\&|B\rPID|2\r"
VT, FS = b"\x0b", b"\x1c"

# What comes, the bodies in it, the bytes that belong to none, and whether a frame is left open.
CASES: dict[str, tuple[bytes, list[bytes], int, bool]] = {
    "nothing": (b"", [], 0, False),
    "one frame": (frame(ONE), [ONE], 0, False),
    "two frames": (frame(ONE) + frame(TWO), [ONE, TWO], 0, False),
    "many frames": (frame(ONE) * 50, [ONE] * 50, 0, False),
    "an empty frame": (VT + FS + b"\r", [b""], 0, False),
    "no HL7": (frame(b"hello"), [b"hello"], 0, False),
    "CR LF between frames": (frame(ONE) + b"\r\n" + frame(TWO) + b"\r\n", [ONE, TWO], 4, False),
    "LF after CR": (frame(ONE) + b"\n" + frame(TWO), [ONE, TWO], 1, False),
    "junk before": (b"junk" + frame(ONE), [ONE], 4, False),
    "junk between": (frame(ONE) + b"\x1c\rjunk\x1c" + frame(TWO), [ONE, TWO], 7, False),
    "only junk": (b"junk\r\n", [], 6, False),
    "FS LF": (VT + ONE + FS + b"\n" + frame(TWO), [ONE, TWO], 0, False),
    "FS VT": (VT + ONE + FS + frame(TWO), [ONE, TWO], 0, False),
    "FS CR inside of the content": (VT + b"a" + FS + b"\rb" + FS + b"\r" + frame(TWO), [b"a", TWO], 3, False),
    "FS as data": (frame(b"a\x1cb\x1c\x1cc"), [b"a\x1cb\x1c\x1cc"], 0, False),
    "FS before the end": (frame(b"a\x1c"), [b"a\x1c"], 0, False),
    "VT as data": (frame(b"MSH|a\x0bb\x0bMS|"), [b"MSH|a\x0bb\x0bMS|"], 0, False),
    "VT at the end": (frame(b"MSH|a\x0b"), [b"MSH|a\x0b"], 0, False),
    "broken off and begun anew": (VT + b"MSH|brok" + frame(ONE) + frame(TWO), [ONE, TWO], 8, False),
    "begun twice": (VT + frame(ONE), [ONE], 0, False),
    "unfinished": (frame(ONE) + VT + b"MSH|", [ONE], 0, True),
    "unfinished before CR": (frame(ONE) + VT + TWO + FS, [ONE], 0, True),
    "only VT": (VT, [], 0, True),
}


def _pieces(data: bytes, seed: int) -> Iterator[bytes]:
    dice, at = random.Random(seed), 0
    while at < len(data):
        size = dice.choice((1, 2, 3, 7, 40))
        yield data[at : at + size]
        at += size


def _ways(data: bytes) -> dict[str, list[bytes]]:
    ways = {"whole": [data], "byte by byte": [bytes([byte]) for byte in data]}
    return ways | {f"pieces {seed}": list(_pieces(data, seed)) for seed in range(20)}


@pytest.mark.parametrize("name", CASES)
def test_frames_are_found_however_they_come(name: str) -> None:
    data, bodies, junk, incomplete = CASES[name]
    for way, pieces in _ways(data).items():
        framer = Framer()
        found = [body for piece in pieces for body in framer.feed(piece)]
        assert found == bodies, way
        assert framer.junk_bytes == junk, way
        assert framer.incomplete is incomplete, way
        assert (framer.pending > 0) <= incomplete, way
        assert framer.flush() == ([TWO] if name == "unfinished before CR" else []), way


bodies = st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(VT, b"").replace(FS, b"")), max_size=5)
between = st.binary(max_size=5).map(lambda raw: raw.replace(VT, b"").replace(FS, b""))


@given(bodies, between, st.randoms(use_true_random=False))
def test_framed_bodies_come_back_whatever_stands_between(
    messages: list[bytes], junk: bytes, dice: random.Random
) -> None:
    data = junk.join([b"", *(frame(body) for body in messages)])
    framer, found = Framer(), []
    while data:
        size = dice.randint(1, 20)
        found += framer.feed(data[:size])
        data = data[size:]
    assert found == messages
    assert framer.junk_bytes == len(junk) * len(messages)


shards = st.sampled_from([VT, FS, b"\r", b"\n", b"M", b"S", b"H", b"MSH", b"x", FS + b"\r"])


@given(st.lists(shards, max_size=30))
def test_any_bytes_give_the_same_frames_in_any_pieces(pieces: list[bytes]) -> None:
    pieced, whole = Framer(), Framer()
    assert [body for piece in pieces for body in pieced.feed(piece)] == whole.feed(b"".join(pieces))
    assert (pieced.junk_bytes, pieced.abandoned, pieced.incomplete) == (
        whole.junk_bytes,
        whole.abandoned,
        whole.incomplete,
    )
    assert pieced.flush() == whole.flush()


def test_idle_time_completes_a_frame_that_ends_in_fs() -> None:
    framer = Framer()
    assert framer.feed(VT + ONE + FS) == []
    assert framer.pending == len(ONE) + 1
    assert framer.flush() == [ONE]
    assert (framer.pending, framer.incomplete) == (0, False)
    assert framer.feed(b"\r" + frame(TWO)) == [TWO]
    assert framer.junk_bytes == 1


def test_idle_time_completes_nothing_else() -> None:
    framer = Framer()
    assert framer.flush() == []
    framer.feed(VT + b"MSH|")
    assert framer.flush() == []
    assert framer.feed(b"x" + FS + b"\r") == [b"MSH|x"]


def test_a_frame_broken_off_is_counted() -> None:
    framer = Framer()
    framer.feed(VT + b"MSH|1" + VT + b"MSH|2" + frame(ONE))
    assert framer.abandoned == 2


# Limits


@pytest.mark.parametrize("size", [99, 100])
def test_a_frame_up_to_the_limit_is_taken(size: int) -> None:
    assert Framer(limit=100).feed(frame(b"x" * size)) == [b"x" * size]


def _feed_all(framer: Framer, pieces: list[bytes]) -> tuple[list[bytes], int]:
    found, refused = [], 0
    for piece in [*pieces, b"", b"", b""]:
        try:
            found += framer.feed(piece)
        except FrameTooLarge:
            refused += 1
    return found, refused


@pytest.mark.parametrize("end", [FS + b"\r", FS + b"\n"])
def test_a_frame_above_the_limit_is_refused_and_the_others_are_not_lost(end: bytes) -> None:
    data = frame(ONE) + VT + b"MSH|" + b"x" * 200 + end + frame(TWO)
    for way, pieces in _ways(data).items():
        framer = Framer(limit=100)
        assert _feed_all(framer, pieces) == ([ONE, TWO], 1), way
        assert framer.oversized_head.startswith(b"MSH|xxx")
        assert not framer.incomplete


def test_complete_frames_come_first_and_the_error_with_the_next_call() -> None:
    framer = Framer(limit=100)
    assert framer.feed(frame(ONE) + VT + b"x" * 200) == [ONE]
    assert framer.too_large
    with pytest.raises(FrameTooLarge, match="limit of 100 bytes"):
        framer.flush()
    assert not framer.too_large
    assert framer.feed(FS + b"\r" + frame(TWO)) == [TWO]


def test_idle_time_also_ends_a_frame_that_is_skipped() -> None:
    framer = Framer(limit=10)
    with pytest.raises(FrameTooLarge):
        framer.feed(VT + b"x" * 50 + FS)
    assert framer.flush() == []
    assert framer.feed(frame(b"ok")) == [b"ok"]


def test_a_sender_that_never_ends_its_frame_fills_no_memory() -> None:
    framer, refused, most = Framer(limit=1000), 0, 0
    framer.feed(VT)
    for _ in range(5000):
        try:
            framer.feed(b"x" * 100)
        except FrameTooLarge:
            refused += 1
        most = max(most, framer.pending)
    assert refused == 1
    assert most <= 1100


def test_a_message_of_20_megabytes_in_small_packets_is_looked_at_once() -> None:
    body = bytes(range(32, 127)) * 210_000
    data, framer, found = frame(body), Framer(limit=32 * 1024 * 1024), []
    for at in range(0, len(data), 1460):
        found += framer.feed(data[at : at + 1460])
    assert found == [body]


# Other protocols on the port


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http"),
        (b"POST /x HTTP/1.1\r\n", "http"),
        (b"OPTIONS * HTTP/1.1\r\n", "http"),
        (b"\r\nGET / HTTP/1.1\r\n", "http"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x0b\x00", "tls"),
        (b"MSH|^~\\&|no frame\r", None),
        (b"\r\n\r\n", None),
        (frame(ONE) + b"GET / HTTP/1.1\r\n", None),
    ],
)
def test_another_protocol_is_recognised(data: bytes, hint: str | None) -> None:
    for way, pieces in _ways(data).items():
        framer = Framer()
        for piece in pieces:
            framer.feed(piece)
        assert framer.hint == hint, way


# Out


@pytest.mark.parametrize(
    "inside", [FS + b"\r", FS + b"\n", FS + VT, b"\r" + FS + b"x" + FS + b"\r" + VT + b"MSH|forged"]
)
def test_a_body_that_would_arrive_as_two_messages_is_not_framed(inside: bytes) -> None:
    with pytest.raises(MalformedMessage, match="an end of frame inside"):
        frame(ONE + inside)


def test_a_body_with_a_lone_fs_is_framed() -> None:
    assert Framer().feed(frame(b"a\x1cb")) == [b"a\x1cb"]


# The same as others do


def test_the_block_reader_of_python_hl7_gives_the_same_where_it_is_right(all_samples: list[bytes]) -> None:
    stream = b"".join(frame(body) for body in all_samples)
    assert Framer().feed(stream) == all_samples
    theirs = [body + b"\r" for body in hl7.client.read_stream(io.BytesIO(stream)) if body]
    assert theirs == [body.strip(b"\r") + b"\r" for body in all_samples]


async def test_the_mllp_reader_of_python_hl7_takes_our_frames(all_samples: list[bytes]) -> None:
    reader = hl7.mllp.HL7StreamReader(encoding="utf-8", limit=1 << 20)
    for body in all_samples:
        reader.feed_data(frame(body))
    reader.feed_eof()
    for body in all_samples:
        message = await asyncio.wait_for(reader.readmessage(), 5)
        assert str(message).encode() == body
