"""What real senders do to an MLLP port, over raw sockets: every row ends with the acks a correct sender would get."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.hl7.mllp import frame

M1 = b"MSH|^~\\&|RIS|DTI|ENGINE|HERE|20261120080000||SIU^S12|M1|P|2.3\rPID|1||P1\r"
M2 = M1.replace(b"|M1|", b"|M2|")

SURVIVED = {
    "junk before a frame": (b"\x00junk\xff" + frame(M1), ["M1"]),
    "CR LF between frames": (frame(M1) + b"\r\n\r\n" + frame(M2), ["M1", "M2"]),
    "two frames in a packet": (frame(M1) + frame(M2), ["M1", "M2"]),
    "frame ended by FS LF": (b"\x0b" + M1 + b"\x1c\n" + frame(M2), ["M1", "M2"]),
    "frame ended by the next VT": (b"\x0b" + M1 + b"\x1c" + frame(M2), ["M1", "M2"]),
    "FS alone, then silence": (b"\x0b" + M1 + b"\x1c", ["M1"]),
    "FS inside of the data": (frame(M1 + b"NTE|1||a\x1cb\r") + frame(M2), ["M1", "M2"]),
    "segments ended by LF": (frame(M1.replace(b"\r", b"\n")), ["M1"]),
    "segments ended by CR LF": (frame(M1.replace(b"\r", b"\r\n")), ["M1"]),
    "no CR at the end": (frame(M1[:-1]), ["M1"]),
    "blank lines before MSH": (frame(b"\r\n" + M1), ["M1"]),
    "a byte order mark before MSH": (frame(b"\xef\xbb\xbf" + M1), ["M1"]),
    "a message begun anew": (b"\x0b" + M1[:40] + frame(M1), ["M1"]),
    "bytes that are no text": (frame(M1 + b"NTE|1||\xff\xfe\x80\r"), ["M1"]),
}


@pytest.mark.parametrize("name", SURVIVED)
async def test_every_message_is_answered(start: Any, connect: Any, receive: Any, name: str) -> None:
    data, expected = SURVIVED[name]
    sender = await connect(await start())
    sender.send(data)
    acks = [await sender.ack() for _ in expected]
    assert [(ack.code, ack.control_id) for ack in acks] == [("AA", control_id) for control_id in expected]
    assert len(receive.taken) == len(expected)


@pytest.mark.parametrize("name", SURVIVED)
async def test_chunks_do_not_matter(start: Any, connect: Any, name: str) -> None:
    data, expected = SURVIVED[name]
    sender = await connect(await start())
    for at in range(0, len(data), 7):
        sender.send(data[at : at + 7])
        await sender.writer.drain()
    assert [(await sender.ack()).control_id for _ in expected] == expected


ENDED = {
    "half a message, then silence": (b"\x0b" + M1[:40], "mllp.frame_timeout"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "mllp.wrong_protocol"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60), "mllp.wrong_protocol"),
    "endless junk": (b"A" * 100_000, "mllp.junk"),
}


@pytest.mark.parametrize("name", ENDED)
async def test_what_leads_nowhere_is_ended_with_a_word_and_harms_nobody(
    start: Any, connect: Any, receive: Any, name: str
) -> None:
    data, event = ENDED[name]
    source = await start(frame_timeout="100ms")
    other = await connect(source)
    with capture_logs() as logs:
        sender = await connect(source)
        sender.send(data)
        assert await sender.is_closed()
    told = [entry for entry in logs if entry["event"] == event]
    assert len(told) == 1
    assert told[0]["peer"].startswith("127.0.0.1:")
    assert not receive.taken
    other.send(frame(M2))
    assert (await other.ack()).control_id == "M2"


async def test_the_protocol_that_was_met_is_named(start: Any, connect: Any) -> None:
    source = await start()
    with capture_logs() as logs:
        for data in (ENDED["HTTP"][0], ENDED["TLS"][0]):
            sender = await connect(source)
            sender.send(data)
            assert await sender.is_closed()
    assert [entry["looks_like"] for entry in logs if "looks_like" in entry] == ["http", "tls"]


async def test_messages_before_a_broken_one_are_answered(start: Any, connect: Any) -> None:
    sender = await connect(await start(frame_timeout="100ms"))
    sender.send(frame(M1) + b"\x0b" + M2[:30])
    assert (await sender.ack()).control_id == "M1"
    assert await sender.is_closed()


async def test_a_sender_that_ends_its_side_is_still_answered(start: Any, connect: Any, receive: Any) -> None:
    receive.hold = True
    sender = await connect(await start())
    sender.send(frame(M1) + b"\x0b" + M2 + b"\x1c")
    sender.writer.write_eof()
    await receive.wait_for(2)
    for taken in receive.taken:
        taken.receipt.accept(receive.answer)
        taken.receipt.finish(receive.answer)
    assert [(await sender.ack()).control_id for _ in range(2)] == ["M1", "M2"]
    assert await sender.is_closed()


async def test_a_sender_that_vanishes_takes_nothing_back(
    start: Any, connect: Any, receive: Any, eventually: Any
) -> None:
    receive.hold = True
    source = await start()
    sender = await connect(source)
    with capture_logs() as logs:
        sender.send(frame(M1))
        await receive.wait_for(1)
        linger = struct.pack("ii", 1, 0)  # the connection ends with a reset
        sender.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        sender.writer.transport.abort()
        await eventually(lambda: any(entry["event"] == "mllp.disconnected" for entry in logs))
    receipt = receive.taken[0].receipt
    assert not receipt.answer.done()
    receipt.accept(receive.answer)
    receipt.finish(receive.answer)
    other = await connect(source)
    receive.hold = False
    other.send(frame(M2))
    assert (await other.ack()).control_id == "M2"


async def test_no_log_line_holds_content(start: Any, connect: Any) -> None:
    planted = b"PLANTEDNAME"
    source = await start(frame_timeout="50ms", max_size="1KiB")
    with capture_logs() as logs:
        for data in (
            frame(M1 + b"PID|1||" + planted),
            planted * 10_000,
            b"\x0bMSH|" + planted,
            frame(M1 + planted * 200),
            frame(planted),
        ):
            sender = await connect(source)
            sender.send(data)
            sender.writer.write_eof()
            async for _ in sender.reader:
                continue
    assert logs
    assert planted.decode() not in repr(logs)
