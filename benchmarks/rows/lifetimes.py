"""Start, memory at rest, and the way back after SIGKILL."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.finding import Finding, Line, at_least, at_most
from benchmarks.measure import Bench, column, finding, median_of, unfinished
from benchmarks.processes import Engine, Sink, load, memory, processor, until
from benchmarks.rows import main_path

SITE = """\
rest: {port: "${REST_PORT}"}
admin: {port: "${ADMIN_PORT}"}
"""
CHANNEL = """\
name: feed-{number}
source:
  mllp: {{port: "${{C{number}_IN_PORT}}"}}
order: {{key: PID-3.1}}
transform:
  - keep: {{MSH-9.1: SIU}}
  - lookup: {{table: receivers, key: MSH-4, into: receiver, missing: error}}
  - set: {{MSH-5: $receiver.application, SCH-25: Booked^^HL70278}}
  - convert: {{version: "2.3.1"}}
destinations:
  - name: emr
    to: {{mllp: {{host: 127.0.0.1, port: 9}}}}
"""
TABLE = "sender,application,facility\nHOSPITAL,EMR,SITEB\n"
#: Seconds at rest before memory is read.
REST = 2.0
#: Seconds in which everything that is queued must have gone.
PATIENT = 300.0


def start(channels: int, aim: float, bench: Bench) -> Finding:
    """From the launch of the process until every listener accepts; and with five channels the memory at rest."""
    runs: list[dict[str, Any]] = []
    with bench.scratch() as folder:
        files = {f"channels/feed-{number}.yaml": CHANNEL.format(number=number) for number in range(channels)}
        ports = ("ADMIN_PORT", "REST_PORT", *(f"C{number}_IN_PORT" for number in range(channels)))
        engine = Engine(folder, {"site.yaml": SITE, "tables/receivers.csv": TABLE, **files}, ports)
        # The first start makes the data folder, secrets and a certificate authority; it is told apart.
        for number in range(bench.repeats + 3):
            with engine.start():
                run = {"what": "first start" if number == 0 else "start", "started_s": engine.started_after}
                if number == 0 or channels == 5:
                    time.sleep(REST)
                runs.append(run | {"memory_mb": memory(engine.pid), "cpu_s": processor(engine.pid)})
                runs[-1]["durability"] = engine.durability
    later = runs[1:]
    result = finding({"start": later}, "start")
    result.runs = runs
    result.facts["first_start_s"] = round(runs[0]["started_s"], 2)
    result.lines.append(Line("all listeners accept", "s", column(later, "started_s"), at_most(aim)))
    if channels == 5:
        result.lines.append(Line("memory at rest", "MB", column(later, "memory_mb"), at_most(90)))
    return result


def recovery(bench: Bench) -> Finding:
    """SIGKILL with messages queued for a partner that is away; then engine and partner come back."""
    number = bench.some(100_000)
    with bench.scratch() as folder:
        engine = Engine(folder, main_path.SITE, main_path.PORTS)
        with engine.start():
            filled = load(engine.ports["BENCH_IN_PORT"], 32, messages=number)
            until(lambda: unfinished(engine.channel("bench")) >= number, 0.2, PATIENT)
            engine.kill()
        with Sink(engine.ports["BENCH_OUT_PORT"]) as sink, engine:
            began = time.monotonic()
            engine.start()
            until(lambda: sink.counts()["frames"] > 0, 0.003)
            first = time.monotonic() - began
            cpu, syncs = processor(engine.pid), engine.syncs()[0]
            until(lambda: sink.counts()["distinct"] >= number, 0.02, PATIENT)
            until(lambda: unfinished(engine.channel("bench")) == 0, 0.02, PATIENT)
            took = time.monotonic() - began - first
            run = {
                "what": "engine",
                "filled_per_s": filled["per_s"],
                "first_s": first,
                "all_s": took,
                "settled_per_s": number / took,
                "durability": engine.durability,
                "fsyncs": engine.syncs()[0] - syncs,
                "messages_per_fsync": number / max(1, engine.syncs()[0] - syncs),
                "cpu": {"engine": (processor(engine.pid) - cpu) / took},
                "memory_mb": memory(engine.pid),
                "twice": sink.counts()["duplicates"],
            }
    result = finding({"engine": [run]}, "engine", "filled_per_s", "all_s", "twice")
    result.facts["queued"] = number
    full = median_of(bench, "main-32", "settled")
    result.lines = [
        Line("first delivery after", "s", [first], at_most(1.5)),
        Line(
            "all delivered and settled, at",
            "messages/s",
            [run["settled_per_s"]],
            None,
            "the main path at 32 connections" if full else "",
            [full] if full else [],
            at_least(1.0) if full else None,
        ),
    ]
    return result
