"""Memory over many messages: what each thousand adds once the caches are full."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.soak.rig import Load, Rig, until, watching


def run(folder: Path, warm_up: int, minutes: float, rate: int) -> dict[str, Any]:
    """``rate`` messages a second for so many minutes, after ``warm_up`` messages at full speed."""
    rig = Rig(folder / "flat")
    try:
        live = rig.sink("live")
        rig.sink("other")
        rig.start()
        start = rig.memory()
        Load(rig, "siu", connections=32, messages=warm_up).result()
        until(lambda: live.counts()["frames"] == warm_up)
        time.sleep(5)
        files = rig.files()
        with watching(rig, 1.0) as samples:
            done = Load(rig, "siu", connections=8, seconds=minutes * 60, rate=rate).result()
        after = [(seconds * done["per_s"] / 1000, mib * 1024) for seconds, mib in samples[5:]]
        slope = statistics.linear_regression(*zip(*after, strict=True)).slope
        tenth = max(1, len(after) // 10)
        return {
            "messages": done["answered"],
            "per_s": done["per_s"],
            "p50_ms": done["p50_ms"],
            "p99_ms": done["p99_ms"],
            "memory_at_start": start,
            "memory_first_tenth": statistics.median(kib for _, kib in after[:tenth]) / 1024,
            "memory_last_tenth": statistics.median(kib for _, kib in after[-tenth:]) / 1024,
            "memory_most": max(kib for _, kib in after) / 1024,
            "kib_per_1000_messages": slope,
            "files_before": files,
            "files_after": rig.files(),
        }
    finally:
        rig.end()
