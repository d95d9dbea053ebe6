"""SIGTERM with a long queue and under load: how long the end takes, and an account of everything acknowledged."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.soak.rig import Load, Rig, until


def run(folder: Path, queued: int, times: int, deadline: float = 20.0) -> dict[str, Any]:
    """Stop it so many times under load with so many queued for a partner that is away; then that one comes back."""
    rig = Rig(folder / "stop")
    acked = [folder / f"acked-{number}" for number in range(times + 1)]
    ids = {name: folder / f"ids-{name}" for name in ("live", "other")}
    try:
        rig.sink("live", ids=ids["live"])
        rig.start()
        Load(rig, "adt", connections=50, messages=queued, patients="connection", acked=acked[0]).result()
        until(lambda: rig.destination("other")["queued"] >= queued)
        took = []
        for number in range(times):
            load = Load(rig, "siu", connections=32, window=4, messages=10**7, acked=acked[number + 1])
            time.sleep(3)
            took.append(rig.stop())
            load.result()
            rig.start()
        rig.sink("other", ids=ids["other"])
        until(lambda: rig.waiting() == 0)
        rig.stop()
        for sink in rig.sinks.values():
            sink.stop()
        rig.sinks.clear()
        came = Counter(line for path in ids.values() for line in path.read_text().splitlines())
        told = [line for path in acked for line in path.read_text().splitlines()]
        twice, marks = {name for name, number in came.items() if number > 1}, marked(rig)
        result = {
            "queued": queued,
            "stops": times,
            "seconds": took,
            "acknowledged": len(told),
            "lost": len(set(told) - came.keys()),
            "twice": len(twice),
            "twice_without_mark": len(twice - marks),
        }
        if result["lost"] or result["twice_without_mark"] or max(took) > deadline:
            raise RuntimeError(str(result))
        return result
    finally:
        rig.end()


def marked(rig: Rig) -> set[str]:
    """Control ids of what is marked as possibly duplicated; the engine must not run."""
    with closing(sqlite3.connect(rig.folder / "data" / "engine.db")) as connection:
        return {name for (name,) in connection.execute("SELECT control_id FROM delivery WHERE may_be_duplicated")}
