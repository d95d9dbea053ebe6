"""What nothing here can exceed: the disk, the interpreter, and the programs that make the load."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.finding import Finding, Line, at_least
from benchmarks.measure import Bench, column, finding, median_of, reference
from benchmarks.processes import Sink, free_port, load, processor
from benchmarks.references.append import append
from benchmarks.rows import main_path

BATCHES = (1, 16, 64, 256)


def files(bench: Bench) -> Finding:
    """A file that gets the same bytes, one fdatasync for a batch."""

    def run(batch: int) -> dict[str, Any]:
        with bench.scratch() as folder:
            return append(folder, batch, bench.seconds(0.5))

    runs = bench.rounds(**{f"batch {batch}": partial(run, batch) for batch in BATCHES})
    result = finding(runs, "batch 1")
    for name, each in runs.items():
        result.lines.append(Line(f"file append and fdatasync, {name}", "messages/s", column(each, "per_s")))
    return result


def interpreter(bench: Bench) -> Finding:
    """A bare asyncio Protocol with a constant ack."""
    seconds = bench.seconds(1.0)
    runs = bench.rounds(**{str(number): partial(reference, "bare", number, seconds) for number in (1, 8, 32)})
    result = finding(runs, "1")
    for name, each in runs.items():
        figure = f"asyncio Protocol on uvloop, constant ack, {name} connections".replace(
            " 1 connections", " 1 connection"
        )
        result.lines.append(Line(figure, "messages/s", column(each, "per_s")))
    return result


def generator(bench: Bench) -> Finding:
    """Load generator against sink with nothing between: it must be able to do five times what the engine does."""
    engine = median_of(bench, "main-32", "settled")
    if engine is None:
        engine = float(main_path.measured(bench, 32, bench.seconds(5.0))["settled_per_s"])
    slots = median_of(bench, "slots-8", "exchanges")
    actions = {"mllp": partial(direct, bench, 32, False), "http": partial(direct, bench, 8, True)}
    runs = bench.rounds(**actions)
    result = finding(runs, "mllp", "cpu")
    result.facts["cpu"] = {name: runs["mllp"][0]["cpu"][name] for name in runs["mllp"][0]["cpu"]}
    told = "the engine's main path at 32 connections"
    result.lines = [
        Line("MLLP, 32 connections", "messages/s", column(runs["mllp"], "per_s"), None, told, [engine], at_least(5.0)),
        Line(
            "HTTP, 8 connections",
            "requests/s",
            column(runs["http"], "per_s"),
            None,
            "the engine's slots at 8 connections" if slots else "",
            [slots] if slots else [],
            at_least(5.0) if slots else None,
        ),
    ]
    return result


def direct(bench: Bench, connections: int, http: bool) -> dict[str, Any]:
    """One run of the generator against the sink."""
    mode = {"mode": "http"} if http else {}
    with Sink(free_port(), **mode) as sink:
        cpu = processor(sink.pid)
        result = load(sink.port, connections, seconds=bench.seconds(2.0), **mode)
        used = {"load generator": result["cpu_s"] / result["seconds"]}
        used["sink"] = (processor(sink.pid) - cpu) / result["seconds"]
    return {**{key: result[key] for key in ("per_s", "p50_ms", "p99_ms", "answered")}, "cpu": used}
