"""What one MLLP listener gives to all of its senders together, and how it tells that somebody wants more."""

from __future__ import annotations

import asyncio
import errno
import socket
import tracemalloc
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine import keepalive
from engine.hl7.mllp import Framer, frame
from engine.sources.serving import accepting

M1 = b"MSH|^~\\&|RIS|DTI|ENGINE|HERE|20261120080000||SIU^S12|M1|P|2.3\rPID|1||P1\r"
M2 = M1.replace(b"|M1|", b"|M2|")


async def served(source: Any, address: str = "127.0.0.2") -> bool:
    """Whether a well-behaved sender, from another address, is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", source.port, local_addr=(address, 0))
    try:
        writer.write(frame(M2))
        framer, bodies = Framer(), []
        async with asyncio.timeout(5):
            while not bodies:
                data = await reader.read(4096)
                if not data:
                    return False
                bodies = framer.feed(data)
        return b"MSA|AA|M2" in bodies[0]
    finally:
        writer.close()


def events(logs: list[Any], name: str) -> list[Any]:
    return [entry for entry in logs if entry["event"] == name]


async def test_one_address_cannot_take_all_places(start: Any, connect: Any) -> None:
    source = await start(max_connections=4, max_connections_per_address=2)
    with capture_logs() as logs:
        _kept = [await connect(source) for _ in range(2)]
        third = await connect(source)
        assert await third.is_closed()
        assert await served(source)
    assert events(logs, "mllp.too_many_of_one_address")[0]["peer"].startswith("127.0.0.1:")
    assert source.summary()["since_start"]["too_many_of_one_address"] == 1


async def test_a_place_is_free_again_when_its_connection_has_ended(start: Any, connect: Any, eventually: Any) -> None:
    source = await start(max_connections=1)
    for _ in range(3):
        sender = await connect(source)
        sender.send(frame(M1))
        assert (await sender.ack()).control_id == "M1"
        sender.writer.close()
        await eventually(lambda: source.summary()["connections"] == 0)


async def test_a_flood_of_connections_is_told_in_few_lines_and_harms_nobody(start: Any, connect: Any) -> None:
    source = await start(max_connections=12, max_connections_per_address=8)
    with capture_logs() as logs:
        flood = [await connect(source) for _ in range(100)]
        assert all([await sender.is_closed() for sender in flood[8:]])
        assert await served(source)
    assert source.summary()["since_start"]["too_many_of_one_address"] == 92
    assert source.summary()["connections"] <= 12
    assert 1 <= len(events(logs, "mllp.too_many_of_one_address")) < 20


async def test_unfinished_messages_of_all_senders_have_one_bound(start: Any, connect: Any, receive: Any) -> None:
    source = await start(max_memory="100KiB", max_size="1MiB")
    with capture_logs() as logs:
        small = await connect(source)
        small.send(b"\x0b" + M1[:30])
        hogs = [await connect(source) for _ in range(3)]
        for hog in hogs:
            hog.send(b"\x0bMSH|" + b"A" * 60_000)
            await hog.writer.drain()
        assert any([await hog.is_closed() for hog in hogs[:1]])
        assert source.summary()["held_bytes"] <= 100 * 1024
        small.send(M1[30:] + b"\x1c\r")
        assert (await small.ack()).control_id == "M1"
    assert events(logs, "mllp.memory_full")
    assert "listener_full" in [code for code, _, _ in receive.refused]


async def test_many_connections_hold_little(start: Any, connect: Any, eventually: Any) -> None:
    """Forty senders, a message begun each: what is held is what came, within the bound, and no multiple of it."""
    limit, each = 4 * 1024 * 1024, 200_000
    source = await start(max_memory=limit, max_size="1MiB")
    senders = [await connect(source, local_addr=("127.0.0.1", 0)) for _ in range(40)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for sender in senders:
            sender.send(b"\x0bMSH|" + b"A" * each)
        await eventually(lambda: source.summary()["since_start"].get("memory_full", 0) > 10, 20)
        assert await served(source)
        left, peak = (value - before for value in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    # The senders live in this process too: what they could not send yet is theirs.
    unsent = sum(sender.writer.transport.get_write_buffer_size() for sender in senders)
    assert source.summary()["held_bytes"] <= limit
    assert left - unsent < 2 * limit
    assert peak < 2 * limit + len(senders) * (each + 64 * 1024)


async def test_a_message_that_comes_a_byte_at_a_time_is_given_up(start: Any, connect: Any) -> None:
    source = await start(frame_timeout="300ms")
    with capture_logs() as logs:
        sender = await connect(source)
        sender.send(b"\x0b")

        async def drip() -> None:
            while True:
                sender.send(b"A")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        try:
            assert await sender.is_closed()
        finally:
            dripping.cancel()
    assert events(logs, "mllp.too_slow")
    assert await served(source)


async def test_who_never_sent_anything_gives_its_place_up(start: Any, connect: Any) -> None:
    source = await start(max_connections=1, frame_timeout="20ms")
    silent = await connect(source)
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            while not await served(source):  # noqa: ASYNC110 - only time makes a place free here
                await asyncio.sleep(0.01)
    assert await silent.is_closed()
    assert events(logs, "mllp.displaced")


async def test_a_process_without_descriptors_waits_for_one(
    start: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "EXHAUSTED", 0.01)
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [errno.EMFILE, errno.ENFILE, errno.EMFILE]

    async def scarce(listening: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(), "none left")
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", scarce)
    with capture_logs() as logs:
        source = await start()
        assert await served(source)
    assert len(events(logs, "mllp.cannot_accept")) == 3, "told once for each wait, and not in a circle"


async def test_a_vanished_peer_will_be_found(
    start: Any, connect: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an accepted connection asks of the system; that it is found then is the system's promise."""
    made: list[socket.socket] = []
    begin = accepting.Acceptor._begin

    async def seen(self: Any, connected: socket.socket, *rest: Any) -> None:
        made.append(connected)
        await begin(self, connected, *rest)

    monkeypatch.setattr(accepting.Acceptor, "_begin", seen)
    source = await start()
    await connect(source)
    await eventually(lambda: bool(made))
    assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert made[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == keepalive.KEEPALIVE_IDLE


def test_what_is_no_tcp_is_left_alone() -> None:
    left, right = socket.socketpair()
    with left, right:
        keepalive.keep_alive(left)


HOSTILE = {
    "ten thousand segments": M1 + b"".join(b"NTE|%d||x\r" % number for number in range(10_000)),
    "five thousand repetitions": M1 + b"AIL|1||" + b"~".join([b"a^b&c"] * 5_000) + b"\r",
    "subcomponents without end": M1 + b"OBX|1||" + b"&" * 50_000 + b"\r",
    "NUL bytes": M1 + b"NTE|1||" + bytes(1000) + b"\r",
    "VT inside": M1 + b"NTE|1||" + b"\x0b" * 1000 + b"\r",
    "binary": M1 + b"OBX|1||" + bytes(number for number in range(256) if number not in (0x0B, 0x0D, 0x1C)) + b"\r",
    "line feeds without end": M1 + b"NTE|1||" + b"\n" * 100_000 + b"x\r",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_odd_but_hl7_is_taken_as_it_came(start: Any, connect: Any, receive: Any, name: str) -> None:
    source = await start()
    sender = await connect(source)
    sender.send(frame(HOSTILE[name]))
    assert (await sender.ack()).code == "AA"
    assert receive.bodies == [HOSTILE[name]]
    assert source.summary()["held_bytes"] == 0
