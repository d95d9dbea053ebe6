"""First figures of the main path, beside the reference, in one run.

    python benchmarks/main_path.py [--seconds 30] [--connections 1 8 32] [--json FILE]

For each number of connections: the engine (its own process, ``synchronous=FULL``, log lines on) between a load
generator and a sink (C programs of ``benchmarks/load``, built with ``cc``), then ``hl7.mllp`` alone under that load.
A rate is what the sink acknowledged and the store settled by the end; the backlog left at the end stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOAD = HERE / "load"
HL7ENGINE = str(Path(sys.executable).with_name("hl7engine"))


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, deadline: float = 20.0) -> None:
    """Wait until something listens on ``port``."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def load(port: int, connections: int, seconds: int) -> dict[str, Any]:
    """Run the load generator; its own JSON line."""
    command = [str(LOAD / "mllpload"), "--target", f"127.0.0.1:{port}", "--connections", str(connections)]
    done = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def engine(connections: int, seconds: int) -> dict[str, Any]:
    """The engine between load generator and sink."""
    ports = {name: free_port() for name in ("BENCH_IN_PORT", "BENCH_OUT_PORT", "BENCH_REST_PORT", "BENCH_ADMIN_PORT")}
    environment = {**os.environ, **{name: str(port) for name, port in ports.items()}}
    with tempfile.TemporaryDirectory() as data:
        sink = subprocess.Popen(
            [str(LOAD / "mllpsink"), "--port", str(ports["BENCH_OUT_PORT"])], stdout=subprocess.PIPE, text=True
        )
        with (Path(data) / "log").open("wb") as log:
            command = [HL7ENGINE, "run", str(HERE / "site"), "--data", f"{data}/data"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                wait_for(ports["BENCH_IN_PORT"])
                begun = time.monotonic()
                result = load(ports["BENCH_IN_PORT"], connections, seconds)
                elapsed = time.monotonic() - begun
                settled, backlog = counts(Path(data) / "data")
                cpu = sum(os_times(process.pid)) / elapsed
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
                sink.terminate()
                sink.wait(10)
    return {"load": result, "settled_per_s": settled / elapsed, "backlog": backlog, "cpu": cpu}


def counts(data: Path) -> tuple[int, int]:
    """Delivered since start and what waits, from the running engine."""
    command = [HL7ENGINE, "channels", "--data", str(data), "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    channel = (found["channels"] if isinstance(found, dict) else found)[0]
    destination = channel["destinations"][0]
    return destination["delivered_since_start"], destination["queued"] + channel.get("received", 0)


def os_times(pid: int) -> tuple[float, float]:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


def reference(connections: int, seconds: int) -> dict[str, Any]:
    """``hl7.mllp`` alone under the same load."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "reference_hl7_mllp.py"), str(port)], stdout=subprocess.PIPE)
    try:
        wait_for(port)
        return load(port, connections, seconds)
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    subprocess.run(["make", "-s", "-C", str(LOAD)], check=True)
    rows = []
    for connections in options.connections:
        row = {"connections": connections, "engine": engine(connections, options.seconds)}
        row["reference"] = reference(connections, options.seconds)
        rows.append(row)
        print(json.dumps(row), flush=True)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "durability": "synchronous=FULL"}
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print("\nconnections | engine settled/s | accepted/s | p50 ms | p99 ms | backlog | hl7.mllp/s | p50 ms | ratio")
    for row in rows:
        ours, theirs, load_of = row["engine"], row["reference"], row["engine"]["load"]
        cells = (
            f"{row['connections']:11}",
            f"{ours['settled_per_s']:16.0f}",
            f"{load_of['per_s']:10.0f}",
            f"{load_of['p50_ms']:6.2f}",
            f"{load_of['p99_ms']:6.2f}",
            f"{ours['backlog']:7}",
            f"{theirs['per_s']:10.0f}",
            f"{theirs['p50_ms']:6.2f}",
            f"{ours['settled_per_s'] / theirs['per_s']:5.2f}",
        )
        print(" | ".join(cells))


if __name__ == "__main__":
    main()
