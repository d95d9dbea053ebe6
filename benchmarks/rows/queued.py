"""What waits: memory with a million queued, costs beside what is stored, and the neighbours of a dead partner."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.finding import Finding, Line, at_least, at_most
from benchmarks.machine import ROOT
from benchmarks.measure import Bench, column, finding, under_load
from benchmarks.processes import STORE_KEY, Engine, Sink, memory
from benchmarks.soak.rig import CHANNEL, Rig, turn

SITE = """\
rest: {port: "${REST_PORT}"}
admin: {port: "${ADMIN_PORT}"}
"""
PORTS = ("IN_PORT", "LIVE_PORT", "OTHER_PORT", "ADMIN_PORT", "REST_PORT")


def fill(data: Path, number: int, key: str) -> None:
    """Messages queued for ``other``, written by the engine's own store."""
    command = [sys.executable, "-m", "benchmarks.fill", str(data), str(number)]
    environment = os.environ | {"HL7ENGINE_STORE_KEY": key}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the store was not filled: {done.stderr.strip().splitlines()[-1:]}")


def loaded(bench: Bench) -> Finding:
    """Memory under full load with a million queued for a partner that is away."""
    number = bench.some(1_000_000)
    with bench.scratch() as folder:
        engine = Engine(folder, {"site.yaml": SITE, "channels/router.yaml": CHANNEL}, PORTS)
        began = time.monotonic()
        fill(engine.data, number, STORE_KEY)
        filled = time.monotonic() - began
        with Sink(engine.ports["LIVE_PORT"]) as sink, engine.start():
            before = engine.memory()
            run = under_load(engine, "router", engine.ports["IN_PORT"], 32, bench.seconds(8.0), sink, number)
            peak, alone = engine.memory("VmHWM"), memory(engine.pid, "VmHWM")
    run = {"what": "engine", **run, "filled_s": filled, "started_s": engine.started_after}
    run |= {"peak_mb": {"engine": alone, "writing": peak - alone}}
    result = finding({"engine": [run]}, "engine", "filled_s", "started_s", "settled_per_s", "peak_mb")
    result.facts |= {"queued": number, "memory_after_start_mb": round(before, 1)}
    result.facts["filled_by"] = "the engine's own store, a thousand messages to a commit"
    result.lines.append(Line("peak memory", "MB", [peak], at_most(250)))
    return result


def dead(bench: Bench) -> Finding:
    """The live destination, in turns with an engine for which nothing waits."""
    number, seconds = bench.some(100_000), bench.seconds(2.5)
    with bench.scratch() as folder:
        rigs = {"with": Rig(folder / "with"), "without": Rig(folder / "without")}
        try:
            key = (rigs["with"].folder / "store.keys").read_text().strip().partition(":")[2]
            fill(rigs["with"].folder / "data", number, key)
            runs = turns(rigs, 2 * bench.repeats, seconds)
        finally:
            for rig in rigs.values():
                rig.end()
    result = finding(runs, "with")
    told = "an engine for which nothing waits"
    ours, base = (column(runs[name], "settled_per_s") for name in ("with", "without"))
    result.facts |= {"queued": number, "processor_us": {name: column(runs[name], "processor_us") for name in runs}}
    result.lines.append(Line("settled at the others", "messages/s", ours, None, told, base, at_least(0.95)))
    return result


def turns(rigs: dict[str, Rig], number: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Each engine in its turn, the other one stopped meanwhile; the first pair warms up and is left out."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in rigs}
    for rig in rigs.values():
        rig.sink("live")
        rig.start()
        rig.freeze()
    for round_number in range(number + 1):
        for name in sorted(rigs, reverse=bool(round_number % 2)):
            rigs[name].thaw()
            time.sleep(0.3)
            one = turn(rigs[name], seconds, 32)
            rigs[name].freeze()
            if round_number:
                run = {"what": name, "settled_per_s": one.settled, "p50_ms": one.p50, "p99_ms": one.p99}
                runs[name].append(run | {"processor_us": one.processor})
    return runs
