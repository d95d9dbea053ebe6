"""The main path: MLLP in, commit, transform, commit, MLLP out, settle; beside a server that only parses and acks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.finding import Aim, Finding, Line, at_least, at_most
from benchmarks.measure import Bench, column, finding, reference, under_load
from benchmarks.processes import HERE, Engine, Sink
from benchmarks.references.append import append

SITE = HERE / "site"
PORTS = ("BENCH_IN_PORT", "BENCH_OUT_PORT", "BENCH_ADMIN_PORT", "BENCH_REST_PORT")
HL7_MLLP = "hl7.mllp, parse and ack only"
#: Seconds of a run of the engine and of the reference: a minute where the rate is the one that is asked for.
SECONDS = {32: (60.0, 3.0), 8: (6.0, 3.0), 1: (6.0, 3.0)}


def measured(bench: Bench, connections: int, seconds: float, more: str = "") -> dict[str, Any]:
    """One engine, one load, one sink; ``more`` for the end of its site.yaml."""
    return together(bench, 1, connections, seconds, more)[0]


def together(bench: Bench, engines: int, connections: int, seconds: float, more: str = "") -> list[dict[str, Any]]:
    """Engines at the same time, each with a data folder, a load and a sink of its own; what each of them found."""
    with ExitStack() as stack:
        running = []
        for _ in range(engines):
            engine = Engine(stack.enter_context(bench.scratch()), SITE, PORTS, more)
            sink = stack.enter_context(Sink(engine.ports["BENCH_OUT_PORT"]))
            running.append((stack.enter_context(engine.start()), sink))

        def one(engine: Engine, sink: Sink) -> dict[str, Any]:
            run = under_load(engine, "bench", engine.ports["BENCH_IN_PORT"], connections, seconds, sink)
            return {"connections": connections, **run}

        with ThreadPoolExecutor(engines) as pool:
            return list(pool.map(one, *zip(*running, strict=True)))


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


def writing(bench: Bench) -> Finding:
    """The same engine with and without the process that writes."""
    seconds, site = bench.seconds(6.0), "store: {{writing_process: {}}}\n"
    runs = bench.rounds(
        **{word: partial(measured, bench, 32, seconds, site.format(word)) for word in ("true", "false")}
    )
    result = finding(runs, "true", "p50_ms", "p99_ms")
    apart, alone = (column(runs[word], "settled_per_s") for word in ("true", "false"))
    used, told = {word: column(runs[word], "cpu_us") for word in runs}, "without it"
    result.lines = [
        Line("settled", "messages/s", apart, None, told, alone),
        Line("processor for each message, of both", "µs", used["true"], None, told, used["false"]),
    ]
    return result


def two_processes(bench: Bench) -> Finding:
    """Two engines beside one, at the same number of connections in all: what a second engine would bring."""

    def two() -> dict[str, Any]:
        found = together(bench, 2, 16, seconds)
        fsyncs, answered = (sum(run[name] for run in found) for name in ("fsyncs", "answered"))
        cpu = {f"engine {number}": run["cpu"]["engine"] for number, run in enumerate(found, 1)}
        return {
            "settled_per_s": sum(run["settled_per_s"] for run in found),
            "messages_per_fsync": answered / fsyncs,
            "fsyncs_per_s": sum(run["fsyncs_per_s"] for run in found),
            "fsync_ms": sum(run["fsync_ms"] * run["fsyncs"] for run in found) / fsyncs,
            "cpu": {"engine": sum(cpu.values()), "writing": sum(run["cpu"]["writing"] for run in found), **cpu},
            "cpu_us": sum(run["cpu_us"] * run["answered"] for run in found) / answered,
            "backlog": [sum(each) for each in zip(*(run["backlog"] for run in found), strict=True)],
            "durability": found[0]["durability"],
            "each": found,
        }

    seconds = bench.seconds(4.0)
    runs = bench.rounds(two=two, one=partial(measured, bench, 32, seconds))
    result = finding(runs, "two")
    ours, alone = (column(runs[name], "settled_per_s") for name in ("two", "one"))
    result.lines.append(Line("settled by both", "messages/s", ours, None, "one engine, 32 connections", alone))
    return result


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
