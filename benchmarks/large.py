"""A large message beside small ones: how long it takes, what memory it costs, and what the others feel of it.

    python benchmarks/large.py [--megabytes 50] [--times 3] [--json FILE]

The engine is a process of its own (``synchronous=FULL``, bodies sealed, log lines on) with two channels: ``documents``
takes an ORU^R01 whose OBX-5 holds a document in base64, changes one field of MSH and sends it on over MLLP and into a
file; ``adt`` takes small messages from four connections, each every 20 ms. Partner, large sender and small senders are
processes of their own. Peak memory is the engine's own VmHWM; the p99 of the small messages' acknowledgements is taken
without a large message and while one is on its way.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HL7ENGINE = str(Path(sys.executable).with_name("hl7engine"))
SITE = """\
rest: {port: 0}
admin: {port: 0}
"""
DOCUMENTS = """\
name: documents
source:
  mllp: {port: "${IN_PORT}", max_size: 256MiB, frame_timeout: 5m}
transform:
  - set: {MSH-5: ARCHIVE}
destinations:
  - name: archive
    to: {mllp: {host: 127.0.0.1, port: "${OUT_PORT}", timeout: 5m}}
  - name: folder
    transform: [{set: {MSH-6: FOLDER}}]
    to: {file: {path: "out/{message_id}.hl7"}}
"""
ADT = """\
name: adt
source:
  mllp: {port: "${SMALL_PORT}"}
destinations:
  - name: emr
    to: {mllp: {host: 127.0.0.1, port: "${OUT_PORT}"}}
"""
VT, END = b"\x0b", b"\x1c\r"
MEGABYTE = 1_000_000


def small(number: int) -> bytes:
    """A small message."""
    return (
        f"MSH|^~\\&|ADT|A|E|S|20260101||ADT^A08|S{number}|P|2.3\rPID|1||P{number % 50}||Doe^John\r" + "NTE|1||x\r" * 30
    ).encode()


def document(control_id: str, megabytes: int) -> bytes:
    """An ORU^R01 with a document of that size."""
    head = f"MSH|^~\\&|LAB|A|E|S|20260101||ORU^R01|{control_id}|P|2.5.1\rPID|1||P1||Doe^John\rOBR|1\r"
    return f"{head}OBX|1|ED|PDF||^application^pdf^Base64^".encode() + b"QUJD" * (megabytes * MEGABYTE // 4) + b"\r"


def answer(connection: socket.socket) -> bytes:
    """The next acknowledgement."""
    buffer = b""
    while not buffer.endswith(END):
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError
        buffer += data
    return buffer


# -- processes of their own ----------------------------------------------------------------------------------------


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


# -- the measurement -----------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def memory(pid: int, name: str) -> float:
    """``VmHWM`` or ``VmRSS`` of a process, in megabytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / MEGABYTE if found else 0.0


def p99(times: list[float]) -> float:
    """Milliseconds."""
    return round(sorted(times)[max(0, int(len(times) * 0.99) - 1)] * 1000, 1) if times else 0.0


def wait_for(condition: Any, seconds: float = 120.0) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("it did not happen in time")
        time.sleep(0.01)


def measure(megabytes: int, times: int) -> dict[str, Any]:
    """One engine, ``times`` large messages one after the other."""
    ports = {name: str(free_port()) for name in ("IN_PORT", "OUT_PORT", "SMALL_PORT")}
    role = [sys.executable, __file__, "--role"]
    with tempfile.TemporaryDirectory() as temporary:
        site = Path(temporary) / "site"
        (site / "channels").mkdir(parents=True)
        for name, text in (("site", SITE), ("channels/documents", DOCUMENTS), ("channels/adt", ADT)):
            (site / f"{name}.yaml").write_text(text)
        partner = subprocess.Popen([*role, "sink", ports["OUT_PORT"]], stdout=subprocess.PIPE)
        log_file = Path(temporary) / "log"
        with log_file.open("wb") as log:
            engine = subprocess.Popen([HL7ENGINE, "run", str(site)], stderr=log, stdout=log, env=os.environ | ports)
        try:
            wait_for(lambda: b"engine.started" in log_file.read_bytes())
            return watched(engine, role, ports, log_file, site / "data" / "out", megabytes, times)
        finally:
            engine.send_signal(signal.SIGTERM)
            engine.wait(60)
            partner.kill()
            partner.wait()


def watched(
    engine: subprocess.Popen[bytes],
    role: list[str],
    ports: dict[str, str],
    log_file: Path,
    out: Path,
    megabytes: int,
    times: int,
) -> dict[str, Any]:
    """The measurement itself."""
    small_senders = subprocess.Popen(
        [*role, "probe", ports["SMALL_PORT"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    time.sleep(4)
    before, begun_all = memory(engine.pid, "VmRSS"), time.monotonic()
    spans, acked, delivered = [], [], []
    for number in range(times):
        framed = VT + document(f"L{number}", megabytes) + END
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", int(ports["IN_PORT"]))) as connection:
            connection.sendall(framed)
            if b"MSA|AA|" not in answer(connection):
                raise SystemExit("the large message was not acknowledged")
            acked.append(time.monotonic() - begun)
        control_id = f'"control_id": "L{number}"'.encode()
        wait_for(lambda wanted=control_id: log_file.read_bytes().count(wanted) >= 2)
        delivered.append(time.monotonic() - begun)
        spans.append((begun, time.monotonic()))
        time.sleep(1)
    found, _ = small_senders.communicate()
    samples = json.loads(found)
    inside = [taken for at, taken in samples if any(begin <= at <= end for begin, end in spans)]
    outside = [taken for at, taken in samples if at < begun_all]
    return {
        "megabytes": megabytes,
        "acknowledged_s": round(statistics.median(acked), 2),
        "delivered_s": round(statistics.median(delivered), 2),
        "rss_before_mb": round(before),
        "peak_mb": round(memory(engine.pid, "VmHWM")),
        "others_p99_ms_without": p99(outside),
        "others_p99_ms_meanwhile": p99(inside),
        "others_worst_ms": round(max(inside) * 1000, 1) if inside else 0.0,
        "samples": [len(outside), len(inside)],
        "written": len(list(out.iterdir())),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--role", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        {"sink": sink, "probe": probe}[options.role[0]](int(options.role[1]))
        return
    results = []
    for megabytes in options.megabytes:
        results.append(measure(megabytes, options.times))
        print(json.dumps(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
