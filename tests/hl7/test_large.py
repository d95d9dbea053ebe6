"""Large messages: long lines stay bytes, are read in part, and leave as they came. Costs are counted, not timed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from engine.errors import MalformedMessage, Unmappable
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.hl7.large import LONG, LargeSegment
from engine.hl7.message import Message
from engine.hl7.mllp import END, START, Framer, frame, frame_pieces

HEAD = "MSH|^~\\&|LAB|A|E|S|20260101||ORU^R01|C1|P|2.5.1\rPID|1||P1||Doe^John\r"


def message(size: int = LARGE, *, before: str = HEAD, ends: str = "\r", tail: str = "NTE|1||end\r") -> bytes:
    """An ORU whose OBX-5 holds ``size`` bytes of a document."""
    return (before + "OBX|1|ED|PDF||^application^pdf^Base64^" + "QUJD" * (size // 4) + f"||||||F{ends}{tail}").encode()


def whole(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> Message:
    """The message as it is read when nothing is large."""
    with monkeypatch.context() as patch:
        patch.setattr("engine.hl7.message.LARGE", 1 << 60)
        return Message.parse(raw)


def peak(work: Callable[[], Any]) -> int:
    """Bytes that were allocated at once, at most."""
    tracemalloc.start()
    kept = work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return most


# -- the same as any message ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        message(),
        message(tail=""),
        message(ends="", tail=""),
        message(ends="\r\n", before=HEAD.replace("\r", "\r\n"), tail="NTE|1||end\r\n"),
        message(ends="\n", before=HEAD.replace("\r", "\n"), tail="NTE|1||end\n"),
        message(before=HEAD.replace("\r", "\r\r\n")),
        message().replace(b"QUJDQUJD", b"QUJD\nQUJ", 40),
        message().replace(b"Doe", b"D\xf6e").replace(b"QUJD", b"QU\xffD", 1),
        message(before="  \r\n" + HEAD),
        message(before=HEAD.replace("|2.5.1", "|2.5.1||||||UNICODE UTF-8")).replace(b"Doe", "Dö".encode()),
        message(before=HEAD.replace("|2.5.1", "|2.5.1||||||ISO IR87")),
        (HEAD + "NTE|1||x\r" * 200_000).encode(),
        (HEAD.replace("A|E", "A" * LONG + "|E") + "NTE|1||" + "y" * LARGE).encode(),
        message() + message().partition(b"\r")[2],
        (HEAD + "ZZZ" + "|" * LARGE).encode(),
        (HEAD + "no segment " * LONG).encode(),
    ],
)
def test_a_large_message_reads_and_leaves_as_if_it_were_read_whole(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    large, plain = Message.parse(raw), whole(raw, monkeypatch)
    assert large.names() == plain.names()
    assert (large.text, large.charset) == (plain.text, plain.charset)
    assert bytes(large.to_body()) == large.to_bytes() == plain.to_bytes()
    for path in ("OBX-2", "OBX-5.2", "OBX-5.5", "OBX-5", "OBX-11", "OBX-5[2]", "OBX-20", "NTE-3", "PID-5.1", "ZZZ-3"):
        assert large.read(path) == plain.read(path), path
    for change in (
        lambda one: one.set("MSH-5", "X"),
        lambda one: one.set("OBX-11", "C"),
        lambda one: one.set("OBX-5.3", "tif"),
        lambda one: one.delete("OBX-5.2"),
        lambda one: one.delete("OBX-5"),
        lambda one: one.set("OBX-30.2", "far"),
        lambda one: one.trim(),
        lambda one: one.delete("NTE"),
    ):
        one, other = large.copy(), plain.copy()
        change(one)
        change(other)
        assert bytes(one.to_body()) == other.to_bytes()
    assert bytes(large.to_body()) == plain.to_bytes(), "a copy has changed what it was made of"


def test_what_a_charset_lacks_is_told_or_replaced_as_in_any_message() -> None:
    parsed = Message.parse(message(before=HEAD.replace("|2.5.1", "|2.5.1||||||UNICODE UTF-8")))
    parsed.set("PID-5.1", "Dvořák")
    with pytest.raises(Unmappable, match="PID-5"):
        parsed.to_body("8859/1")
    assert b"Dvo?\xe1k" in bytes(parsed.to_body("8859/1", "replace"))
    parsed.set("PID-5.1", "Dvorak")
    assert isinstance(parsed.to_body("8859/1"), Pieces), "ASCII is the same in every charset"
    other = Message.parse(message().replace(b"QUJD", "Ö".encode(), 1), "UNICODE UTF-8")
    assert "Ö".encode("latin-1") in bytes(other.to_body("8859/1"))


def test_long_lines_stay_bytes_until_their_text_is_asked_for() -> None:
    raw = bytearray(message())
    parsed = Message.parse(Bulk(raw))
    (segment,) = parsed.segments("OBX")
    assert isinstance(segment, LargeSegment)
    parsed.set("MSH-5", "ARCHIVE")
    segment.set("OBX-11", "C")
    body = parsed.to_body()
    assert isinstance(body, Pieces)
    slices = [piece for piece in body.pieces if isinstance(piece, Slice)]
    assert [piece.bulk.data is raw for piece in slices] == [True]
    assert body.written < 1000
    assert "QUJD" not in repr((parsed, segment, body, slices[0], slices[0].bulk))


# -- what it costs -------------------------------------------------------------------------------------------------


def test_a_pass_through_the_message_allocates_the_same_for_one_and_for_eight_megabytes() -> None:
    def through(raw: bytearray) -> Any:
        parsed = Message.parse(Bulk(raw))
        assert (parsed.value("PID-3"), parsed.value("OBX-2"), parsed.value("OBX-5.2")) == ("P1", "ED", "application")
        copy = parsed.copy()
        copy.set("MSH-5", "ARCHIVE")
        copy.set("OBX-11", "C")
        return parsed.to_body(), copy.to_body()

    costs = [peak(partial(through, bytearray(message(size)))) for size in (LARGE, 8 * LARGE)]
    assert costs[1] < LARGE // 2
    assert abs(costs[1] - costs[0]) < 16 * 1024


def test_a_frame_of_eight_megabytes_is_held_once() -> None:
    chunks = [frame(message(8 * LARGE))[at : at + 65536] for at in range(0, 8 * LARGE + 1000, 65536)]
    chunks[-1] += START + b"MSH|next" + END

    def feed() -> list[Any]:
        framer = Framer(16 * LARGE)
        return [body for chunk in chunks for body in framer.feed(chunk)]

    # The buffer grows by eighths, and while it is moved there may be two of it.
    assert peak(feed) < 8 * LARGE * 2.3
    first, second = feed()
    assert (first, second) == (message(8 * LARGE), b"MSH|next")


def test_an_outgoing_frame_is_not_copied() -> None:
    body = Message.parse(Bulk(bytearray(message(8 * LARGE)))).to_body()
    assert isinstance(body, Pieces)

    def write() -> int:
        return sum(len(piece) for piece in frame_pieces(body, 65536))

    assert write() == len(body) + 3
    assert peak(write) < 256 * 1024
    assert b"".join(frame_pieces(body, 65536)) == frame(bytes(body))


@pytest.mark.parametrize("pieces", [(b"a\x1c", b"\rb"), (b"a\x1c\rb",), (b"a", b"b\x1c", b"\n")])
def test_an_end_of_frame_inside_is_found_across_pieces(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedMessage, match="end of frame"):
        frame_pieces(Pieces(pieces), 2)
    bulk = Bulk(b"".join(pieces))
    halves = [Slice(bulk, 0, 2), Slice(bulk, 2, len(bulk))]
    with pytest.raises(MalformedMessage, match="end of frame"):
        frame_pieces(Pieces(halves), 2)
    assert b"".join(frame_pieces(Pieces((b"a\x1c", b"b")), 1)) == frame(b"a\x1cb")


def test_pieces_are_cut_into_stretches_of_one_length() -> None:
    bulk = Bulk(b"0123456789")
    pieces = Pieces([b"ab", Slice(bulk, 2, 9), b"", b"c"])
    assert (len(pieces), bytes(pieces), pieces.written) == (10, b"ab2345678c", 3)
    assert list(pieces.stretches(4)) == [b"ab23", b"4567", b"8c"]
    assert [bytes(view) for view in pieces.views(3)] == [b"ab", b"234", b"567", b"8", b"c"]
    assert pieces.place == 0
    bulk.place = 7
    assert pieces.place == 7
