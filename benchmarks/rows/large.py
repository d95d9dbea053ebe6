"""A large message beside small ones: how long it takes, what memory it costs, and what the others feel of it.

    python -m benchmarks --rows large --scale 0.2      # 10 MB

The engine is a process of its own (``synchronous=FULL``, bodies sealed, log lines on) with two channels: ``documents``
takes an ORU^R01 whose OBX-5 holds a document in base64, changes one field of MSH and sends it on over MLLP and into a
file; ``adt`` takes small messages from four connections, each every 20 ms. Partner, large sender and small senders are
processes of their own. Peak memory is VmHWM, also of the process that writes where there is one; the p99 of the small
messages' acknowledgements is taken without a large message and while one is on its way.
"""

from __future__ import annotations

import json
import re
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.finding import Finding, Line, at_most
from benchmarks.machine import ROOT
from benchmarks.measure import Bench, delivered, finding
from benchmarks.peers import END, VT, answer
from benchmarks.processes import Engine, until, wait_for

SITE = """\
rest: {port: "${REST_PORT}"}
admin: {port: "${ADMIN_PORT}"}
"""
PORTS = ("IN_PORT", "SMALL_IN_PORT", "OUT_PORT", "ADMIN_PORT", "REST_PORT")
PEER = [sys.executable, "-m", "benchmarks.peers"]
#: Seconds without a large message, to compare with.
BEFORE = 4.0
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
  mllp: {port: "${SMALL_IN_PORT}"}
destinations:
  - name: emr
    to: {mllp: {host: 127.0.0.1, port: "${OUT_PORT}"}}
"""
MEGABYTE = 1_000_000


def document(control_id: str, megabytes: int) -> bytes:
    """An ORU^R01 with a document of that size."""
    head = f"MSH|^~\\&|LAB|A|E|S|20260101||ORU^R01|{control_id}|P|2.5.1\rPID|1||P1||Doe^John\rOBR|1\r"
    return f"{head}OBX|1|ED|PDF||^application^pdf^Base64^".encode() + b"QUJD" * (megabytes * MEGABYTE // 4) + b"\r"


def p99(times: list[float]) -> float:
    """Milliseconds."""
    return sorted(times)[max(0, int(len(times) * 0.99) - 1)] * 1000 if times else 0.0


def measured(bench: Bench, megabytes: int, times: int) -> dict[str, Any]:
    """One engine, ``times`` large messages one after the other."""
    files = {"site.yaml": SITE, "channels/documents.yaml": DOCUMENTS, "channels/adt.yaml": ADT}
    with bench.scratch() as folder:
        engine = Engine(folder, files, PORTS)
        partner = subprocess.Popen([*PEER, "sink", str(engine.ports["OUT_PORT"])], stdout=subprocess.DEVNULL, cwd=ROOT)
        try:
            wait_for(engine.ports["OUT_PORT"])
            with engine.start():
                return watched(engine, megabytes, times, min(BEFORE, bench.seconds(BEFORE) * 2))
        finally:
            partner.kill()
            partner.wait()


def watched(engine: Engine, megabytes: int, times: int, before: float) -> dict[str, Any]:
    """The measurement itself."""
    command = [*PEER, "probe", str(engine.ports["SMALL_IN_PORT"])]
    senders = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        time.sleep(before)
        rest, begun, before_it, syncs = engine.memory(), time.monotonic(), engine.processor(), engine.syncs()[0]
        spans = [one_large(engine, number, megabytes) for number in range(times)]
        took = time.monotonic() - begun
        used, written = (now - then for now, then in zip(engine.processor(), before_it, strict=True))
        found, _ = senders.communicate(timeout=60)
    finally:
        senders.kill()
        senders.wait()
    samples = json.loads(found)
    inside = [wait for at, wait in samples if any(begin <= at <= end for begin, _, end in spans)]
    outside = [wait for at, wait in samples if at < begun]
    peak = engine.memory("VmHWM")
    return {
        "megabytes": megabytes,
        "acknowledged_s": [acked - begin for begin, acked, _ in spans],
        "delivered_s": [end - begin for begin, _, end in spans],
        "memory_before_mb": rest,
        "peak_mb": peak,
        "times_its_size": (peak - rest) / megabytes,
        "others_p99_ms_without": p99(outside),
        "others_p99_ms_meanwhile": p99(inside),
        "others_worst_ms": max(inside, default=0.0) * 1000,
        "others_samples": {"without": len(outside), "meanwhile": len(inside)},
        "durability": engine.durability,
        "fsyncs": engine.syncs()[0] - syncs,
        "cpu": {"engine": used / took, "writing": written / took},
    }


def one_large(engine: Engine, number: int, megabytes: int) -> tuple[float, float, float]:
    """When it was sent, acknowledged, and delivered to both."""
    framed = VT + document(f"L{number}", megabytes) + END
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", engine.ports["IN_PORT"])) as connection:
        connection.sendall(framed)
        if not re.search(rb"MSA\|[AC]A\|", answer(connection)):
            raise RuntimeError("the large message was not acknowledged")
    acked = time.monotonic()
    until(lambda: delivered(engine.channel("documents")) > number, 0.05)
    ended = time.monotonic()
    time.sleep(1)
    return begun, acked, ended


def row(bench: Bench) -> Finding:
    """One message of 50 MB after the other, beside small ones."""
    run = measured(bench, max(1, int(50 * bench.scale)), bench.repeats)
    result = finding({"engine": [{"what": "engine", **run}]}, "engine", "others_worst_ms", "others_samples")
    result.facts |= {name: round(statistics.median(run[name]), 2) for name in ("acknowledged_s", "delivered_s")}
    result.facts["megabytes"] = run["megabytes"]
    told = "the same without it"
    others, without = [run["others_p99_ms_meanwhile"]], [run["others_p99_ms_without"]]
    result.lines = [
        Line("peak memory above rest, by its size", "×", [run["times_its_size"]], at_most(3.0)),
        Line("others' p99 meanwhile", "ms", others, at_most(50), told, without),
    ]
    return result
