"""Partners of the row ``large``, each a process of its own: a sink for frames of any size, and senders of small ones.

python -m benchmarks.peers sink|probe PORT
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

VT, END = b"\x0b", b"\x1c\r"


def small(number: int) -> bytes:
    """A small message."""
    return (
        f"MSH|^~\\&|ADT|A|E|S|20260101||ADT^A08|S{number}|P|2.3\rPID|1||P{number % 50}||Doe^John\r" + "NTE|1||x\r" * 30
    ).encode()


def answer(connection: socket.socket) -> bytes:
    """The next acknowledgement."""
    buffer = b""
    while not buffer.endswith(END):
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError
        buffer += data
    return buffer


def sink(port: int) -> None:
    """A partner that acknowledges everything and keeps nothing."""

    def serve(connection: socket.socket) -> None:
        head, tail, buffer = b"", b"", bytearray(1 << 20)
        while count := connection.recv_into(buffer):
            data = memoryview(buffer)[:count]
            if len(head) < 4096:
                head += bytes(data[:4096])
            tail = (tail + bytes(data[-2:]))[-2:]
            if tail == END:
                control_id = head.split(b"|", 10)[9].decode()
                ack = f"MSH|^~\\&|S|S|E|E|20260101||ACK|A{control_id}|P|2.3\rMSA|AA|{control_id}\r"
                connection.sendall(VT + ack.encode() + END)
                head = tail = b""

    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def probe(port: int) -> None:
    """Small messages until stdin ends; then (time, seconds until its ack) of each, as JSON."""
    times: list[tuple[float, float]] = []
    done = threading.Event()

    def run(first: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = first
            while not done.wait(0.02):
                number += 4
                framed = VT + small(number) + END
                begun = time.monotonic()
                connection.sendall(framed)
                answer(connection)
                times.append((begun, time.monotonic() - begun))

    threads = [threading.Thread(target=run, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    done.set()
    for thread in threads:
        thread.join()
    print(json.dumps(times))


if __name__ == "__main__":
    {"sink": sink, "probe": probe}[sys.argv[1]](int(sys.argv[2]))
