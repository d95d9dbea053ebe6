"""An engine, or a reference, under load: what a row does again and again."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.finding import Finding, medians
from benchmarks.processes import Engine, Load, Reference, Sink, load, processor, until

#: What explains a rate; each run has them.
FACTS = ("durability", "messages_per_fsync", "fsyncs_per_s", "fsync_ms", "cpu", "cpu_us", "backlog", "memory_mb")
#: How often in a run the backlog is looked at, the end included.
LOOKS = 4
#: Seconds between two scrapes of the metrics under load; a Prometheus usually waits fifteen.
SCRAPES = 1.0


@dataclass
class Bench:
    """How long and how often, where, and what the rows before found."""

    folder: Path
    repeats: int = 3
    #: Seconds of every run; None: what the row thinks right.
    given: float | None = None
    #: Part of the numbers of messages that are to wait.
    scale: float = 1.0
    found: dict[str, Finding] = field(default_factory=dict)

    def seconds(self, default: float) -> float:
        """Of one run."""
        return self.given or default

    def some(self, number: int) -> int:
        """So many messages, or the part of them that was asked for."""
        return max(100, int(number * self.scale))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of its own, gone with the block."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def rounds(self, **actions: Callable[[], dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Each action once in a round, in turns the other way round: a machine that drifts drifts for both."""
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in actions}
        for number in range(self.repeats):
            for name in sorted(actions, key=list(actions).index, reverse=bool(number % 2)):
                runs[name].append({"what": name, **actions[name]()})
        return runs


def finding(runs: dict[str, list[dict[str, Any]]], ours: str = "engine", *more: str) -> Finding:
    """What rounds found, with the facts of the engine's runs; the lines are the row's."""
    names = [name for name in (*FACTS, *more) if all(name in run for run in runs[ours])]
    return Finding(
        facts=medians(runs[ours], *names), runs=[run for each in zip(*runs.values(), strict=True) for run in each]
    )


def column(runs: list[dict[str, Any]], name: str) -> list[float]:
    """One number of each run."""
    return [float(run[name]) for run in runs]


class Watch:
    """What an engine and its partner use from now on."""

    def __init__(self, engine: Engine, sink: Sink | None) -> None:
        self.engine, self.sink = engine, sink
        self.begun, self.before = time.monotonic(), self.look()

    def look(self) -> tuple[int, float, float, float, float]:
        """fsyncs and their seconds; processor of the engine, of the process that writes for it, and of the partner."""
        partner = processor(self.sink.pid) if self.sink is not None else 0.0
        return (*self.engine.syncs(), *self.engine.processor(), partner)

    def told(self, result: dict[str, Any]) -> dict[str, Any]:
        """What one run of the load generator found, and what it took; processor in shares of a core.

        RuntimeError when nothing was written to the disk: no figure of such a run is one of a durable engine.
        """
        took = time.monotonic() - self.begun
        found = (now - then for now, then in zip(self.look(), self.before, strict=True))
        calls, spent, used, writing, partner = found
        if not calls:
            raise RuntimeError("nothing was written to the disk: no fsync was counted")
        cpu = {"engine": used / took, "writing": writing / took, "load generator": result["cpu_s"] / took}
        return {
            **{name: result[name] for name in ("p50_ms", "p99_ms", "answered")},
            "seconds": took,
            "durability": self.engine.durability,
            "fsyncs": calls,
            "fsyncs_per_s": calls / took,
            "messages_per_fsync": result["answered"] / calls,
            "fsync_ms": spent / calls * 1000,
            "cpu": cpu | ({"sink": partner / took} if self.sink is not None else {}),
            "cpu_us": (used + writing) / result["answered"] * 1e6,
            "memory_mb": self.engine.memory(),
        }


def under_load(
    engine: Engine,
    channel: str,
    port: int,
    connections: int,
    seconds: float,
    sink: Sink | None = None,
    stays: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Load for so long, after a short one that is not counted; ``stays`` unfinished messages are there before.

    ``settled_per_s`` is what every destination has had settled by the end of the load; ``accepted_per_s``, ``p50_ms``
    and ``p99_ms`` are the sender's view; ``backlog`` is what was unfinished after each quarter of the time. The metrics
    are scraped meanwhile.
    """
    load(port, connections, seconds=min(1.0, seconds / LOOKS), **options)
    until(lambda: waiting(engine, channel) <= stays, patience=60)
    before, watch = delivered(engine.channel(channel)), Watch(engine, sink)
    backlog = []
    with scraped(engine), Load(port, connections, seconds=seconds, **options) as under_way:
        for quarter in range(1, LOOKS):
            time.sleep(max(0.0, watch.begun + quarter * seconds / LOOKS - time.monotonic()))
            backlog.append(waiting(engine, channel) - stays)
        result = under_way.result()
    status = engine.channel(channel)
    run = watch.told(result)
    return run | {
        "settled_per_s": (delivered(status) - before) / run["seconds"],
        "accepted_per_s": result["per_s"],
        "backlog": [*backlog, unfinished(status) - stays],
    }


@contextmanager
def scraped(engine: Engine) -> Iterator[None]:
    """A monitor reads the metrics of an engine. RuntimeError when it could not."""
    over, failed = threading.Event(), list[Exception]()

    def scrape() -> None:
        while not failed and not over.wait(SCRAPES):
            try:
                engine.text("/metrics")
            except Exception as error:  # noqa: BLE001  # told by who waits for the end
                failed.append(error)

    monitor = threading.Thread(target=scrape, name="monitor")
    monitor.start()
    try:
        yield
    finally:
        over.set()
        monitor.join()
    if failed:
        raise RuntimeError("the metrics were not to be had") from failed[0]


def delivered(status: dict[str, Any]) -> int:
    """Settled since the start at every destination that takes anything."""
    taken = [one["delivered_since_start"] for one in status["destinations"] if one["delivered_since_start"]]
    return min(taken, default=0)


def waiting(engine: Engine, channel: str) -> int:
    """Messages and deliveries that are not finished."""
    return unfinished(engine.channel(channel))


def unfinished(status: dict[str, Any]) -> int:
    """The same, of a status."""
    return int(status["received"]) + sum(one["queued"] + one["sending"] for one in status["destinations"])


def reference(name: str, connections: int, seconds: float, **options: Any) -> dict[str, Any]:
    """A server of ``references/`` under the same load."""
    with Reference(name) as server:
        load(server.port, connections, seconds=min(0.5, seconds / 4), **options)
        cpu, begun = processor(server.pid), time.monotonic()
        result = load(server.port, connections, seconds=seconds, **options)
        took = time.monotonic() - begun
        used = {name: (processor(server.pid) - cpu) / took, "load generator": result["cpu_s"] / took}
    return {**{key: result[key] for key in ("per_s", "p50_ms", "p99_ms", "answered")}, "seconds": took, "cpu": used}


def median_of(bench: Bench, row: str, figure: str) -> float | None:
    """What a row of this run found; None when it did not run."""
    for line in bench.found.get(row, Finding()).lines:
        if line.figure == figure:
            return float(statistics.median(line.samples))
    return None
