"""The engine over years: what finding, starting and traffic cost beside ten million stored messages.

``years.py`` makes the data folder. On the way (empty, 1,000, 10,000, … messages) the processor time of commits and the
time of two searches is taken: the chart. Beside all of them each search is timed cold (the file dropped from the page
cache, a fresh store) and warm, in milliseconds of ``Store.find``; then two engines run on the main path of ``make
bench`` in turns, one on this folder and one on an empty one, so that a busy machine is as busy for both.

    python -m benchmarks.ten_million                              # make bench-large: 20 GB in the temporary folder
    python -m benchmarks.ten_million --messages 1000000 --json FILE    # leaves the documents alone
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import machine, stored, years
from benchmarks.costs import cost
from benchmarks.finding import Finding, Line, at_least
from benchmarks.measure import Bench, column, finding, under_load
from benchmarks.processes import STORE_KEY, Engine, Sink, build
from benchmarks.rows.main_path import PORTS, SITE
from engine.store import SqliteStore, database
from engine.store.base import Find

KEY = base64.b64decode(STORE_KEY)


async def filled(folder: Path, total: int) -> list[dict[str, float]]:
    """Make the data folder; what costs were on the way."""
    tenth, costs = total // 10, []
    points = [0, *(10**power for power in range(3, 9) if 10**power < tenth), tenth]
    async for point in years.fill(folder, KEY, points):
        with tempfile.TemporaryDirectory(dir=folder.parent) as aside:  # what is measured is not to stay in the years
            copy = shutil.copytree(folder, Path(aside) / "data")
            os.sync()  # the disk is not to be busy with what was copied
            costs.append(await cost_at(copy, point))
    years.multiply(folder, tenth)
    os.sync()
    return costs


async def cost_at(folder: Path, count: int) -> dict[str, float]:
    """Of commits, and of two searches, in a store that holds ``count`` messages."""
    store = SqliteStore(folder, KEY)
    await store.open()
    middle = store.find(Find(state="routed", before_id=count))[:1]
    control_id = middle[0].control_id if middle else "C-none"
    searches = {"control_id_ms": Find(control_id=control_id), "patient_ms": Find(patient=years.FIRST_PATIENT)}
    found = await cost(store, count, searches)
    await store.close()
    return found


def forget(folder: Path) -> None:
    """Drop the database from the page cache."""
    file = os.open(folder / database.DATABASE_FILE, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


async def find(folder: Path, total: int) -> list[dict[str, Any]]:
    """Time each search, cold and warm."""
    probe = SqliteStore(folder, KEY)
    await probe.open()
    middle = next(row for row in probe.find(Find(state="routed", before_id=total)))
    await probe.close()
    told = []
    for name, wanted in years.searches(middle.control_id, middle.correlation_id).items():
        forget(folder)
        store = SqliteStore(folder, KEY)
        await store.open()
        took = []
        for _ in range(6):
            began = time.perf_counter()
            rows = store.find(wanted)
            took.append((time.perf_counter() - began) * 1000)
        await store.close()
        told.append({"name": name, "found": len(rows), "cold_ms": took[0], "warm_ms": statistics.median(took[1:])})
        print(f"  {name:<28} {len(rows):>6} {took[0]:>9.1f} ms cold {told[-1]['warm_ms']:>9.1f} ms warm", flush=True)
    return told


async def opened(folder: Path) -> float:
    """Milliseconds of ``Store.open``, cold."""
    forget(folder)
    store, began = SqliteStore(folder, KEY), time.perf_counter()
    await store.open()
    took = (time.perf_counter() - began) * 1000
    await store.close()
    return took


def traffic(large: Engine, empty: Engine, bench: Bench) -> dict[str, list[dict[str, Any]]]:
    """Turns of the main path with 32 connections: the engine with years behind it, and the one with none."""
    with ExitStack() as stack:
        sinks = {engine: stack.enter_context(Sink(engine.ports["BENCH_OUT_PORT"])) for engine in (large, empty)}
        for engine in (large, empty):
            stack.enter_context(engine.start())

        def turn(engine: Engine) -> dict[str, Any]:
            port = engine.ports["BENCH_IN_PORT"]
            return under_load(engine, "bench", port, 32, bench.seconds(8.0), sinks[engine])

        return bench.rounds(large=lambda: turn(large), empty=lambda: turn(empty))


def told(runs: dict[str, list[dict[str, Any]]], total: int, size: int, opens: list[float]) -> Finding:
    """The figures."""
    result = finding(runs, "large", "accepted_per_s", "p50_ms", "p99_ms")
    beside = "the same with an empty store"
    for name, unit, figure, aim in (
        ("settled_per_s", "messages/s", "main path, 32 connections, settled", at_least(0.9)),
        ("cpu_us", "µs", "engine's processor for each message", None),
    ):
        ours, theirs = (column(runs[which], name) for which in ("large", "empty"))
        result.lines.append(Line(figure, unit, ours, None, beside, theirs, aim))
    result.lines.append(Line("`Store.open`, cold", "ms", opens))
    result.lines.append(Line("disk", "bytes a message", [size / total]))
    return result


def measured(total: int, bench: Bench) -> dict[str, Any]:
    """Fill, then measure; what was made is removed."""
    with bench.scratch() as one, bench.scratch() as other:
        large, empty = Engine(one, SITE, PORTS), Engine(other, SITE, PORTS)
        print(f"filling {total:,} messages", flush=True)
        costs = asyncio.run(filled(large.data, total))
        size = (large.data / database.DATABASE_FILE).stat().st_size
        opens = [asyncio.run(opened(large.data)) for _ in range(3)]
        searches = asyncio.run(find(large.data, total))
        result = told(traffic(large, empty, bench), total, size, opens)
        costs.append(asyncio.run(cost_at(large.data, total)))
    row = {"row": "ten-million", "title": f"{total:,} messages stored", **result.as_json()}
    return {"messages": total, "disk_gb": round(size / 1e9, 1), "rows": [row], "searches": searches, "costs": costs}


def main() -> None:
    """Measure, print, and write."""
    arguments = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    arguments.add_argument("--messages", type=int, default=10_000_000)
    arguments.add_argument("--folder", type=Path, default=machine.scratch_parent())
    arguments.add_argument("--turns", type=int, default=8)
    arguments.add_argument("--seconds", type=float, help="of each turn")
    arguments.add_argument("--json", type=Path, help="write there, and leave the documents alone")
    given = arguments.parse_args()
    build()
    with tempfile.TemporaryDirectory(prefix="hl7engine-years-", dir=given.folder) as folder:
        result = {
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **machine.commit(),
            "machine": machine.facts(Path(folder)),
            **measured(given.messages, Bench(Path(folder), given.turns, given.seconds)),
        }
    (given.json or stored.LATEST).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(stored.section(result))
    if given.json is None:
        stored.write(result)


if __name__ == "__main__":
    main()
