"""Start, memory at rest, and the way back after SIGKILL."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.finding import Aim, Finding, Line, at_least, at_most
from benchmarks.measure import Bench, column, finding, median_of, unfinished
from benchmarks.processes import Engine, Sink, load, until
from benchmarks.rows import main_path, requests

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
    """From the launch of the process until every listener accepts; with five channels also the memory at rest."""
    files = {f"channels/feed-{number}.yaml": CHANNEL.format(number=number) for number in range(channels)}
    ports = ("ADMIN_PORT", "REST_PORT", *(f"C{number}_IN_PORT" for number in range(channels)))
    with bench.scratch() as folder:
        engine = Engine(folder, {"site.yaml": SITE, "tables/receivers.csv": TABLE, **files}, ports)
        return started(bench, engine, at_most(aim), at_most(90) if channels == 5 else None)


def start_site(bench: Bench) -> Finding:
    """The same of this repository's site."""
    with bench.scratch() as folder:
        return started(bench, requests.engine_in(folder), None, None)


def started(bench: Bench, engine: Engine, aim: Aim | None, rest: Aim | None) -> Finding:
    """Starts one after the other; the first, which makes data folder, secrets and certificates, is told apart."""
    runs: list[dict[str, Any]] = []
    for number in range(bench.repeats + 1):
        with engine.start():
            time.sleep(REST)
            run = {"what": "start" if number else "first start", "started_s": engine.started_after}
            run |= {"memory_mb": engine.memory(), "cpu_s": sum(engine.processor()), "durability": engine.durability}
            runs.append(run)
    later = runs[1:]
    result = finding({"start": later}, "start", "cpu_s")
    result.runs = runs
    result.facts["first_start_s"] = round(runs[0]["started_s"], 2)
    result.lines.append(Line("all listeners accept", "s", column(later, "started_s"), aim))
    result.lines.append(Line("memory at rest", "MB", column(later, "memory_mb"), rest))
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
            (cpu, writing), syncs = engine.processor(), engine.syncs()[0]
            until(lambda: sink.counts()["distinct"] >= number, 0.02, PATIENT)
            until(lambda: unfinished(engine.channel("bench")) == 0, 0.02, PATIENT)
            took = time.monotonic() - began - first
            used, written = engine.processor()
            run = {
                "what": "engine",
                "filled_per_s": filled["per_s"],
                "first_s": first,
                "all_s": took,
                "settled_per_s": number / took,
                "durability": engine.durability,
                "fsyncs": engine.syncs()[0] - syncs,
                "messages_per_fsync": number / max(1, engine.syncs()[0] - syncs),
                "cpu": {"engine": (used - cpu) / took, "writing": (written - writing) / took},
                "memory_mb": engine.memory(),
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
