"""The main path: MLLP in, commit, transform, commit, MLLP out, settle; beside a server that only parses and acks."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.finding import Aim, Finding, Line, at_least, at_most
from benchmarks.measure import Bench, column, finding, reference, under_load
from benchmarks.processes import HERE, Engine, Sink
from benchmarks.references.append import append

SITE = HERE / "site"
PORTS = ("BENCH_IN_PORT", "BENCH_OUT_PORT", "BENCH_ADMIN_PORT", "BENCH_REST_PORT")
HL7_MLLP = "hl7.mllp, parse and ack only"
#: Seconds of a run of the engine and of the reference.
SECONDS = {32: (20.0, 5.0), 8: (8.0, 4.0), 1: (8.0, 4.0)}


def measured(bench: Bench, connections: int, seconds: float) -> dict[str, Any]:
    """One engine, one load, one sink."""
    with bench.scratch() as folder:
        engine = Engine(folder, SITE, PORTS)
        with Sink(engine.ports["BENCH_OUT_PORT"]) as sink, engine.start():
            run = under_load(engine, "bench", engine.ports["BENCH_IN_PORT"], connections, seconds, sink)
            return {"connections": connections, **run}


def row(connections: int, bench: Bench) -> Finding:
    """The rate at so many connections; at one also what the sender feels."""
    ours, theirs = (bench.seconds(seconds) for seconds in SECONDS[connections])
    actions = {
        "engine": partial(measured, bench, connections, ours),
        "hl7.mllp": partial(reference, "hl7_mllp", connections, theirs),
    }
    if connections == 1:
        actions["append"] = partial(appended, bench, bench.seconds(1.0))
    runs = bench.rounds(**actions)
    result = finding(runs, "engine", "accepted_per_s", "p50_ms", "p99_ms")
    busy = connections == 32
    result.lines.append(
        Line(
            "settled",
            "messages/s",
            column(runs["engine"], "settled_per_s"),
            at_least(10_000) if busy else None,
            HL7_MLLP,
            column(runs["hl7.mllp"], "per_s"),
            at_least(4.0) if busy else None,
        )
    )
    if connections == 1:
        result.lines += [felt(runs, "p50", at_most(0.5)), felt(runs, "p99", at_most(1.5))]
    return result


def appended(bench: Bench, seconds: float) -> dict[str, Any]:
    """The disk alone, one message for each fdatasync."""
    with bench.scratch() as folder:
        return append(folder, 1, seconds)


def felt(runs: dict[str, list[dict[str, Any]]], name: str, aim: Aim) -> Line:
    """The sender's wait for its ack beside the disk's own."""
    against = "file append and fdatasync, one message each"
    return Line(
        f"sender's view, {name}",
        "ms",
        column(runs["engine"], f"{name}_ms"),
        aim,
        against,
        column(runs["append"], f"{name}_ms"),
    )


def curve(bench: Bench) -> Finding:
    """One run at the numbers of connections between: for the chart."""
    result = Finding()
    seconds = bench.seconds(2.5)
    for connections in (2, 4, 16, 64):
        ours, theirs = measured(bench, connections, seconds), reference("hl7_mllp", connections, seconds / 2)
        result.runs += [{"what": "engine", **ours}, {"what": "hl7.mllp", "connections": connections, **theirs}]
        line = Line(
            f"settled, {connections} connections",
            "messages/s",
            [ours["settled_per_s"]],
            against=HL7_MLLP,
            reference=[theirs["per_s"]],
        )
        result.lines.append(line)
    return result
